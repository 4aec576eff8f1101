"""Canvases that training sees again and again, encoded once: for methods that leave the encoder alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sfrbench.engine.feeding import moved, pinned

#: One canvas (1, I, I) float32 and its labels (I, I) int64, from a case and the number of a view.
Draw = Callable[[str, int], tuple[Tensor, Tensor]]
#: A view as it is stored, its name, and, until it is stored, its canvas and labels.
Found = tuple[str, dict[str, Tensor] | tuple[Tensor, Tensor]]


class FixedViews:
    """``count`` views of each case: embeddings and labels, on disk from the first use on.

    Canvases are encoded one at a time, so an embedding does not depend on what else is in the batch, and a
    resumed run reads the bits that the killed one wrote. ``encoded`` counts the runs of the encoder.
    """

    def __init__(
        self, folder: Path, cases: Sequence[str], count: int, draw: Draw, encode: Callable[[Tensor], Tensor]
    ) -> None:
        self._views = {f"{case}.{view}": (case, view) for case in cases for view in range(count)}
        self._folder, self._draw, self._encode = folder, draw, encode
        self.encoded = 0

    @property
    def names(self) -> list[str]:
        """Every view, case by case."""
        return list(self._views)

    def found(self, names: Sequence[str]) -> list[Found]:
        """What the host has of these views; it may ask before the encoder has run for an earlier step."""
        return [(name, self._stored(name) or self._draw(*self._views[name])) for name in names]

    def batch(self, found: Sequence[Found], device: str) -> tuple[Tensor, Tensor]:
        """Embeddings (B, C, h, w), as the encoder gave them, and labels (B, I, I) int64, on ``device``."""
        views = [self._view(*each) for each in found]
        embeddings = torch.cat([view["embedding"] for view in views])
        labels = torch.stack([view["label"] for view in views])
        embeddings, labels = (moved(pinned(part, device), device) for part in (embeddings, labels))
        return embeddings, labels.long()

    def _stored(self, name: str) -> dict[str, Tensor] | None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._path(name)
        try:
            return load_file(path) if path.is_file() else None
        except SafetensorError:  # cut short on the disk: made anew, with the same bits
            return None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def _view(self, name: str, found: dict[str, Tensor] | tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        from safetensors.torch import save_file

        if isinstance(found, dict):
            return found
        stored = self._stored(name)  # since it was looked for
        if stored is not None:
            return stored
        image, label = found
        with torch.no_grad():
            embedding = self._encode(image[None])
        self.encoded += 1
        view = {"embedding": embedding.cpu().contiguous(), "label": label.cpu().to(torch.uint8).contiguous()}
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._path(name).with_suffix(".new")  # a kill while writing leaves no half of a view
        save_file(view, temporary)
        os.replace(temporary, self._path(name))
        return view
