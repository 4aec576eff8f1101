"""A cohort made from a seed: no download, any size, as many classes as wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from sfrbench.components.base import Case, Dataset

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Extent

#: Test cases are numbered from here, so that a longer training list leaves them as they are.
_FIRST_TEST = 100_000


class Phantom(Dataset):
    """Organs of varying shape, pose, size and appendages among structures of similar intensity, under a bias
    field and Rician noise, with a contrast that changes from case to case.

    Ours, not of the paper. Case i depends on (seed, i) and the fields only: numpy's PCG64.
    """

    needs_root: ClassVar[bool] = False

    patch: tuple[int, int, int] = Field((64, 64, 32), description="training patch and window, voxels")
    stride: tuple[int, int, int] = Field((32, 32, 16), description="window stride of the segmenter, voxels")
    voxel: tuple[float, float, float] | None = Field(
        (1.0, 1.0, 1.0), description="voxel of the volumes, mm (x, y, z)"
    )
    train_cases: int = Field(24, ge=1, le=_FIRST_TEST, description="length of the training list")
    test_cases: int = Field(8, ge=1, le=100_000, description="length of the test list")
    shape: tuple[int, int, int] = Field((64, 64, 32), description="voxels (x, y, z), 16 to 512 each")
    organs: int = Field(1, ge=1, le=6, description="foreground classes")
    seed: int = Field(0, ge=0, description="seed of the cohort (not of the experiment)")
    contrast: tuple[float, float] = Field(
        (0.25, 0.6), description="range of the organ's contrast against the tissue, which is about 1"
    )
    variation: float = Field(1.0, ge=0, le=2, description="strength of the variation of shape, size and pose")
    distractors: int = Field(7, ge=0, le=40, description="background structures of the organ's intensity")
    bias: float = Field(0.3, ge=0, le=1, description="amplitude of the logarithm of the bias field")
    noise: float = Field(0.12, ge=0, le=1, description="sigma of the Rician noise, tissue being about 1")

    @model_validator(mode="after")
    def _sound_ranges(self) -> Phantom:
        if not all(16 <= side <= 512 for side in self.shape):
            raise ValueError(f"shape must be 16 to 512 voxels a side, got {list(self.shape)}")
        low, high = self.contrast
        if not 0 < low <= high <= 2:
            raise ValueError(f"contrast must be a range within (0, 2], got {list(self.contrast)}")
        return self

    def class_names(self, root: Path | None) -> tuple[str, ...]:
        """Background and the organs."""
        if self.organs == 1:
            return ("background", "organ")
        return ("background", *(f"organ {number}" for number in range(1, self.organs + 1)))

    def source_files(self, root: Path) -> list[Path]:
        """None: everything comes from the seed."""
        return []

    def case_lists(self, root: Path | None) -> tuple[list[str], list[str]]:
        """Ids ``p000000`` and on; test cases from ``p100000``."""
        train = [f"p{number:06d}" for number in range(self.train_cases)]
        test = [f"p{_FIRST_TEST + number:06d}" for number in range(self.test_cases)]
        return train, test

    def extent(self, root: Path | None) -> Extent | None:
        from sfrbench.components.costs.extents import extent

        lists = (self.train_cases, self.test_cases)
        return extent(self, root, self.shape, classes=self.organs + 1, lists=lists)

    def read_case(self, root: Path | None, case: str) -> Case:
        """Make one case."""
        from sfrbench.components.dataset._checks import Place, checked_image, checked_label
        from sfrbench.components.dataset._finish import finish
        from sfrbench.components.dataset._phantom import Cohort, make
        from sfrbench.components.dataset.geometry import Geometry
        from sfrbench.errors import DataError

        if not (case.startswith("p") and case[1:].isdigit()):
            hint = "ids are p000000 and on, test cases p100000 and on"
            raise DataError("this is not a case of the phantom cohort", where=f"case {case}", hint=hint)
        cohort = Cohort(**{name: getattr(self, name) for name in Cohort.__dataclass_fields__})
        image, label = make(cohort, int(case[1:]))
        place = Place(case, Path("(made from a seed)"))
        return finish(
            checked_image(image, place),
            checked_label(label, image.shape, self.class_names(None), place),
            Geometry(spacing=(1.0, 1.0, 1.0)),
            classes=self.organs + 1,
            downsample=1,
            min_depth=self.min_depth,
            place=place,
            files={},
        )

    def read_image(self, file: Path, like: Mapping[str, Any]) -> Case:
        """An image alone, turned to RAS and z-scored."""
        from sfrbench.components.dataset._nifti import read_alone

        return read_alone(file, downsample=1, min_depth=self.min_depth)
