"""Stitching whose tiles start as natural images and become medical slices as training goes on (Fig. 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components.stitch.grid import GridStitch
from sfrbench.errors import NotReadyError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sfrbench.components.stitch._images import Grey


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
    source: Literal["voc2012", "photographs"] = Field(
        "voc2012",
        description="natural images: PASCAL VOC 2012 (the paper's), or, in its place, eight photographs of "
        "scikit-image and scikit-learn",
    )
    folder: str = Field(
        "",
        description="'voc2012': the folder VOC2012 that holds JPEGImages and ImageSets (or its JPEGImages); "
        "empty: that of --data voc2012=DIR and its like",
    )
    crop: float = Field(
        0.5, gt=0, le=1, description="smallest side of a tile's random crop, 1 being the largest that fits"
    )

    @property
    def stand_in(self) -> str:
        return "eight photographs in the place of PASCAL VOC 2012" if self.source == "photographs" else ""

    def located(self, find: Callable[[str], Path | None]) -> NaturalMixStitch:
        if self.source == "photographs":
            return self
        folder = Path(self.folder) if self.folder else find("voc2012")
        if folder is None:
            hint = (
                "give --data voc2012=DIR, or set SFRBENCH_DATA to the folder that holds it; stitch.source: "
            )
            hint += "photographs takes eight photographs in its place"
            raise NotReadyError("no folder with PASCAL VOC 2012 is known", where="data voc2012", hint=hint)
        from sfrbench.components.stitch import _images

        _images.voc2012(str(folder))
        return self.model_copy(update={"folder": str(folder)})

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
        from sfrbench.components.stitch import _images

        return _images.photographs() if self.source == "photographs" else _images.voc2012(self.folder)
