"""What a semi-supervised method sees of one training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import nn

Made = TypeVar("Made")


class NetworkMaker(Protocol):
    """Makes what a method needs beside the student; every draw comes from torch's global RNG."""

    @property
    def classes(self) -> int:
        """K, background included."""
        ...

    @property
    def student(self) -> nn.Module:
        """The student, to read its widths or to copy a part of it; it must not be changed."""
        ...

    @property
    def patch(self) -> tuple[int, int, int]:
        """Sides of the training patches, voxels."""
        ...

    def __call__(self, *, outputs: int | None = None, inputs: int = 1) -> nn.Module:
        """Another backbone of the same settings with ``outputs`` maps (default K) and ``inputs`` channels."""
        ...


@dataclass(frozen=True)
class Step:
    """One training step, after the student's forward pass and before the backward pass.

    Labelled patches come first everywhere. There is no way from here to labels of unlabelled cases. What the
    loop's own forward pass left out (see ``Ssl.plain``) has a batch size of 0 in ``logits_l``, ``logits_u``,
    ``maps``, ``scales``, ``features`` and ``coarser``. A method that needs more of a network than logits asks
    by ``in_parts`` for it.
    """

    student: nn.Module
    teacher: nn.Module | None  # EMA of the student, in training mode, without gradients
    networks: Mapping[str, nn.Module]  # what ``Ssl.networks`` returned
    images: torch.Tensor  # (B_l + B_u, 1, X, Y, Z) float32, augmented
    labels: torch.Tensor  # (B_l, X, Y, Z) int64
    logits_l: torch.Tensor  # (B_l, K, X, Y, Z) float32, the student's
    logits_u: torch.Tensor  # (B_u, K, X, Y, Z); B_u is 0 for a method without unlabelled patches
    #: SFR's pseudo-labels: (B_u, X, Y, Z) int64, or (B_u, K, X, Y, Z) float; 255, or NaN, all over a patch
    #: that nobody has labelled, since a round of SFR+ takes no loss on it.
    pseudo: torch.Tensor | None
    iteration: int  # 0-based
    steps: int  # of the whole training
    classes: int  # K, background included
    rng: torch.Generator  # on the device, seeded for this step; the source of all noise
    maps: tuple[torch.Tensor, ...] = ()  # the student's ``encode`` of the patches in ``logits``
    scales: tuple[torch.Tensor, ...] = ()  # its ``decode_scales`` of these, finest first, where it has that
    features: torch.Tensor | None = None  # and its ``decode`` of them, before dropout and head
    coarser: tuple[
        torch.Tensor, ...
    ] = ()  # its deep supervision of these: logits of coarser levels, finest first
    known: Mapping[str, torch.Tensor] = field(default_factory=dict)  # of the labels: see ``Ssl.known``
    values: dict[str, torch.Tensor | float] = field(default_factory=dict)  # a method's terms, for the history
    kept: dict[str, Any] = field(default_factory=dict)  # see ``once``

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """The result of ``make``, computed at the first call: for a forward pass that ``outputs`` and
        ``loss`` share."""
        if name not in self.kept:
            self.kept[name] = make()
        made: Made = self.kept[name]
        return made

    @property
    def host_rng(self) -> torch.Generator:
        """A generator of the host for draws that the host reads: reading those of a device waits for it.

        On the CPU it is ``rng`` itself, elsewhere another one with the same seed."""
        import torch

        if self.rng.device.type == "cpu":
            return self.rng
        return self.once("host_rng", lambda: torch.Generator().manual_seed(self.rng.initial_seed()))

    @property
    def images_l(self) -> torch.Tensor:
        """(B_l, 1, X, Y, Z)"""
        return self.images[: self.labels.shape[0]]

    @property
    def images_u(self) -> torch.Tensor:
        """(B_u, 1, X, Y, Z)"""
        return self.images[self.labels.shape[0] :]

    @property
    def logits(self) -> torch.Tensor:
        """(B_l + B_u, K, X, Y, Z)"""
        import torch

        return torch.cat([self.logits_l, self.logits_u])
