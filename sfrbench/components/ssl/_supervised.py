"""The two losses that the loop takes of a method's outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sfrbench.components.base import Ssl
from sfrbench.maths.losses import DiceForm, over_levels, segmentation_loss


def dice_form(ssl: Ssl) -> DiceForm:
    """The Dice of the method's L_sup."""
    return DiceForm(
        foreground=ssl.sup_dice == "foreground",
        square=ssl.sup_dice_square,
        eps=ssl.sup_dice_eps,
        per_sample=ssl.sup_dice_per == "sample",
    )


def supervised_loss(
    ssl: Ssl, logits: torch.Tensor, labels: torch.Tensor, coarser: Sequence[torch.Tensor] = ()
) -> torch.Tensor:
    """L_sup of one output: ``logits`` (B, K, ...) of labelled patches, ``labels`` (B, ...) int64; over the
    ``coarser`` levels, too, where the network has deep supervision."""
    form = dice_form(ssl)
    return over_levels(
        lambda one, target: segmentation_loss(
            one, target, ssl.sup_ce, form=form, dice_weight=ssl.dice_weight
        ),
        [logits, *coarser],
        labels,
    )


def pseudo_label_loss(
    ssl: Ssl, logits: torch.Tensor, target: torch.Tensor, coarser: Sequence[torch.Tensor] = ()
) -> torch.Tensor:
    """L_pl of one output (SFR eq. 7): Dice over all classes, whatever L_sup has. ``target``: hard or soft.
    It is taken on ``coarser`` levels as L_sup is: pseudo-labels stand for labels."""
    return over_levels(
        lambda one, labels: segmentation_loss(one, labels, ssl.pl_ce), [logits, *coarser], target
    )
