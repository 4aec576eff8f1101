"""The kinds that bring and lay out volumes: datasets and stitches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sfrbench.components.core import Component
from sfrbench.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sfrbench.components.costs.parts import Extent


class Dataset(Component):
    """A source of cases. Subclasses know a layout on disk; the fields below say how cases are used.

    A subclass gives ``class_names``, ``source_files``, ``case_lists`` and ``read_case``; ``case_files``, so
    that cases are kept when another one is mended; ``without_label`` where labels may be missing; and
    ``read_image`` where models are to predict images from elsewhere. ``root`` is the folder that the user
    names by ``--data``; none only where the class says that ``needs_root`` is false.

    The fields named in ``late_fields`` do not change the prepared volumes and so are no part of the
    key of ``prepare``: each belongs to the stages that read it.
    """

    kind: ClassVar[str] = "dataset"

    late_fields: ClassVar[frozenset[str]] = frozenset(
        {
            "labeled",
            "choice",
            "unlabeled",
            "val",
            "max_test",
            "patch",
            "stride",
            "sam_stride",
            "label_windows",
            "rot_flip",
            "crops",
            "folder",
        }
    )
    later_fields: ClassVar[Mapping[str, Any]] = {
        "min_depth": None,
        "crops": "all",
        "label_windows": "overlapping",
    }
    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"workers", "voxel"})
    #: Whether cases come from a folder that the user brings.
    needs_root: ClassVar[bool] = True

    labeled: int = Field(1, ge=1, description="labelled training cases: the first n of the training list")
    choice: int = Field(0, ge=0, description="which run of n cases is labelled; 0 is the published choice")
    unlabeled: int | None = Field(None, ge=0, description="unlabelled training cases; none: all the rest")
    val: int = Field(0, ge=0, description="validation cases, carved from the end of the training list")
    max_test: int | None = Field(None, ge=1, description="test cases used; none: all")
    patch: tuple[int, int, int] = Field(
        (96, 96, 96), description="training patch and window, voxels (x, y, z)"
    )
    stride: tuple[int, int, int] = Field(
        (16, 16, 16), description="window stride of the 3D segmenter, voxels"
    )
    sam_stride: tuple[int, int, int] | None = Field(
        None, description="window stride of the fine-tuned SAM, voxels; none: half the patch"
    )
    label_windows: Literal["overlapping", "fewest"] = Field(
        "overlapping",
        description="windows in which SAM pseudo-labels a volume: those of 'sam_stride', or as few as cover "
        "it, spread evenly (ours)",
    )
    voxel: tuple[float, float, float] | None = Field(
        None,
        description="usual voxel of the prepared volumes, mm (x, y, z); some networks are planned from it",
    )
    min_depth: int | None = Field(
        None, ge=1, le=1024, description="volumes with fewer slices are interpolated along z to so many"
    )
    rot_flip: bool = Field(
        True, description="random 90-degree rotation, then always a flip, in the x-y plane (as the authors)"
    )
    crops: Literal["all", "released"] = Field(
        "all",
        description="random crops at all offsets, or as the authors' code draws them: never the last one; "
        "one short side has others padded that are up to 4 voxels longer than the patch",
    )
    folder: str = Field(
        "", description="a second name under which the data are looked for, beside the card's"
    )
    workers: int = Field(
        1, ge=1, le=256, description="processes that prepare cases, each with one case in memory"
    )

    @model_validator(mode="after")
    def _positive_sizes(self) -> Dataset:
        for name in ("patch", "stride", "sam_stride"):
            value = getattr(self, name)
            if value is not None and min(value) < 1:
                raise ValueError(f"{name} must be positive, got {list(value)}")
        if self.voxel is not None and not all(0 < side <= 100 for side in self.voxel):
            raise ValueError(f"voxel must be above 0 and at most 100 mm, got {list(self.voxel)}")
        return self

    def key_settings(self) -> dict[str, Any]:
        """As everywhere, and how shallow volumes are interpolated, where they are."""
        settings = super().key_settings()
        if self.min_depth is not None:
            settings["deepened"] = 3  # 1 always ended with a z-score, 2 took two of them
        return settings

    def class_names(self, root: Path | None) -> tuple[str, ...]:
        """Names of all K classes, background first."""
        raise NotImplementedError

    def source_files(self, root: Path) -> list[Path]:
        """Every file that the prepared volumes depend on (hashed into the key of ``prepare``)."""
        raise NotImplementedError

    def case_files(self, root: Path, case: str) -> list[Path] | None:
        """The files on which this prepared case depends, so that it is kept when those of others change; a
        folder stands for what is in it. None if it depends on all of them: then a change of any file prepares
        every case again."""
        return None

    def case_lists(self, root: Path | None) -> tuple[list[str], list[str]]:
        """Training and test case ids, in the order of the published lists: the first training cases are the
        labelled ones, the last are for validation. Ids name files, and none stands twice."""
        raise NotImplementedError

    def extent(self, root: Path | None) -> Extent | None:
        """How many cases of what mean size ``prepare`` will store, before it has; none: not stated. Reads
        lists and headers at most."""
        return None

    def without_label(self, root: Path | None) -> frozenset[str]:
        """The training cases that no label is there for: unlabelled whatever ``labeled`` says, never test or
        validation cases. Their ``Case.labelled`` is false."""
        return frozenset()

    def remarks(self, root: Path | None) -> tuple[str, ...]:
        """What users should know of the lists, a sentence each, for ``data check``, a run and its record."""
        return ()

    def read_case(self, root: Path | None, case: str) -> Case:
        """One case, read, checked and preprocessed: ``prepare`` stores image and label as they come.

        Raises ``DataError`` naming the case, the file and the fault.
        """
        raise NotImplementedError

    def read_image(self, file: Path, like: Mapping[str, Any]) -> Case:
        """An image without a label, brought to the grid and the intensities of the prepared volumes.

        ``file`` is NIfTI or the folder of a DICOM series, ``like`` the ``source`` of a prepared case. The
        label of the case is all 0. Raises ``DataError`` for a file that cannot be used, ``InputError`` where
        an image cannot be prepared as the volumes were.
        """
        raise InputError(
            f"{type(self).__name__} does not say how an image without a label is prepared",
            hint="give its class a method read_image (see Dataset in components/base_data.py)",
        )

    def normalisation(self, like: Mapping[str, Any]) -> str:
        """What intensities were made of, for those who prepare images on their own."""
        return "z-score over the whole prepared volume (mean 0, standard deviation 1)"

    def caveat(self, like: Mapping[str, Any]) -> str:
        """Where ``read_image`` cannot do what was done to the prepared volumes; empty: it does the same."""
        return ""


class Case(BaseModel):
    """One preprocessed volume. ``image`` is float32 (X, Y, Z) and finite, with mean 0 and standard deviation
    1 unless ``zscored`` is false; ``label`` is uint8 of the same shape, numbers of classes, 0 the background.
    An empty ``source`` means that this is the raw grid; ``restore`` reads what else may stand there.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    image: Any
    label: Any
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)  # mm, along x, y, z of the arrays
    affine: list[list[float]] | None = None  # 4x4, of the prepared grid
    source: dict[str, Any] = {}  # what is needed to return to the raw grid
    zscored: bool = True  # over the whole volume; false where the dataset scales intensities in another way
    labelled: bool = True  # false: there is no label, and ``label`` is all 0
    digest: str | None = None  # of the raw image, turned and not yet cropped; none: not taken


