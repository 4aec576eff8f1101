"""A stitch: how the slices of a patch lie on square canvases, and how maps come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sfrbench.components.stitch.grid import GridStitch

if TYPE_CHECKING:
    import numpy as np
    import torch


class NewPart(GridStitch):
    """Slices 0, n, 2n ..., then 1, n + 1 ...: neighbours of the volume lie apart, at test time too (ours).

    ``GridStitch`` lays slices row by row and brings maps back, in any order. Where an order depends on rows
    and columns, ``TiledStitch`` and ``Geometry`` beside it say where each slice lies; a layout without a grid
    gives ``to_canvases``, ``from_canvases`` and ``training_canvas`` of ``Stitch`` itself.
    """

    #: Raise it when the behaviour changes: results are kept under it.
    # version: ClassVar[int] = 2

    step: int = Field(2, ge=2, le=16, description="n: slices between neighbours on the canvas")

    def test_order(self, count: int) -> torch.Tensor | None:
        """The order (count,) in which the slices of one canvas lie at test time."""
        import torch

        return torch.cat([torch.arange(first, count, self.step) for first in range(self.step)])

    def arrange(
        self, image: torch.Tensor, label: torch.Tensor, rng: np.random.Generator, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The slices of a training canvas, (C, X, Y, n) and (X, Y, n), in the same order."""
        order = self.test_order(image.shape[-1])
        return super().arrange(image[..., order], label[..., order], rng, progress)
