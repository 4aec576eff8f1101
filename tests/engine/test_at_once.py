"""How many windows go through a network at once, on a GPU that is made up."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from sfrbench.components.stitch.grid import GridStitch
from sfrbench.engine.at_once import MOST, AtOnce, that_fit
from sfrbench.engine.inference import sam_forward, slide
from tests.support.pixel_sam import PixelSam

GB = 2**30


@pytest.mark.parametrize(
    ("free", "each", "count"),
    [
        (10 * GB, GB, 4),  # 7 GB are for windows
        (12 * GB, GB, 8),
        (GB, 2 * GB, 1),  # to be tried at least
        (0, GB, 1),
        (80 * GB, GB // 8, MOST),
        (80 * GB, 0, MOST),
    ],
)
def test_windows_that_fit(free: int, each: int, count: int) -> None:
    assert that_fit(free, each) == count


@dataclass
class Card:
    """A GPU of ``total`` bytes on which a window takes ``each`` while it is computed. The first one seems to
    take ``seems``."""

    total: int
    each: int
    seems: int
    peak: int = 0
    tidied: int = 0
    batches: list[int] = field(default_factory=list)

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        facts = {
            "memory_allocated": lambda device: 0,
            "max_memory_allocated": lambda device: self.peak,
            "memory_reserved": lambda device: GB // 4,
            "mem_get_info": lambda device: (self.total - GB // 4, self.total),
            "empty_cache": self.tidy,
        }
        for name, answer in facts.items():
            monkeypatch.setattr(torch.cuda, name, answer)

    def tidy(self) -> None:
        self.tidied += 1

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(patches))
        if len(patches) * self.each > self.total:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.peak = max(self.peak, self.seems)
        return torch.stack([patches, patches**2], 1)


def volume() -> torch.Tensor:
    return torch.randn(32, 16, 16, generator=torch.Generator().manual_seed(1))


def slid(card: Card, batch: int | AtOnce) -> torch.Tensor:
    return slide(volume(), (8, 8, 8), (4, 4, 4), card.forward, 2, batch)


def test_the_first_window_tells_how_many_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(total=12 * GB, each=GB, seems=GB)
    card.put_in(monkeypatch)
    result = slid(card, AtOnce.on("cuda:0"))
    assert card.batches == [1, *[8] * 7, 6]  # 63 windows
    assert torch.equal(result, slid(card, 1))


def test_each_volume_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(total=12 * GB, each=GB, seems=GB)
    card.put_in(monkeypatch)
    at_once = AtOnce.on("cuda")
    slid(card, at_once)
    card.total = 3 * GB
    card.batches.clear()
    slid(card, at_once)
    assert set(card.batches[:-1]) == {2}


def test_too_many_windows_are_halved_and_the_prediction_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(total=12 * GB, each=5 * GB, seems=GB)
    card.put_in(monkeypatch)
    at_once = AtOnce.on("cuda:1")
    result = slid(card, at_once)
    assert card.batches == [1, 8, 4, *[2] * 31]
    assert card.tidied == 2
    assert torch.equal(result, slid(card, 1))
    card.batches.clear()
    slid(card, at_once)
    assert set(card.batches) == {2, 1}  # the next volume does not try again


def test_where_not_even_one_window_fits_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(total=GB, each=2 * GB, seems=GB)
    card.put_in(monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        slid(card, AtOnce.on("cuda"))


def test_another_fault_is_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(total=12 * GB, each=GB, seems=GB)
    card.put_in(monkeypatch)
    at_once = AtOnce.on("cuda")
    slid(card, at_once)

    def broken(patches: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        slide(volume(), (8, 8, 8), (4, 4, 4), broken, 2, at_once)


def test_a_cpu_takes_one_window_and_asks_no_gpu() -> None:
    card = Card(total=0, each=0, seems=0)
    slid(card, AtOnce.on("cpu"))
    assert set(card.batches) == {1}


def test_canvases_go_through_sam_as_windows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at first, then as many as fit."""
    card = Card(total=3 * GB, each=GB, seems=GB, peak=GB)
    card.put_in(monkeypatch)
    model, at_once = PixelSam(), AtOnce.on("cuda")
    forward = sam_forward(model, GridStitch(), at_once)  # type: ignore[arg-type]
    slide(torch.zeros(32, 30, 24), (32, 30, 6), (32, 30, 6), forward, 3, at_once)
    assert model.batches == [1, 1, *[2] * 3]  # two canvases a patch
