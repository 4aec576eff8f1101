"""MACT, the multi-organ labels of 90 abdominal CTs (Pancreas-CT and BTCV), in MagicNet's HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sfrbench.components.dataset._listed import Listed

if TYPE_CHECKING:
    from sfrbench.components.dataset._checks import Geometry, Place
    from sfrbench.components.dataset._listed import NDImage, NDLabel
    from sfrbench.components.dataset._splits import Split

LabelId = Annotated[int, Field(ge=1, le=255)]


class Mact(Listed):
    """``<root>/MACT_h5/<0001 … 0090>.h5`` with ``image`` and ``label`` (x, y, z; 1.5 x 1.5 x 2 mm).

    Each volume is z-scored, as SFR's code does at load. The split of 70 and 20 cases is ours, drawn once and
    written out: SFR's own is not published, and MagicNet cross-validates. Preparing the raw CTs (Pancreas-CT
    of TCIA and BTCV with the labels of Zenodo 1169361) is not built.
    """

    home: ClassVar[str] = "mact"
    what: ClassVar[str] = "MACT data"
    layouts: ClassVar[str] = "MACT_h5/0001.h5 … MACT_h5/0090.h5 (MagicNet)"
    names: ClassVar[tuple[str, ...]] = (
        "spleen",
        "left kidney",
        "gallbladder",
        "oesophagus",
        "liver",
        "stomach",
        "pancreas",
        "duodenum",
    )

    layout: Literal["h5"] | None = Field(None, description="files that are read: only h5")
    label_ids: tuple[LabelId, ...] | None = Field(
        None,
        description="values of the eight organs in the files, in their order; none: 1 to 8. "
        "The labels as published have 1, 3, 4, 5, 6, 7, 11, 14, and other values are made background",
    )

    @model_validator(mode="after")
    def _eight_ids(self) -> Mact:
        if self.label_ids is not None and len(set(self.label_ids)) != len(self.names):
            raise ValueError(f"label_ids must be eight different values, got {list(self.label_ids)}")
        return self

    def _shipped(self) -> Split:
        from sfrbench.components.dataset._splits import MACT

        return MACT

    def _files(self, root: Path, case: str, kind: str) -> tuple[Path, ...]:
        from sfrbench.components.dataset._lists import first_file

        return (
            (first_file(root, [f"MACT_h5/{case}.h5", f"data/{case}.h5", f"{case}.h5"]),)
            if kind == "h5"
            else ()
        )

    def _read_h5(self, place: Place) -> tuple[NDImage, NDLabel, Geometry]:
        import numpy as np

        from sfrbench.components.dataset._checks import Geometry, checked_image, checked_label
        from sfrbench.components.dataset._h5 import read_h5

        raw, raw_label = read_h5(place)
        image = checked_image(raw, place)
        if self.label_ids is not None:
            every = [str(number) for number in range(256)]
            stored = checked_label(raw_label, image.shape, every, place)
            table = np.zeros(256, dtype=np.uint8)
            table[list(self.label_ids)] = np.arange(1, len(self.names) + 1)
            raw_label = table[stored]
        label = checked_label(raw_label, image.shape, self.class_names(None), place)
        return image, label, Geometry((1.5, 1.5, 2.0))
