"""The two losses that the loop takes of a method's outputs."""

from __future__ import annotations

import torch

from sfrbench.components.base import Ssl
from sfrbench.maths.losses import DiceForm, segmentation_loss


def dice_form(ssl: Ssl) -> DiceForm:
    """The Dice of the method's L_sup."""
    return DiceForm(
        foreground=ssl.sup_dice == "foreground",
        square=ssl.sup_dice_square,
        eps=ssl.sup_dice_eps,
        per_sample=ssl.sup_dice_per == "sample",
    )


def supervised_loss(ssl: Ssl, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """L_sup of one output: ``logits`` (B, K, ...) of labelled patches, ``labels`` (B, ...) int64."""
    return segmentation_loss(logits, labels, ssl.sup_ce, form=dice_form(ssl), dice_weight=ssl.dice_weight)


def pseudo_label_loss(ssl: Ssl, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L_pl of one output (SFR eq. 7): Dice over all classes, whatever L_sup has. ``target``: hard or soft."""
    return segmentation_loss(logits, target, ssl.pl_ce)
