"""Canvases that training sees again and again, encoded once: for methods that leave the encoder alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

#: One canvas (1, I, I) float32 and its labels (I, I) int64, from a case and the number of a view.
Draw = Callable[[str, int], tuple[Tensor, Tensor]]


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

    def batch(self, names: Sequence[str], device: str) -> tuple[Tensor, Tensor]:
        """Embeddings (B, C, h, w), as the encoder gave them, and labels (B, I, I) int64, on ``device``."""
        found = [self._view(name) for name in names]
        embeddings = torch.cat([view["embedding"] for view in found])
        labels = torch.stack([view["label"] for view in found])
        return embeddings.to(device), labels.to(device).long()

    def _view(self, name: str) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save_file

        path = self._folder / f"{name}.safetensors"
        if path.is_file():
            try:
                return load_file(path)
            except SafetensorError:  # cut short on the disk: made anew, with the same bits
                path.unlink()
        image, label = self._draw(*self._views[name])
        with torch.no_grad():
            embedding = self._encode(image[None])
        self.encoded += 1
        view = {"embedding": embedding.cpu().contiguous(), "label": label.cpu().to(torch.uint8).contiguous()}
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")  # a kill while writing leaves no half of a view
        save_file(view, temporary)
        os.replace(temporary, path)
        return view
