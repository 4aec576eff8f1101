"""What a semi-supervised method may ask of a backbone's network, beside logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from sfrbench.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

Maps = tuple["torch.Tensor", ...]


class SegmentationNetwork(Protocol):
    """A 3D segmenter in its parts: encode, decode, drop, head. To the bit, with the same random state,

    ``network(images) == head(drop(features(images)))`` and ``features(images) == decode(encode(images))``.

    Every shipped backbone's network is one. ``images`` are (B, 1, X, Y, Z) float32 with sides that the
    backbone's divisor divides. Maps may be bfloat16 where the backbone's precision is; logits are float32.
    No part changes its input in place, so that one encoding can be decoded several times. The parts in
    ``SCALES``, ``ALONE`` and ``PLACES`` are for some methods only, ``DEEP`` is for deep supervision; a
    network of the user's own may do without. What a backbone's network has of them stands in
    ``Backbone.parts``, what a method needs in ``Ssl.asks``.
    """

    #: Voxels of the image along x, y and z that make one voxel of the bottleneck.
    multiples: tuple[int, int, int]
    feature_channels: int
    bottleneck_channels: int
    scale_channels: tuple[int, ...]

    @property
    def head(self) -> nn.Module:
        """The output convolution: (B, feature_channels, X, Y, Z) maps to logits (B, K, X, Y, Z) float32."""

    @property
    def drop(self) -> nn.Module:
        """The dropout in front of ``head``; ``nn.Identity`` where there is none."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, feature_channels, X, Y, Z) in front of the output convolution, ``drop`` not yet applied."""

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The skips, finest first, and last the bottleneck, whose sides are the image's over ``multiples``.

        Dropout at the bottleneck, where there is any, is applied.
        """

    def decode(self, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What ``encode`` gives, perturbed or not, to ``features``: the first of ``decode_scales``."""

    def decode_scales(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """The maps of all decoder levels, finest first: (B, ``scale_channels[s]``, X/2^s, Y/2^s, Z/2^s), or
        less along an axis that the network leaves as it is."""

    def coarse_logits(self, maps: Maps, scales: Maps) -> Maps:
        """Deep supervision: logits (B, K, x, y, z) float32 of the coarser levels, finest first, each in its
        own size; () where the network has no heads there. ``maps`` and ``scales`` are what ``encode`` and
        ``decode_scales`` gave. Only training asks; no other output depends on these heads."""

    def strip_encoder(self) -> None:
        """Deletes, in place, what only ``encode`` needs, for methods that use this network as a second
        decoder."""

    def __call__(self, images: torch.Tensor, /) -> torch.Tensor:
        """Logits (B, K, X, Y, Z) float32."""


PARTS = ("feature_channels", "bottleneck_channels", "head", "drop", "features", "encode", "decode")
SCALES = ("scale_channels", "decode_scales")
ALONE = ("strip_encoder",)
PLACES = ("multiples",)
DEEP = ("coarse_logits",)


def lacking(network: nn.Module, parts: tuple[str, ...] = PARTS) -> list[str]:
    """Which of these a network does not have."""
    return [name for name in parts if not hasattr(network, name)]


def in_parts(network: nn.Module, more: tuple[str, ...] = ()) -> SegmentationNetwork:
    """The same network, known to have its parts, and ``more``. Raises ``InputError`` naming what it lacks."""
    missing = lacking(network, PARTS + more)
    if missing:
        raise InputError(
            f"this semi-supervised method needs {', '.join(missing)} of {type(network).__name__}",
            where="backbone",
            hint="choose a shipped backbone, or add what SegmentationNetwork asks for to your own",
        )
    return cast(SegmentationNetwork, network)


@dataclass(frozen=True)
class Passed:
    """A forward pass in its parts; those that a network does not have are empty."""

    logits: torch.Tensor  # (B, K, X, Y, Z), as ``forward`` gives them
    coarser: Maps = ()  # ``coarse_logits``
    maps: Maps = ()
    scales: Maps = ()
    features: torch.Tensor | None = None

    def outputs(self) -> Passed:
        """What losses are taken on. Whoever needs no more keeps no more: maps are large."""
        return Passed(self.logits, self.coarser)


def passed(network: nn.Module, images: torch.Tensor) -> Passed:
    """``network(images)`` to the bit, with what lies on the way."""
    if lacking(network):  # a user's own network that knows its forward pass only
        return Passed(network(images))
    return decoded(network, in_parts(network).encode(images))


def decoded(network: nn.Module, maps: Maps) -> Passed:
    """The same from an encoding on: for a decoder alone, too."""
    parts: Any = network
    scales: Maps = () if lacking(network, SCALES) else parts.decode_scales(maps)
    features = scales[0] if scales else parts.decode(maps)
    logits = parts.head(parts.drop(features))
    coarser: Maps = () if not scales or lacking(network, DEEP) else parts.coarse_logits(maps, scales)
    return Passed(logits, coarser, maps, scales, features)
