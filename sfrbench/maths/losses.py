"""Segmentation losses and the two schedules that semi-supervised methods share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from sfrbench.maths.labels import IGNORE

EPS = 1e-5


class DiceForm(NamedTuple):
    """What tells the Dice losses of the sources apart; by default that of SAMed and SSL4MIS."""

    foreground: bool = False  # the mean is over the foreground classes, or over all
    square: bool = True  # sizes are sums of squares, or plain sums
    eps: float = EPS
    per_sample: bool = False  # sums run over the space of each sample, and the mean over samples too


ALL_CLASSES = DiceForm()


def segmentation_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    ce_weight: float = 0.5,
    mask_ignore: bool = True,
    form: DiceForm = ALL_CLASSES,
    dice_weight: float | None = None,
) -> torch.Tensor:
    """``ce_weight`` times cross-entropy plus ``dice_weight``, or the rest, times Dice (SFR eq. 5 at 0.5, the
    rest; nnU-Net 1 and 1); a scalar.

    ``logits`` (B, K, ...) float. ``target`` (B, ...) int64 with values in [0, K) or 255 (not looked at), or
    (B, K, ...) float probabilities. ``mask_ignore`` and ``form``: see ``dice``.
    """
    log_probs = functional.log_softmax(logits, 1)
    ce = _mean_nll(log_probs, target)
    overlap = dice(log_probs.exp(), target, form, mask_ignore)
    return ce_weight * ce + (1 - ce_weight if dice_weight is None else dice_weight) * overlap


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels whose label is not 255; 0 where all are 255 (``torch`` returns nan there).

    ``logits`` (B, K, ...), ``target`` (B, ...) int64 or (B, K, ...) float probabilities.
    """
    return _mean_nll(functional.log_softmax(logits, 1), target)


def _mean_nll(log_probs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if target.dtype.is_floating_point:
        return -(target * log_probs).sum(1).mean()
    total = functional.nll_loss(log_probs, target, ignore_index=IGNORE, reduction="sum")
    return total / (target != IGNORE).sum().clamp(min=1)


def dice(
    probs: torch.Tensor,
    target: torch.Tensor,
    form: DiceForm = ALL_CLASSES,
    mask_ignore: bool = True,
) -> torch.Tensor:
    """The mean over classes of 1 - (2 sum p y + eps) / (sum p^2 + sum y^2 + eps), a scalar in [0, 1].

    Sums run over batch and space together, or over the space of each sample (nnU-Net), whose mean is taken
    as well. Of all K classes (SFR, SAMed, SSL4MIS) or of the K - 1 of the foreground (UA-MT, DTC, nnU-Net),
    with squares below the line or without (SS-Net, nnU-Net), and with the eps that ``form`` says (SFR's code
    has 1e-10). nnU-Net's own is this less 1. ``probs`` (B, K, ...); ``target`` as in ``segmentation_loss``.
    With ``mask_ignore`` pixels labelled 255 count nowhere; without, their p^2 counts, as in the authors'
    code.
    """
    if target.dtype.is_floating_point:
        truth = target
    else:
        shape = (1, -1, *(1,) * (target.ndim - 1))
        classes = torch.arange(probs.shape[1], device=target.device).view(shape)
        truth = (target.unsqueeze(1) == classes).to(probs.dtype)
        if mask_ignore:
            probs = probs * (target != IGNORE).unsqueeze(1)
    axes = [axis for axis in range(probs.ndim) if axis > 1 or (axis == 0 and not form.per_sample)]
    both = (probs * truth).sum(axes)
    if form.square:
        probs, truth = probs.square(), truth.square()
    sizes = probs.sum(axes) + truth.sum(axes)
    losses = 1 - (2 * both + form.eps) / (sizes + form.eps)
    return losses[..., 1 if form.foreground else 0 :].mean()


def level_weights(levels: int) -> list[float]:
    """Of the losses of deep supervision, finest first: 1, 1/2, 1/4, ..., the last 0, divided by their sum.

    As in nnU-Net (``nnUNetTrainer._build_loss``). A single level has all the weight.
    """
    if levels == 1:
        return [1.0]
    weights = [2.0**-level for level in range(levels - 1)]
    return [*(weight / sum(weights) for weight in weights), 0.0]


def shrunk(target: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Labels in the size of a coarser level.

    Hard ones (B, ...) by the nearest voxel, of two the later (nnU-Net: 'nearest-exact'); soft ones
    (B, K, ...) by their mean over each block, so that they sum to 1 (ours).
    """
    if target.dtype.is_floating_point:
        x, y, z = sides
        return functional.adaptive_avg_pool3d(target, (x, y, z))
    for axis, side in enumerate(sides, start=1):
        whole = target.shape[axis]
        places = (2 * torch.arange(side, device=target.device) + 1) * whole // (2 * side)
        target = target.index_select(axis, places)
    return target


def over_levels(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    levels: Sequence[torch.Tensor],
    target: torch.Tensor,
) -> torch.Tensor:
    """The mean of ``loss(logits, target)`` over logits (B, K, ...) of all ``levels``, finest first, by
    ``level_weights``, the target brought to the size of each. One level alone is ``loss`` itself."""
    finest, *coarser = levels
    weights = level_weights(len(levels))
    total = loss(finest, target)
    if not coarser:
        return total
    total = weights[0] * total
    for weight, logits in zip(weights[1:], coarser, strict=True):
        if weight:
            total = total + weight * loss(logits, shrunk(target, logits.shape[2:]))
    return total


def ramp(iteration: int, length: float, unit: int) -> float:
    """exp(-5 (1 - min(e, R) / R)^2) with e = iteration // unit and R = ``length``: from e^-5 up to 1."""
    if length <= 0:
        return 1.0
    done = min(iteration // unit, length) / length
    return math.exp(-5.0 * (1.0 - done) ** 2)


def ema_alpha(iteration: int, ema: float) -> float:
    """Share of the old teacher kept after iteration ``iteration``: min(1 - 1/(t+1), ema)."""
    return min(1.0 - 1.0 / (iteration + 1), ema)
