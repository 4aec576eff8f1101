"""MACT: multi-organ labels of 90 abdominal CTs (Pancreas-CT and BTCV), in MagicNet's HDF5 files or raw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from sfrbench.components.dataset._ct import AbdominalCt
from sfrbench.errors import DataError

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Extent
    from sfrbench.components.dataset._checks import Place
    from sfrbench.components.dataset._listed import NDImage, NDLabel
    from sfrbench.components.dataset._splits import Split
    from sfrbench.components.dataset.geometry import Geometry

_WITHDRAWN = "PANCREAS_0025"  # from Pancreas-CT, after the labels were published


class Mact(AbdominalCt):
    """``<root>/MACT_h5/<0001 … 0090>.h5`` with ``image`` and ``label`` (x, y, z; 1.5 x 1.5 x 2 mm); or raw:

    the labels of Zenodo 1169361 (``label_tcia_multiorgan/label0002.nii.gz`` and on, 43 of them, and
    ``label_btcv_multiorgan``, 47) with the images of TCIA's Pancreas-CT (``Pancreas-CT/PANCREAS_0002``, a
    folder of DICOM files or ``.nii.gz``) and of BTCV (``RawData/Training/img/img0001.nii.gz``, and so under
    ``Testing``). Raw volumes are turned to the closest RAS orientation, resampled and clipped. Of the 14
    published numbers 1, 3, 4, 5, 6, 7, 11, 14 become 1 to 8, the others background.

    Each volume is z-scored, as SFR's code does at load. The split of 70 and 20 cases is ours, drawn once and
    written out: SFR's own is not published, and MagicNet cross-validates. It has numbers; raw cases are
    counted in rising order, Pancreas-CT first, which need not be how MagicNet counted. PANCREAS_0025, which
    TCIA has withdrawn, is left out where its image is not here.
    """

    version: ClassVar[int] = 2  # units of the header, each DICOM slice by its own rescale

    home: ClassVar[str] = "mact"
    what: ClassVar[str] = "MACT data"
    layouts: ClassVar[str] = (
        "MACT_h5/0001.h5 … MACT_h5/0090.h5 (MagicNet), or label_tcia_multiorgan and label_btcv_multiorgan"
        " with Pancreas-CT/PANCREAS_0002 and RawData/Training/img/img0001.nii.gz"
    )
    kinds: ClassVar[tuple[str, ...]] = ("h5", "raw")
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
    later_fields: ClassVar[Mapping[str, Any]] = {
        **AbdominalCt.later_fields,
        "spacing": [1.5, 1.5, 2.0],
        "image_order": 1,
        "label_order": 0,
        "clip": [-125.0, 275.0],
        "tcia_flip": None,
    }

    layout: Literal["h5", "raw"] | None = Field(
        None, description="which files are read; none: h5 where there"
    )
    label_ids: tuple[int, ...] | None = Field(
        None,
        description="values of the eight organs in the files, in their order; none: 1 to 8 in h5 files, and "
        "1, 3, 4, 5, 6, 7, 11, 14 in raw ones, as published. Other values are made background",
    )
    tcia_flip: str | None = Field(
        None,
        pattern="^x?y?z?$",
        description="raw labels of Pancreas-CT: axes that are reversed whatever the headers say, such as 'y'"
        " ('': no axis); none: as the headers of label and image say",
    )

    @model_validator(mode="after")
    def _eight_ids(self) -> Mact:
        ids = self.label_ids
        if ids is not None and (len(set(ids)) != len(self.names) or min(ids) < 1 or max(ids) > 255):
            raise ValueError(f"label_ids must be eight different values in 1 … 255, got {list(ids)}")
        return self

    def extent(self, root: Path | None) -> Extent | None:
        """As BTCV, to which half of the cases belong."""
        from sfrbench.components.costs.extents import extent

        classes, lists = len(self.names) + 1, (70, 20)
        usual = (260.0, 260.0, 189.0)
        return extent(self, root, usual, classes=classes, lists=lists, downsample=self.downsample)

    def _shipped(self) -> Split:
        from sfrbench.components.dataset._splits import MACT

        return MACT

    def _shipped_lists(self, root: Path) -> tuple[list[str], list[str]]:
        from sfrbench.components.dataset._mact import BTCV, TCIA, labelled_cases, raw_files

        train, test = super()._shipped_lists(root)
        tcia, btcv = labelled_cases(root, TCIA), labelled_cases(root, BTCV)
        prepared = any(self._files(root, case, "h5")[0].is_file() for case in (*train, *test))
        if self.layout == "h5" or (prepared and self.layout is None) or not (tcia or btcv):
            return train, test
        if (len(tcia), len(btcv)) != (43, 47):
            raise DataError(
                f"labels of {len(tcia)} cases of Pancreas-CT and {len(btcv)} of BTCV are here, and the split "
                "needs 43 and 47",
                where=str(root),
                hint="bring all, or write train.list and test.list with ids like PANCREAS_0002 and img0001",
            )
        gone = [] if raw_files(root, _WITHDRAWN)[0].exists() else [_WITHDRAWN]
        named = {f"{number:04d}": case for number, case in enumerate([*tcia, *btcv], 1) if case not in gone}
        return [named[n] for n in train if n in named], [named[n] for n in test if n in named]

    def _files(self, root: Path, case: str, kind: str) -> tuple[Path, ...]:
        from sfrbench.components.dataset._lists import first_file

        if kind == "h5":
            return (first_file(root, [f"MACT_h5/{case}.h5", f"data/{case}.h5", f"{case}.h5"]),)
        from sfrbench.components.dataset._mact import raw_files

        return raw_files(root, case)

    def _renumbered(self, label: Any) -> Any:
        if self.label_ids is None:
            return label
        from sfrbench.components.dataset._mact import renumbered

        return renumbered(label, self.label_ids)

    def _read_raw(self, image: Place, label: Place) -> tuple[NDImage, NDLabel, Geometry]:
        from sfrbench.components.dataset._mact import ORGAN_IDS, TCIA, read_raw

        flip = self.tcia_flip if image.case.startswith(TCIA) else None
        return read_raw(image, label, self.label_ids or ORGAN_IDS, flip)
