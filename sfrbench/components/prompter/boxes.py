"""A box around the object, or one on each of its slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sfrbench.components.base_prompts import Box, Form, Prompter, Said, Scene

if TYPE_CHECKING:
    from sfrbench.components.base_prompts import Mask
    from sfrbench.components.prompter._boxes import Noise


class Boxes(Prompter):
    """Boxes, once; a subclass says which. Tight around the object where ``jitter`` is none."""

    jitter: Literal["none", "sam2", "medsam"] = Field(
        "none",
        description="ends of a box moved at random, within the volume: 'sam2' in or out by up to "
        "min(share of the side, largest), then rounded (ours); 'medsam' out by 0 to largest",
    )
    share: float = Field(0.1, ge=0, le=0.5, description="jitter 'sam2': largest part of a side (SAM 2: 0.1)")
    largest: int = Field(
        20, ge=0, le=1000, description="largest jitter, in voxels (SAM 2 and MedSAM: 20 pixels of 1024)"
    )
    source: Literal["truth", "prediction"] = Field(
        "truth",
        description="what the boxes are around: the object, or what the cell's own segmenter takes for it",
    )
    part: Literal["whole", "largest"] = Field(
        "whole", description="all of it, or its largest 26-connected part alone (ours)"
    )

    @property
    def random(self) -> bool:
        return self.jitter != "none"

    @property
    def from_guess(self) -> bool:
        return self.source == "prediction"

    def around(self, mask: Mask) -> list[Box]:
        """The tight boxes of a mask (X, Y, Z) that is not empty."""
        raise NotImplementedError

    @property
    def moving(self) -> tuple[int, ...]:
        """The axes along which a box is jittered."""
        raise NotImplementedError

    def say(self, scene: Scene) -> Said:
        if scene.said or not scene.truth.any():
            return Said()
        from sfrbench.components.prompter._boxes import jittered
        from sfrbench.maths.components import largest_component

        mask = largest_component(scene.truth) if self.part == "largest" else scene.truth
        boxes, noise, (x, y, z) = self.around(mask), self._noise(scene), mask.shape
        if noise is not None:
            boxes = [jittered(box, (x, y, z), noise, self.moving) for box in boxes]
        return Said(boxes=tuple(boxes))

    def _noise(self, scene: Scene) -> Noise | None:
        from sfrbench.components.prompter import _boxes

        if self.jitter == "none":
            return None
        if self.jitter == "sam2":
            return _boxes.both_ways(scene.rng, self.share, self.largest)
        return _boxes.outward(scene.rng, self.largest)


class VolumeBox(Boxes):
    """One box around the whole object."""

    @property
    def forms(self) -> frozenset[Form]:
        return frozenset({"box"})

    @property
    def moving(self) -> tuple[int, ...]:
        return 0, 1, 2

    def around(self, mask: Mask) -> list[Box]:
        return [Box.around(mask)]


class SliceBoxes(Boxes):
    """A box on every slice that has the object: far more is said than by one box around all of it."""

    @property
    def forms(self) -> frozenset[Form]:
        return frozenset({"slice_box"})

    @property
    def moving(self) -> tuple[int, ...]:
        return 0, 1

    @property
    def shows(self) -> str:
        return (
            "" if self.from_guess else "Every slice with the object has a box, so slices without one lack it."
        )

    def around(self, mask: Mask) -> list[Box]:
        from sfrbench.components.prompter._boxes import slice_boxes

        return slice_boxes(mask)
