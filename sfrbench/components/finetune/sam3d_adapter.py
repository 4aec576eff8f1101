"""3DSAM-adapter: SAM's ViT made three-dimensional, with adapters and a 3D decoder, without prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from sfrbench.components.base import VIT, Component, Dataset, Finetune, Foundation, Stitch
from sfrbench.components.stitch.grid import TiledStitch
from sfrbench.errors import InputError

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Sam, Tuned
    from sfrbench.components.foundation.segmenter import SamSegmenter

#: What makes training canvases differ from the plain slices of a patch, or have other channels.
_VARIATIONS = ("channels", "test_order", "arrange", "finish", "training_canvas")


class Sam3dAdapter(Finetune):
    """All slices of a patch, one on each canvas, go through the encoder as one volume.

    The pretrained blocks attend in shifted windows of 8 x 8 x 8 tokens; slice and depth embeddings, relative
    positions along depth, an adapter before each block, the blocks' norms, necks after each quarter of the
    blocks and the decoder train. Sources: Gong et al. 2024 (3DSAM-adapter) and med-air/3DSAM-adapter, its
    prompt-free ``train_auto.py``; which of its two variants the paper's Table XIII has is not said.
    """

    version: ClassVar[int] = 3  # small maps are convolved in float32
    volumetric: ClassVar[bool] = True
    encoders: ClassVar[tuple[str, ...]] = (VIT,)

    ratio: float = Field(0.5, gt=0, le=1, description="width of an adapter, as a share of the block's")
    slices_per_token: int = Field(
        4,
        ge=1,
        le=16,
        description="slices that make one token of depth; 4 as with the source's crop of 128 voxels",
    )

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        faults = super().conflicts(cell)
        stitch = cell.get("stitch")
        reason = _no_plain_slices(stitch, cell) if isinstance(stitch, Stitch) else ""
        if reason:
            faults.append(f"{reason}; it needs every slice alone on a canvas: stitch upsampled or small_size")
        return faults

    def cost(self, sam: Sam, canvases: int) -> Tuned | None:
        from sfrbench.components.costs import tuned

        return tuned.volumetric(sam, canvases, self.slices_per_token, self.ratio)

    def attach(self, model: SamSegmenter) -> None:
        """Replace encoder and decoder. Raises ``InputError`` without segment-anything's ViT."""
        from sfrbench.components.finetune import _sam3d

        _sam3d.attach(model, slices=self.slices_per_token, ratio=self.ratio)


def _no_plain_slices(stitch: Stitch, cell: Mapping[str, Component]) -> str:
    """Why canvases of ``stitch`` are not the slices of a patch, one by one; empty: they are."""
    if not isinstance(stitch, TiledStitch):
        return "this stitch may put several slices on a canvas"
    dataset, foundation = cell.get("dataset"), cell.get("foundation")
    if isinstance(dataset, Dataset) and isinstance(foundation, Foundation):
        try:
            cells = stitch.geometry(dataset.patch[:2], foundation.canvas).cells
        except InputError:
            return ""  # the stitch itself says so
        if cells > 1:
            return f"this stitch has {cells} places for slices on a canvas"
    if any(getattr(type(stitch), name) is not getattr(TiledStitch, name) for name in _VARIATIONS):
        return "this stitch may reorder, vary or join slices"
    return ""
