"""nnU-Net's plain and residual-encoder U-Nets, planned for the dataset's patch as nnU-Net plans them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sfrbench.components.backbone._topology import Topology, Triple, planned
from sfrbench.components.base import PRECISION, Backbone, Component, Dataset, Part, Precision
from sfrbench.components.core import ALL_PARTS
from sfrbench.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from sfrbench.components.costs.parts import Segmenter, Size

Stages = tuple[Triple, ...]


class NnUNet(Backbone):
    """nnU-Net's U-Net: 16,547,592 parameters plain, 62,809,928 with the residual encoder, for K = 2 and five
    stages, which is what it plans for LA's patch and for 96 voxels a side.

    ``strides`` and ``kernels`` have an entry for each stage, finest first, as in nnU-Net's plans. Where they
    are not given, a plan fills them in by nnU-Net's rules from the dataset's patch and voxel
    (``_topology.py``), and they stand in keys. Ours: a patch that does not fit is refused where nnU-Net would
    enlarge it; and the patch is the dataset's, where nnU-Net chooses its own.
    """

    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpointing"})
    parts: ClassVar[frozenset[Part]] = ALL_PARTS

    encoder: Literal["plain", "residual"] = Field(
        "plain", description="two convolutions a stage, or 1, 3, 4, 6, 6, ... residual blocks"
    )
    strides: Stages | None = Field(
        None, min_length=2, max_length=8, description="of each stage along x, y, z; none: planned"
    )
    kernels: Stages | None = Field(
        None,
        min_length=2,
        max_length=8,
        description="of each stage; none: planned, or 3 where strides are given",
    )
    voxel: tuple[float, float, float] | None = Field(
        None, description="mm along x, y, z, of which ratios count, for planning; none: the dataset's"
    )
    filters: int = Field(32, ge=2, le=64, description="channels of the finest stage; doubled at each stage")
    max_filters: int = Field(320, ge=2, le=1024, description="channels that no stage exceeds")
    deep_supervision: bool = Field(
        True, description="L_sup and L_pl also at the coarser decoder levels, by heads that only training has"
    )
    precision: Precision = Field("fp32", description=PRECISION)
    checkpointing: bool = Field(
        False, description="levels run twice and keep nothing between: less memory, the same numbers"
    )

    @model_validator(mode="after")
    def _fitting_stages(self) -> Self:
        if self.strides is None:
            if self.kernels is not None:
                raise ValueError("kernels are given without strides: give both, or neither")
            return self
        if set(self.strides[0]) != {1} or not all(step in (1, 2) for steps in self.strides for step in steps):
            raise ValueError(f"strides are 1 or 2, and 1 in the first stage, got {_listed(self.strides)}")
        if self.kernels is not None and len(self.kernels) != len(self.strides):
            raise ValueError(f"{len(self.strides)} strides and {len(self.kernels)} kernels: one a stage")
        if not all(side in (1, 3, 5, 7) for sides in self.kernels or () for side in sides):
            raise ValueError(f"kernels are 1, 3, 5 or 7, got {_listed(self.kernels or ())}")
        return self

    @property
    def topology(self) -> Topology:
        """Of the stages that are given. Raises ``InputError`` where they are still to be planned."""
        if self.strides is None:
            raise InputError(
                "the stages of nnU-Net's U-Net are not planned yet",
                where="backbone.strides",
                hint="give strides, or a dataset: backbone.settled({'dataset': dataset})",
            )
        return Topology(self.strides, self.kernels or ((3, 3, 3),) * len(self.strides))

    @property
    def widths(self) -> list[int]:
        """Channels of each stage, finest first."""
        return [min(self.filters * 2**stage, self.max_filters) for stage in range(len(self.topology.strides))]

    @property
    def multiples(self) -> tuple[int, int, int]:
        return self.topology.multiples

    @property
    def bottleneck(self) -> int:
        return 2

    def settled(self, cell: Mapping[str, Component]) -> Component:
        """With stages, if need be planned from the patch and voxel of the dataset."""
        dataset, voxel = cell.get("dataset"), self.voxel
        if isinstance(dataset, Dataset) and voxel is None:
            voxel = dataset.voxel
        if self.strides is not None:
            strides, kernels = self.topology
        elif isinstance(dataset, Dataset) and voxel is not None:
            strides, kernels = planned(dataset.patch, voxel)
        else:
            return self
        return self.model_copy(update={"strides": strides, "kernels": kernels, "voxel": None})

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        """Also refuses what cannot be planned."""
        if self.strides is None:
            what = "its stages are planned from the voxel size, which the dataset does not state"
            return [f"{what}: set backbone.voxel or dataset.voxel (mm along x, y, z), or backbone.strides"]
        if len(self.strides) < 2:
            return ["the patch is too small to be halved once: 8 voxels along two axes are needed"]
        return super().conflicts(cell)

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        """(B, inputs, X, Y, Z) float32 to logits (B, K, X, Y, Z) float32; nnU-Net's initialisation."""
        from sfrbench.components.backbone._nnunet import NnUNetModule

        return NnUNetModule(
            classes,
            self.topology,
            self.widths,
            residual=self.encoder == "residual",
            deep_supervision=self.deep_supervision,
            bf16=self.precision == "bf16",
            inputs=inputs,
            checkpointing=self.checkpointing,
        )

    def cost(self, patch: Size, classes: int) -> Segmenter | None:
        from sfrbench.components.costs.nets import nnunet, twice

        residual, deep = self.encoder == "residual", self.deep_supervision
        cost = nnunet(patch, classes, self.topology, self.widths, residual=residual, deep=deep)
        return twice(cost) if self.checkpointing else cost


def _listed(stages: Stages) -> list[list[int]]:
    return [list(stage) for stage in stages]
