"""What the settings of several stages share: who is labelled, how crops are drawn, how windows step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import Dataset, Settings

if TYPE_CHECKING:
    from sfrbench.components.split import Split
    from sfrbench.engine.volumes import Volumes

Size = tuple[int, int, int]  # voxels along x, y, z


class StageSettings(Settings):
    """What a stage is told beside its components. A field that is not given is not in the key; one of
    ``later_fields`` is not either where it means the old behaviour."""

    def told(self) -> dict[str, Any]:
        """The settings as keys and records hold them (JSON types)."""
        return self.without_later(self.model_dump(mode="json", exclude_unset=True))


class SplitSettings(Settings):
    """The arguments of ``split_cases`` that a stage depends on; the others are not given."""

    labeled: int = 1
    choice: int = 0
    val: int = 0
    unlabeled: int | None = None
    max_test: int | None = None

    def of(self, volumes: Volumes) -> Split:
        """Who plays which part among prepared cases."""
        return volumes.split(**dict(self))


class CropSettings(StageSettings):
    """How a training draws its crops."""

    later_fields: ClassVar[Mapping[str, Any]] = {"crops": "all"}

    split: SplitSettings
    patch: Size
    rot_flip: bool
    crops: Literal["all", "released"] = Field("all", description="as ``Dataset.crops``")


def labelled(data: Dataset) -> SplitSettings:
    """Who is labelled."""
    return SplitSettings(labeled=data.labeled, choice=data.choice, val=data.val)


def with_unlabelled(data: Dataset) -> SplitSettings:
    """Who is labelled, and who is not."""
    return SplitSettings(labeled=data.labeled, choice=data.choice, val=data.val, unlabeled=data.unlabeled)


def sam_stride(data: Dataset) -> Size:
    """The stride of the fine-tuned SAM's windows: half the patch where the dataset has none of its own."""
    return data.sam_stride or half(data.patch)


def half(patch: Size) -> Size:
    """The stride with which windows overlap by half."""
    x, y, z = patch
    return max(x // 2, 1), max(y // 2, 1), max(z // 2, 1)
