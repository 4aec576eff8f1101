"""SS-Net's parts: adversarial noise, and features drawn to class prototypes in a memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


def dice_distance(one: torch.Tensor, two: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """1 - (2 sum p q + eps) / (sum p + sum q + eps), over cases, classes and voxels together."""
    both, sizes = (one * two).sum(), one.sum() + two.sum()
    distance: torch.Tensor = (sizes - 2 * both) / (sizes + eps)
    return distance


def unit(direction: torch.Tensor) -> torch.Tensor:
    """Each case divided by its Euclidean norm plus 1e-8."""
    norms = direction.flatten(1).square().sum(1).sqrt() + 1e-8
    return direction / norms.reshape(-1, *(1,) * (direction.ndim - 1))


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm uses the batch's statistics as before, and leaves its running ones alone."""
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    tracking = [layer for layer in layers if layer.track_running_stats]
    for layer in tracking:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in tracking:
            layer.track_running_stats = True


def virtual_adversarial(
    student: nn.Module,
    images: torch.Tensor,
    probs: torch.Tensor,
    rng: torch.Generator,
    probe: float,
    radius: float,
) -> torch.Tensor:
    """``dice_distance`` of ``probs`` and the prediction where noise of length ``radius`` changes it most.

    One power step: from a random direction d (uniform in [-0.5, 0.5), of length 1 per case) to the gradient
    of the distance at ``images + probe * d``. ``probs`` (B, K, ...) carry no gradient.
    """
    with frozen_statistics(student):
        start = torch.rand(images.shape, generator=rng, device=images.device, dtype=images.dtype) - 0.5
        direction = unit(start).requires_grad_()
        moved = dice_distance(student(images + probe * direction).softmax(1), probs)
        (gradient,) = torch.autograd.grad(moved, direction)
        worst: torch.Tensor = student(images + radius * unit(gradient)).softmax(1)
    return dice_distance(worst, probs)


def _mlp(inside: int, middle: int, outside: int, slope: float = 0.0) -> nn.Sequential:
    layers = (nn.Linear(inside, middle), nn.BatchNorm1d(middle), nn.LeakyReLU(slope))
    return nn.Sequential(*layers, nn.Linear(middle, outside))


class Contrast(nn.Module):
    """Projection, prediction, a selector per foreground class, and the memory (buffers)."""

    memory: torch.Tensor  # (K - 1, size, width) projected features
    filled: torch.Tensor  # (K - 1,) int64, how many of them there are

    def __init__(self, channels: int, classes: int, width: int, size: int, highest: bool) -> None:
        super().__init__()
        self.highest = highest
        self.project = _mlp(channels, width, width)
        self.predict = _mlp(width, width, width)
        self.select = nn.ModuleList(_mlp(width, width, 1, 0.2) for _ in range(classes - 1))
        self.register_buffer("memory", torch.zeros(classes - 1, size, width))
        self.register_buffer("filled", torch.zeros(classes - 1, dtype=torch.long))

    @torch.no_grad()
    def remember(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Replaces the memory of each foreground class among ``labels`` (N,) by ``features`` (N, C) of it.

        Projected with running statistics. Of more than the memory holds, those that the selector scores
        lowest, or highest.
        """
        self.project.eval()
        projected = self.project(features)
        self.project.train()
        size = self.memory.shape[1]
        for index, select in enumerate(self.select):
            mine = projected[labels == index + 1]
            if len(mine) > size:
                order = select(mine)[:, 0].argsort(stable=True, descending=self.highest)
                mine = mine[order[:size]]
            if len(mine):
                self.memory[index, : len(mine)] = mine
                self.filled[index] = len(mine)

    def distance(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """1/K sum_c mean_{i, j} w_i (1 - cos(h_i, m_j)) over features (N, C) labelled c and memory of c.

        h = predict(project(f)); w is the sigmoid of the selector on h, divided by its mean. A class with
        fewer than two features or two prototypes adds 0, the background always.
        """
        predicted = self.predict(self.project(features))
        total: torch.Tensor = predicted.new_zeros(())
        for index, (select, filled) in enumerate(zip(self.select, self.filled.tolist(), strict=True)):
            mine = predicted[labels == index + 1]
            if filled < 2 or len(mine) < 2:
                continue
            known = functional.normalize(self.memory[index, :filled], dim=1)
            weights = select(mine.detach()).sigmoid()
            weights = weights / weights.mean()
            far = 1 - functional.normalize(mine, dim=1) @ known.mean(0)  # the mean over j, taken first
            total = total + (weights[:, 0] * far).mean()
        return total / (len(self.select) + 1)
