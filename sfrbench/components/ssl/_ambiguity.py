"""Which voxels ACMT compares: entropies, disagreement with prototypes, and confident learning."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from sfrbench.components.backbone.interface import SegmentationNetwork
from sfrbench.components.ssl._prototypes import prototypes, wide
from sfrbench.maths.labels import highest


def entropy(probs: torch.Tensor) -> torch.Tensor:
    """(B, K, ...) probabilities to (B, ...): -sum p ln(p + 1e-6) / ln K, 0 to about 1."""
    return -(probs * (probs + 1e-6).log()).sum(1) / math.log(probs.shape[1])


def mean_probabilities(
    network: nn.Module,
    images: torch.Tensor,
    passes: int,
    noisy: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Mean softmax (B, K, ...) of ``passes`` passes with dropout and noise, two at a time as in the sources.

    ``passes`` is even. Normalisation layers see twice the batch.
    """
    twice = images.repeat(2, *(1,) * (images.ndim - 1))
    total = sum(network(noisy(twice)).softmax(1) for _ in range(passes // 2))
    assert isinstance(total, torch.Tensor)
    first, second = total.chunk(2)
    return (first + second) / passes


def prototype_labels(
    teacher: SegmentationNetwork, images: torch.Tensor, passes: int, certain: float
) -> torch.Tensor:
    """The class whose prototype lies nearest in the teacher's features, (B, X, Y, Z) int64.

    One pass gives probabilities, ``passes`` more give mean features and the standard deviation of
    sigmoid(logits / 2). Where that is ``certain`` or more a probability counts as 0 and the argmax of what is
    left is the mask of a class (so that a voxel uncertain in every class is background, as in the source).
    Prototypes are means of the features over these masks, weighted by the probability; the distance is
    Euclidean. A class without voxels in a case takes no part there (ours; the source puts it at the origin).
    """
    probs = teacher(images).softmax(1)
    spread, mean = [], torch.zeros(())
    for _ in range(passes):
        features = teacher.features(images)
        spread.append((teacher.head(teacher.drop(features)) / 2).sigmoid())
        mean = mean.to(features.device) + wide(features) / passes
    sure = (torch.stack(spread).std(0) < certain) * probs
    centres, found = prototypes(mean, highest(sure), probs)
    distances = [
        (mean - centres[:, k].reshape(*mean.shape[:2], 1, 1, 1)).square().sum(1)
        + torch.where(found[:, k], 0.0, math.inf).reshape(-1, 1, 1, 1)
        for k in range(centres.shape[1])
    ]
    return torch.stack(distances, 1).min(1).indices


def label_errors(labels: torch.Tensor, probs: torch.Tensor) -> torch.Tensor | None:
    """Which of the labels (N,) int64 are probably wrong by ``probs`` (N, K): a mask (N,) bool.

    Confident learning (Northcutt et al., 2021), written from the paper, after the option "both" of the
    package cleanlab that the source calls: pruned by class and by noise rate. A sample is confidently of
    class j where p_j is at least the mean p_j of the samples labelled j, and of several such j of that with
    the largest p_j. Counts of (label i, confident class j), the diagonal at least 1, are scaled to the
    numbers of labels and rounded. An error is, of label i, among the n_i - C_ii of lowest p_i, and for some
    j among the C_ij of largest p_j - p_i, and not labelled with its argmax; equal values at the limit: none
    by class, all by noise rate, as there. None: fewer than two labels occur.
    """
    classes = probs.shape[1]
    counts = torch.bincount(labels, minlength=classes)
    if int((counts > 0).sum()) < 2:
        return None
    probs = probs.double()  # means and margins over millions of voxels
    means = torch.stack([probs[labels == k, k].mean() for k in range(classes)])
    thresholds = means.nan_to_num(nan=math.inf)  # of a label that does not occur
    confident = probs >= thresholds - 1e-6
    best = highest(torch.where(confident, probs, -1.0))
    sure = confident.any(1)
    pairs = torch.bincount(labels[sure] * classes + best[sure], minlength=classes**2)
    joint = pairs.reshape(classes, classes).double()
    joint.diagonal().clamp_(min=1)
    joint = (joint / joint.sum(1, keepdim=True) * counts[:, None]).round().long()
    joint.diagonal().clamp_(min=1)
    wrong = torch.zeros_like(labels, dtype=torch.bool)
    for label in torch.nonzero(counts > 1)[:, 0].tolist():
        here = torch.nonzero(labels == label)[:, 0]
        wrong[here] = _pruned(probs[here], label, joint[label].tolist())
    return wrong & (highest(probs) != labels)


def _pruned(probs: torch.Tensor, label: int, counts: list[int]) -> torch.Tensor:
    """The mask over the samples of one label; ``counts``: its row of the joint."""
    own = probs[:, label]
    few = len(own) - counts[label]
    by_rate = torch.zeros_like(own, dtype=torch.bool)
    if few < 1:
        return by_rate
    by_class = own < own.kthvalue(few + 1).values
    for other, count in enumerate(counts):
        if other != label and count > 0:
            margin = probs[:, other] - own
            by_rate |= margin >= margin.kthvalue(len(own) - min(count, len(own)) + 1).values
    return by_class & by_rate
