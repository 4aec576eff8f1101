"""MACT, the multi-organ labels of 90 abdominal CTs (Pancreas-CT and BTCV), in MagicNet's HDF5 files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from sfrbench.components.base import Case
from sfrbench.components.dataset._listed import Listed
from sfrbench.errors import InputError

if TYPE_CHECKING:
    from sfrbench.components.dataset._splits import Split


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
    label_ids: tuple[int, ...] | None = Field(
        None,
        description="values of the eight organs in the files, in their order; none: 1 to 8. "
        "The labels as published have 1, 3, 4, 5, 6, 7, 11, 14, and other values are made background",
    )

    @model_validator(mode="after")
    def _eight_ids(self) -> Mact:
        ids = self.label_ids
        if ids is not None and (len(set(ids)) != len(self.names) or min(ids) < 1 or max(ids) > 255):
            raise ValueError(f"label_ids must be eight different values in 1 … 255, got {list(ids)}")
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

    def _renumbered(self, label: Any) -> Any:
        if self.label_ids is None:
            return label
        import numpy as np

        ours = np.zeros(np.shape(label), dtype=np.uint8)
        for number, stored in enumerate(self.label_ids, 1):
            ours[np.asarray(label) == stored] = number
        return ours

    def read_image(self, file: Path, like: Mapping[str, Any]) -> Case:
        """Refuses: there is no way from a CT to one of these volumes here."""
        raise InputError(
            "how MagicNet made the volumes of MACT (crop, window, orientation) is not published, so a CT "
            "cannot be prepared as they were",
            where=str(file),
            hint="train on BTCV in NIfTI, or on your own data in the layout of the Decathlon",
        )
