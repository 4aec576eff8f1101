"""MONAI's 3D networks (the extra ``monai``): SegResNet, DynUNet, MedNeXt, SwinUNETR and UNETR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sfrbench.components._extras import require
from sfrbench.components.base import PRECISION, Backbone, Component, Dataset, Part, Precision
from sfrbench.components.core import ALL_PARTS
from sfrbench.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from sfrbench.components.backbone._monai import Told
    from sfrbench.components.costs.parts import Segmenter, Size

#: Oldest versions of what the extra brings.
_NEEDED = {"monai": (1, 6), "einops": (0, 8)}

#: Of each size: blocks of every stage, first to last, and how much wider a block is inside.
_MEDNEXT = {
    "S": ((2, 2, 2, 2, 2, 2, 2, 2, 2), (2, 2, 2, 2, 2, 2, 2, 2, 2)),
    "B": ((2, 2, 2, 2, 2, 2, 2, 2, 2), (2, 3, 4, 4, 4, 4, 4, 3, 2)),
    "M": ((3, 4, 4, 4, 4, 4, 4, 4, 3), (2, 3, 4, 4, 4, 4, 4, 3, 2)),
    "L": ((3, 4, 8, 8, 8, 8, 8, 4, 3), (3, 4, 8, 8, 8, 8, 8, 4, 3)),
}


class Monai(Backbone):
    """A network of MONAI's, taken apart into encoder, decoder and head. Weights are drawn as MONAI draws
    them; none has dropout here, as by MONAI's defaults."""

    parts: ClassVar[frozenset[Part]] = ALL_PARTS
    unkeyed_fields: ClassVar[frozenset[str]] = frozenset({"checkpointing"})
    #: How messages call the network.
    title: ClassVar[str]

    precision: Precision = Field("fp32", description=PRECISION)
    checkpointing: bool = Field(
        False, description="levels run twice and keep nothing between: less memory, the same numbers"
    )

    def check_installed(self) -> None:
        """Raises ``NotReadyError`` where MONAI or einops is missing, or too old. Imports nothing."""
        require(self.title, "monai", _NEEDED)

    def told(self, classes: int, inputs: int) -> Told:
        """What every network is told. Raises ``NotReadyError`` without MONAI."""
        self.check_installed()
        from sfrbench.components.backbone._monai import Told

        return Told(self.title, self.divisor, classes, inputs, self.precision == "bf16", self.checkpointing)

    def again(self, cost: Segmenter) -> Segmenter:
        """``cost`` where levels run twice."""
        from sfrbench.components.costs.nets import twice

        return twice(cost) if self.checkpointing else cost


class _Normed(Monai):
    """A network with an instance norm at its bottleneck, or one group for each channel, which is the same."""

    @property
    def bottleneck(self) -> int:
        return 2


class SegResNet(Monai):
    """SegResNet (Myronenko 2018), without its autoencoder: 18,796,002 parameters, K = 2.

    Four levels of residual blocks (1, 2, 2 and 4 down, one up), group norm of eight groups, trilinear
    upsampling, added skips. Its authors train it by Adam(W) at 1e-4 to 2e-4.
    """

    title: ClassVar[str] = "SegResNet"
    divisor: ClassVar[int] = 8

    init_filters: int = Field(
        32, ge=8, le=64, multiple_of=8, description="channels of the finest level; doubled at each level"
    )

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        told = self.told(classes, inputs)
        from sfrbench.components.backbone._monai import SegResNetModule

        return SegResNetModule(told, self.init_filters)

    def cost(self, patch: Size, classes: int) -> Segmenter | None:
        from sfrbench.components.costs.monai import segresnet

        return self.again(segresnet(patch, classes, self.init_filters))


class DynUNet(_Normed):
    """DynUNet, MONAI's U-Net after nnU-Net's: 16,543,650 parameters, K = 2.

    Five stages of two convolutions with affine instance norm and leaky ReLU, strided convolutions down,
    transposed ones up, joined skips; no bias in convolutions.
    """

    title: ClassVar[str] = "DynUNet"

    filters: int = Field(32, ge=2, le=64, description="channels of the finest stage; doubled at each stage")
    max_filters: int = Field(320, ge=2, le=1024, description="channels that no stage exceeds")
    res_block: bool = Field(False, description="residual blocks in the encoder")
    deep_supervision: bool = Field(
        False, description="heads at the coarser decoder levels, which only training has"
    )

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        told = self.told(classes, inputs)
        from sfrbench.components.backbone._monai import DynUNetModule

        return DynUNetModule(told, self.widths, self.res_block, self.deep_supervision)

    @property
    def widths(self) -> list[int]:
        """Channels of each stage, finest first."""
        return [min(self.filters * 2**stage, self.max_filters) for stage in range(5)]

    def cost(self, patch: Size, classes: int) -> Segmenter | None:
        from sfrbench.components.costs.monai import dynunet

        residual, deep = self.res_block, self.deep_supervision
        return self.again(dynunet(patch, classes, self.widths, residual=residual, deep=deep))


