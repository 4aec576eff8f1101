"""Stitching whose tiles start as natural images and become medical slices as training goes on (Fig. 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from sfrbench.components.stitch.grid import GridStitch

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sfrbench.components.stitch._natural import Grey


class NaturalMixStitch(GridStitch):
    """A grid of which a falling share of tiles shows natural images, with label 255: the loss skips them.

    At progress t / T in [0, 1) ceil(n * min(1, (t / T) / until)) of the n slices of a training canvas stay,
    each in its own cell; which ones is drawn for every canvas. The others are replaced by grey natural
    images, resized to the slice. So the first step has no medical slice at all, and from ``until`` on, and at
    test time, there are only medical ones. The paper gives neither schedule nor label; these are ours.

    A natural tile gets the mean and standard deviation of the slices of its canvas and is clipped to their
    range, and so looks to the foundation like its usual input, z-scored or in [0, 1].
    """

    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"folder"})

    until: float = Field(0.5, gt=0, le=1, description="share of training after which all tiles are medical")
    source: Literal["photographs", "voc2012"] = Field(
        "photographs",
        description="natural images: eight photographs of scikit-image and scikit-learn, or PASCAL VOC 2012",
    )
    folder: str = Field(
        "",
        description="'voc2012': the folder VOC2012 that holds JPEGImages and ImageSets (or its JPEGImages)",
    )
    crop: float = Field(
        0.5, gt=0, le=1, description="smallest side of a tile's random crop, 1 being the largest that fits"
    )

    @model_validator(mode="after")
    def _folder_where_needed(self) -> NaturalMixStitch:
        if self.source == "voc2012" and not self.folder:
            raise ValueError("source voc2012 needs 'folder', the place of VOC2012 on this machine")
        return self

    def medical(self, count: int, progress: float) -> int:
        """How many of the ``count`` slices of a canvas are shown at ``progress``."""
        # less an error of rounding, so that 0.25 / 0.5 of 16 is 8 and never 9
        return min(count, math.ceil(count * min(1.0, progress / self.until) - 1e-9))

    def arrange(
        self, image: torch.Tensor, label: torch.Tensor, rng: np.random.Generator, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from sfrbench.components.stitch import _natural

        image, label = super().arrange(image, label, rng, progress)
        count = image.shape[-1]
        replaced = rng.permutation(count)[self.medical(count, progress) :]
        if not len(replaced):
            return image, label
        return _natural.replace(image, label, replaced, self._pool(), self.crop, rng)

    def _pool(self) -> Sequence[Grey]:
        from sfrbench.components.stitch import _natural

        return _natural.photographs() if self.source == "photographs" else _natural.voc2012(self.folder)