class Stitch(Component):
    """Turns a patch into square canvases, and maps on canvases back into the patch.

    A subclass gives ``to_canvases``, ``from_canvases`` and ``training_canvas``, all three by the same layout.
    ``stitch.grid.TiledStitch`` has them for regular grids: of it, a subclass may change one step alone.
    """

    kind: ClassVar[str] = "stitch"

    @property
    def stand_in(self) -> str:
        """What it uses in the place of what the source has, as 'X in the place of Y'; empty: nothing."""
        return ""

    def located(self, find: Callable[[str], Path | None]) -> Stitch:
        """The same, with the place on this machine of data that training canvases need beside the dataset.

        ``find`` gives the folder of a name, as for a dataset. Raises ``NotReadyError`` where it has none and
        ``InputError`` where the data in it are not complete.
        """
        return self

    def canvas_count(self, patch: tuple[int, int, int], canvas: int) -> int | None:
        """How many canvases show a patch at inference; none: not stated."""
        return None

    def placed(self, patch: tuple[int, int, int], canvas: int) -> str:
        """Where the slices of a patch lie on a canvas, in words for a report; empty: not said."""
        return ""

    def to_canvases(self, volume: torch.Tensor, canvas: int, fill: float) -> torch.Tensor:
        """(C, X, Y, Z) to (N, C, I, I), every slice present at least once. A floating image (C = 1) may also
        become three channels, which the foundation then takes as they are."""
        raise NotImplementedError

    def from_canvases(self, maps: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
        """(N, K, I, I) probabilities or one-hot maps back to (K, X, Y, Z): the inverse of ``to_canvases``."""
        raise NotImplementedError

    def training_canvas(
        self, image: torch.Tensor, label: torch.Tensor, canvas: int, rng: np.random.Generator, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One training canvas of a patch: image (X, Y, Z) float and label (X, Y, Z) integer give
        (1, I, I) float, or (3, I, I) where ``to_canvases`` gives three channels, and (I, I) int64 with 255
        where the loss must not look. ``progress`` in [0, 1) is the share of training that is done."""
        raise NotImplementedError