class MedNeXt(_Normed):
    """MedNeXt (Roy et al. 2023): depthwise convolutions in residual blocks, transposed ones up, added skips.

    Five levels; 5,550,914, 10,510,850, 17,533,506 and 61,726,754 parameters (S, B, M, L) with kernels of 3
    and K = 2. Its authors train it in nnU-Net's loop by AdamW at 1e-3. They start kernels of 5 from weights
    of kernels of 3, which there is nothing for here. Its blocks up are more than a transposed convolution, so
    that CauSSL, which puts others in their place, has no decoders of it.
    """

    parts: ClassVar[frozenset[Part]] = ALL_PARTS - {"upsampling"}
    title: ClassVar[str] = "MedNeXt"

    size: Literal["S", "B", "M", "L"] = Field("S", description="how many blocks, and how wide inside")
    kernel_size: Literal[3, 5, 7] = Field(3, description="of depthwise convolutions")
    filters: int = Field(32, ge=2, le=64, description="channels of the finest level; doubled at each level")
    deep_supervision: bool = Field(
        False, description="heads at the coarser levels and the bottleneck, which only training has"
    )

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        told = self.told(classes, inputs)
        from sfrbench.components.backbone._monai import MedNeXtModule

        stages = _MEDNEXT[self.size]
        return MedNeXtModule(told, *stages, self.kernel_size, self.filters, self.deep_supervision)

    def cost(self, patch: Size, classes: int) -> Segmenter | None:
        from sfrbench.components.costs.monai import mednext

        taps, deep = self.kernel_size**3, self.deep_supervision
        return self.again(mednext(patch, classes, self.filters, *_MEDNEXT[self.size], taps, deep))


class SwinUNETR(_Normed):
    """SwinUNETR (Hatamizadeh et al. 2022): 62,186,708 parameters, K = 2, of random numbers.

    Its authors train it by AdamW at 8e-4 with warm-up and cosine, from pretrained weights; SGD at 0.01, which
    methods here have for V-Net, under-trains transformers.
    """

    title: ClassVar[str] = "SwinUNETR"
    divisor: ClassVar[int] = 32

    feature_size: int = Field(
        48, ge=12, le=96, multiple_of=12, description="channels of the finest level and of the first tokens"
    )
    use_v2: bool = Field(False, description="SwinUNETR-V2: a residual convolution block before each stage")

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        told = self.told(classes, inputs)
        from sfrbench.components.backbone._monai_vit import SwinUnetrModule

        return SwinUnetrModule(told, self.feature_size, self.use_v2)


class UNETR(Monai):
    """UNETR (Hatamizadeh et al. 2022): 92,802,274 parameters for 96 voxels a side, K = 2, of which MONAI's
    blocks leave 18,432 unused.

    A vision transformer of twelve blocks with position embeddings for one size of image, so that it is built
    for the training patch, and predicts by windows of it. Its authors train it by AdamW at 1e-4; SGD at 0.01,
    which methods here have for V-Net, under-trains transformers.
    """

    parts: ClassVar[frozenset[Part]] = ALL_PARTS - {"sizes"}
    title: ClassVar[str] = "UNETR"

    patch: tuple[int, int, int] | None = Field(
        None, description="sides that it is built for, voxels; none: those of the dataset's patch"
    )
    feature_size: int = Field(16, ge=2, le=64, description="channels of the finest level")
    hidden_size: int = Field(
        768, ge=64, le=1536, multiple_of=64, description="channels of tokens, 64 for each head of attention"
    )

    def settled(self, cell: Mapping[str, Component]) -> Component:
        """Built for the dataset's patch, where no other one is given."""
        dataset = cell.get("dataset")
        if self.patch is not None or not isinstance(dataset, Dataset):
            return self
        return self.model_copy(update={"patch": dataset.patch})

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        """Also refuses another patch than the one that it is built for."""
        faults, dataset = super().conflicts(cell), cell.get("dataset")
        if isinstance(dataset, Dataset) and self.patch is not None and self.patch != dataset.patch:
            what = (
                f"it is built for patches of {list(self.patch)}, not of dataset.patch {list(dataset.patch)}"
            )
            faults.append(f"{what}: leave backbone.patch out")
        return faults

    def build(self, classes: int, inputs: int = 1) -> nn.Module:
        told = self.told(classes, inputs)
        if self.patch is None:
            raise InputError(
                "UNETR is built for patches of one size, and none is given",
                where="backbone.patch",
                hint="give it, or take what a plan's cell has: backbone.settled({'dataset': ...})",
            )
        from sfrbench.components.backbone._monai_vit import UnetrModule

        return UnetrModule(told, self.patch, self.feature_size, self.hidden_size)
