"""What components say of their cost, beside their fields: plain arithmetic, no torch.

FLOPs are counted as ``torch.utils.flop_counter`` does: products in convolutions, linear layers and attention,
an addition and a multiplication as two. Norms, activations, losses and resizing are left out; records of runs
calibrate for what they take. A component whose cost nobody has stated is unknown, never free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Extent:
    """A dataset, as far as its cost goes: lists, classes (background included), the mean prepared volume."""

    train: int  # training cases, those without a label included
    test: int
    classes: int
    shape: tuple[float, float, float]  # voxels, mean over cases
    bare: int = 0  # training cases without a label

    @property
    def voxels(self) -> float:
        """Voxels of a mean volume."""
        return prod(self.shape)


@dataclass(frozen=True)
class Layers:
    """Layers for one input: FLOPs of the forward pass, of the gradients of the inputs, and of the weights."""

    forward: float = 0.0
    inputs: float = 0.0
    weights: float = 0.0

    def __add__(self, other: Layers) -> Layers:
        return Layers(self.forward + other.forward, self.inputs + other.inputs, self.weights + other.weights)

    def __mul__(self, times: float) -> Layers:
        return Layers(self.forward * times, self.inputs * times, self.weights * times)

    @property
    def trained(self) -> float:
        """FLOPs of a forward and a whole backward pass."""
        return self.forward + self.inputs + self.weights

    @property
    def passed(self) -> float:
        """FLOPs of a forward pass and a backward pass through frozen layers."""
        return self.forward + self.inputs


def linear(rows: float, inside: float, outside: float, *, first: bool = False) -> Layers:
    """``rows`` vectors times a matrix of weights; the input of the ``first`` layer needs no gradient."""
    flops = 2.0 * rows * inside * outside
    return Layers(flops, 0.0 if first else flops, flops)


def attention(maps: float, queries: float, keys: float, width: float, *, again: bool = True) -> Layers:
    """Products of queries with keys and of the weights with values, ``width`` over all heads; ``again``: the
    map is not kept and is made once more for the backward pass."""
    flops = 4.0 * maps * queries * keys * width
    return Layers(flops, flops * (2.5 if again else 2.0), 0.0)


@dataclass(frozen=True)
class Segmenter:
    """A 3D segmenter for one patch."""

    patch: Size
    classes: int
    filters: int  # channels of the finest level
    bottleneck: int  # channels of the coarsest
    encode: Layers
    decode: Layers
    head: Layers
    first: Layers  # of ``encode``: the layer that sees the image, for one channel
    up: Layers  # of ``decode``: convolutions that enlarge maps
    parameters: int
    decoder_parameters: int  # what is left without the encoder, head included
    up_parameters: int = 0  # weights of ``up``
    multiples: Size = (16, 16, 16)  # how many times smaller the bottleneck is

    @property
    def whole(self) -> Layers:
        return self.encode + self.decode + self.head


@dataclass(frozen=True)
class Passes:
    """What a method does in one step beside the loop's own pass of the student, in patches; means over a
    training where steps differ."""

    trained: float = 0.0  # through a whole network, forward and backward
    free: float = 0.0  # forward only
    encoded: float = 0.0  # through an encoder, forward and backward
    decoded: float = 0.0  # through decoder and head, forward and backward
    decoded_free: float = 0.0
    more: Layers = Layers()  # for the step as a whole
    parameters: int = 0  # of networks of its own, which are stored beside the model

    def flops(self, network: Segmenter) -> float:
        """FLOPs of a step."""
        decoder = network.decode + network.head
        return (
            self.trained * network.whole.trained
            + self.free * network.whole.forward
            + self.encoded * network.encode.trained
            + self.decoded * decoder.trained
            + self.decoded_free * decoder.forward
            + self.more.trained
        )


@dataclass(frozen=True)
class Blocks:
    """Transformer blocks of one width, for adapters: ``tokens`` of all of them together, for one canvas."""

    width: int
    count: int
    tokens: float


@dataclass(frozen=True)
class Sam:
    """A model of the SAM family for one canvas."""

    embed: Layers  # of the encoder: what sees the image
    encode: Layers  # the rest of the encoder
    decode: Layers
    blocks: Sequence[Blocks]
    encoder_parameters: int
    prompt_parameters: int
    decoder_parameters: int
    head_parameters: int  # of the decoder: mask tokens and their MLPs
    canvas: int
    classes: int
    vit: Any = None  # ``sam.Vit``: the shape of segment-anything's encoder, for methods that rebuild it
    again: bool = False  # blocks run twice and keep nothing between


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned SAM, for one canvas."""

    forward: float  # FLOPs of a prediction, adapters merged where they can be
    training: float  # FLOPs of a forward and the backward pass
    trained: int  # parameters that train
    encoding: float = 0.0  # FLOPs to encode a fixed view, where training repeats such


def stated(component: object, method: str, beside: Sequence[str]) -> bool:
    """Whether ``method`` speaks of what the component does: no class below the one that has it overrides one
    of the methods ``beside``."""
    order = type(component).__mro__
    place = next(index for index, cls in enumerate(order) if method in vars(cls))
    return not any(name in vars(cls) for cls in order[:place] for name in beside)
