"""SAM 2 over the slices of a volume: what the stage ``interact`` talks to.

A click on a slice that was already tracked is not what it is to Meta's predictor, which feeds it the logits
that it gave there, clamped to -32 and 32: transformers does not pass them on. So every round starts anew with
all prompts so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components._autocast import guard
from sfrbench.components.base_prompts import Box, Said
from sfrbench.components.core import Precision
from sfrbench.components.foundation._sam2_features import Features, Frames
from sfrbench.components.foundation._sam2_said import OnSlice, by_slice
from sfrbench.components.foundation._sam2_tracker import Denials, Tracker
from sfrbench.components.foundation.prompted import UNSEEN, Shown, span_of


@dataclass(frozen=True)
class Tracking:
    """How slices are tracked."""

    direction: Literal["both", "forward"] = "both"
    denials: Denials = "remembered"
    precision: Precision = "fp32"


class Sam2Model:
    """The network, ready for volumes."""

    def __init__(self, network: nn.Module, tracking: Tracking) -> None:
        guard(network)
        self.network: Any = network
        self.tracking = tracking
        self.device = "cpu"

    def to(self, device: str) -> Sam2Model:
        """On a device, in place."""
        self.network.to(device)
        self.device = device
        return self

    @property
    def canvas(self) -> int:
        """Side of the square frames, pixels."""
        return int(self.network.config.image_size)

    def autocast(self) -> torch.autocast:
        """What networks run under."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.tracking.precision == "bf16")

    def encode(self, pixels: Tensor) -> Sequence[Tensor]:
        """Feature maps of a frame (1, 3, I, I), (h * w, 1, C) each, finest first."""
        with torch.inference_mode(), self.autocast():
            found = self.network.get_image_features(pixels, return_dict=True)
        maps: Sequence[Tensor] = found.fpn_hidden_states
        return maps

    def positions(self, part: Any, channels: int) -> Tensor:
        """Encodings (h * w, 1, C) of the coarsest map by a part of the network, in float32: under autocast
        transformers would count pixels in bf16."""
        size = (1, channels, self.canvas // 16, self.canvas // 16)
        with torch.inference_mode():
            found: Tensor = part.position_encoding(size, torch.device(self.device), torch.float32)
            return found.flatten(2).permute(2, 0, 1)

    def open(self, shown: Shown) -> Sam2Volume:
        """A volume, of which nothing is encoded yet."""
        network = self.network
        seen = self.positions(network.vision_encoder.neck, network.hidden_dim)
        remembered = self.positions(network.memory_encoder, network.mem_dim)
        return Sam2Volume(self, Features(shown, self.canvas, self.encode, seen), remembered)


@dataclass(frozen=True)
class Sam2Volume:
    """A volume, the features of its slices, and the position encodings of a memory."""

    model: Sam2Model
    features: Features
    positions: Tensor

    def an_object(self, extent: Box | None) -> Sam2Object:
        """A new object; ``extent`` is not needed."""
        return Sam2Object(self)


@dataclass(frozen=True)
class Sam2Object:
    """One object. It keeps nothing from round to round, since each starts anew."""

    volume: Sam2Volume

    def segment(self, said: Sequence[Said]) -> NDArray[np.float32]:
        """Logits (X, Y, Z) after all that was said.

        Tracking starts at the first prompted slice and goes to the last slice of the span, and in direction
        'both' from there to its first one as well, with the prompts alone in memory again.
        """
        shape = self.volume.features.shown.image.shape
        first, last = span_of(said, shape[2])
        logits = np.full(shape, UNSEEN, np.float32)
        prompts = {index - first: on for index, on in by_slice(said).items() if first <= index <= last}
        if not prompts:
            return logits
        with torch.inference_mode(), self.volume.model.autocast():
            for frame, low in self._tracked(prompts, first, last - first + 1):
                sized = F.interpolate(low.float(), shape[:2], mode="bilinear", align_corners=False)
                logits[:, :, first + frame] = sized[0, 0].cpu().numpy()
        return logits

    def _tracked(
        self, prompts: Mapping[int, OnSlice], first: int, frames: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Frame by frame, its small logits."""
        model, features = self.volume.model, self.volume.features
        rows, columns = features.shown.image.shape[:2]
        cache = Frames(features, first)
        tracker = Tracker(model.network, cache, frames, (rows, columns), self.volume.positions)
        tracker.run(prompts, model.tracking.denials)
        yield from tracker.propagate(min(prompts), reverse=False)
        if model.tracking.direction == "both":
            yield from tracker.propagate(min(prompts), reverse=True)
