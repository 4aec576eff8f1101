"""SAM-Med3D and clicks: which it is given, what it remembers, and that nothing else decides its answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base_prompts import Box, Click, Prompter, Said, Voxel
from sfrbench.components.foundation._sam_med3d_talk import Prompted, Volume
from sfrbench.components.foundation.prompted import Shown
from sfrbench.components.foundation.sam_med3d import SamMed3d, SamMed3dToy
from sfrbench.errors import InputError, NotReadyError

SHAPE = (26, 22, 14)
Pictures = NDArray[np.float32]


def image(shape: Sequence[int] = SHAPE, seed: int = 0) -> Pictures:
    """A z-scored volume of noise with a bright ball."""
    noise = np.random.default_rng(seed).normal(0, 0.4, shape)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    made = noise + 2 * ((places**2).sum(0) < 0.3)
    return ((made - made.mean()) / made.std()).astype(np.float32)


def opened(card: SamMed3dToy | None = None, pixels: Pictures | None = None, spacing: float = 1.0) -> Volume:
    pixels = image() if pixels is None else pixels
    model = (card or SamMed3dToy()).prompted(None)
    assert isinstance(model, Prompted)
    return model.open(Shown(pixels, (-2.0, 2.0), (spacing,) * 3, Path("unused")))


def click(*at: int, inside: bool = True) -> Said:
    x, y, z = at
    return Said((Click((x, y, z), inside),))


TALK = (click(12, 11, 7), click(3, 4, 5, inside=False), click(17, 9, 6), click(20, 18, 12, inside=False))
AROUND = Box((6, 5, 3), (18, 16, 10))


def answers(volume: Volume, rounds: Sequence[Said] = TALK, extent: Box | None = AROUND) -> list[Pictures]:
    subject = volume.an_object(extent)
    return [subject.segment(tuple(rounds[: number + 1])) for number in range(len(rounds))]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the toy's decoder is given from now on, and what it answers."""
    seen: list[dict[str, Any]] = []
    from sfrbench.components.foundation._sam_med3d_net import SamMed3dNet

    plain = SamMed3dNet.answer

    def answer(
        self: SamMed3dNet, embedding: Tensor, places: Tensor, labels: Tensor, previous: Tensor
    ) -> Tensor:
        low = plain(self, embedding, places, labels, previous)
        told = {"places": places.tolist(), "labels": labels.tolist(), "previous": previous, "low": low}
        seen.append({**told, "embedding": embedding})
        return low

    monkeypatch.setattr(SamMed3dNet, "answer", answer)
    return seen


@pytest.mark.parametrize("points", ["all", "newest"])
def test_which_clicks_the_model_is_given(points: Any, asked: list[dict[str, Any]]) -> None:
    """All, or those of the newest round; in both cases its last logits as they were, zeros at first."""
    volume = opened(SamMed3dToy(points=points))
    two = Said((Click((9, 9, 9), True), Click((14, 12, 5), False)))
    answers(volume, (click(12, 11, 7), two, click(8, 7, 6, inside=False)))
    begin = volume.grid.begin(AROUND, 32)

    def voxel(*at: int) -> list[int]:
        return [int((place + 0.5) / 1.5) - low for place, low in zip(at, begin, strict=True)]

    wanted = [[(voxel(12, 11, 7), 1)], [(voxel(9, 9, 9), 1), (voxel(14, 12, 5), 0)], [(voxel(8, 7, 6), 0)]]
    for number, one in enumerate(asked):
        given = list(zip(one["places"], one["labels"], strict=True))
        assert given == (wanted[number] if points == "newest" else list(chain(*wanted[: number + 1])))
    assert len(asked) == 3
    assert not asked[0]["previous"].any()
    assert asked[0]["previous"].shape == (1, 1, 16, 16, 16)
    for before, after in pairwise(asked):
        assert after["previous"] is before["low"]
        assert after["embedding"] is before["embedding"]  # made once for a cube


def test_logits_are_the_decoders_on_the_grid_of_the_volume(asked: list[dict[str, Any]]) -> None:
    """Trilinear to 32 voxels, halves between corners left as they are, then the nearest voxel; so a mask of
    logits above 0 is one of probabilities above one half."""
    volume = opened(spacing=1.5)
    made = answers(volume)[-1]
    low = asked[-1]["low"][0, 0].double().numpy()
    begin = volume.grid.begin(AROUND, 32)
    for voxel in ((12, 11, 7), (0, 0, 0), (25, 21, 13), (6, 19, 2)):
        value = 0.0
        corners = []
        for place, first in zip(voxel, begin, strict=True):
            at = min(max((place - first + 0.5) / 2 - 0.5, 0), 15)
            below = min(int(at), 14)
            corners.append(((below, 1 - (at - below)), (below + 1, at - below)))
        for x, a in corners[0]:
            for y, b in corners[1]:
                for z, c in corners[2]:
                    value += a * b * c * low[x, y, z]
        assert made[voxel] == pytest.approx(value, abs=1e-5)
    assert made.shape == SHAPE
    assert made.dtype == np.float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_talk_repeats_to_the_bit_in_any_company(precision: Any) -> None:
    """Other cases and objects before it, and between its rounds, change nothing."""
    card = SamMed3dToy(precision=precision)
    alone = answers(opened(card))
    model = card.prompted(None)
    before = model.open(Shown(image(seed=4), (0.0, 1.0), (1.0, 1.0, 1.0), Path("unused")))
    before.an_object(AROUND).segment(TALK[:1])
    volume = model.open(Shown(image(), (0.0, 1.0), (1.0, 1.0, 1.0), Path("unused")))
    other, subject = volume.an_object(Box((0, 0, 0), (4, 4, 4))), volume.an_object(AROUND)
    for number, wanted in enumerate(alone):
        other.segment((click(2, 2, 2, inside=bool(number % 2)),) * (number + 1))
        assert np.array_equal(subject.segment(TALK[: number + 1]), wanted)
    assert len({made.tobytes() for made in alone}) == len(alone)  # every click changes something


def test_pixels_are_counted_from_the_volumes_minimum() -> None:
    """So a volume is the same whatever is added to it; with 'zero' as the background it is not."""
    for background, same in (("minimum", True), ("zero", False)):
        card = SamMed3dToy.model_validate({"background": background})
        one, two = (answers(opened(card, pixels))[-1] for pixels in (image(), image() + np.float32(0.75)))
        assert np.allclose(one, two, atol=1e-4) == same


def test_a_click_outside_of_the_cube_says_nothing(asked: list[dict[str, Any]]) -> None:
    """The answer of before stays; before the first one inside there is none, and all is negative."""
    pixels = image((70, 22, 14))
    volume = opened(None, pixels, spacing=1.5)
    far, near = click(69, 3, 3), click(12, 11, 7)
    first, second, third = answers(volume, (far, near, far))
    assert (first < 0).all()
    assert np.array_equal(second, third)
    assert (second > 0).any()
    assert [one["labels"] for one in asked] == [[1]]
    assert (second[volume.grid.begin(AROUND, 32)[0] + 32 :] < 0).all()
    answers(volume, (near, Said((*far.clicks, Click((10, 10, 5), False)))))
    assert asked[-1]["labels"] == [1, 0]  # of a round the clicks inside count


def test_the_cube_lies_around_the_truth_or_the_first_click() -> None:
    assert SamMed3d().given_extent
    assert not SamMed3d(centre="click").given_extent
    volume = opened(SamMed3dToy(centre="click"), image((90, 80, 40)), spacing=1.5)
    subject = volume.an_object(None)
    logits = subject.segment((click(50, 40, 20),))
    looked = np.argwhere(logits > -99)
    assert looked.min(0).tolist() == [50 - 16, 40 - 16, 20 - 16]
    assert looked.max(0).tolist() == [50 + 15, 40 + 15, 20 + 15]
    moved = subject.segment((click(50, 40, 20), click(60, 30, 25, inside=False)))
    assert np.array_equal(moved > -99, logits > -99)


@pytest.mark.parametrize(
    ("shape", "extent", "at"),
    [
        ((60, 60, 60), Box((0, 0, 0), (59, 59, 59)), (30, 30, 30)),
        ((40, 30, 20), Box((0, 0, 0), (0, 0, 0)), (0, 0, 0)),
        ((40, 30, 20), Box((39, 29, 19), (39, 29, 19)), (39, 29, 19)),
        ((40, 30, 1), Box((3, 4, 0), (20, 20, 0)), (9, 9, 0)),
    ],
    ids=["larger than the cube", "one voxel in a corner", "one in the other", "one slice"],
)
def test_odd_objects(shape: tuple[int, int, int], extent: Box, at: Voxel) -> None:
    volume = opened(None, image(shape), spacing=1.5)
    (logits,) = answers(volume, (click(*at),), extent)
    assert logits.shape == shape
    assert np.isfinite(logits).all()
    assert logits[at] > -99  # it was looked at
    if shape[0] == 60:
        assert (logits > -99).sum() == 32**3  # the rest of the object is not


def test_slices_out_of_the_span_stay_empty() -> None:
    said = Said((Click((12, 11, 7), True),), span=(4, 9))
    (logits,), (plain,) = answers(opened(), (said,)), answers(opened(), (click(12, 11, 7),))
    assert (logits[..., :4] < 0).all()
    assert (logits[..., 10:] < 0).all()
    assert np.array_equal(logits[..., 4:10], plain[..., 4:10])


def test_boxes_are_not_understood() -> None:
    with pytest.raises(InputError, match="box"):
        opened().an_object(AROUND).segment((Said(boxes=(AROUND,)),))


def test_the_cards() -> None:
    """They name their weights, which are needed, and the clicks that they give."""
    catalog = Catalog.read()
    today, old, toy = (catalog.card("foundation", f"sam_med3d{name}") for name in ("", "_2024", "_toy"))
    one, two, small = today.component({}), old.component({}), toy.component({})
    assert isinstance(one, SamMed3d)
    assert isinstance(two, SamMed3d)
    assert isinstance(small, SamMed3dToy)
    assert one.model_copy(update={"points": "newest"}) == two
    assert one.weights == two.weights == "sam_med3d_turbo"
    assert small.weights is None
    assert {card.family for card in (one, two, small)} == {"sam_med3d"}
    with pytest.raises(NotReadyError, match="sam_med3d_turbo"):
        one.prompted(None)
    clicks = catalog.card("prompter", "clicks").component({})
    assert isinstance(clicks, Prompter)
    assert one.conflicts({"prompter": clicks, "foundation": one}) == []
    assert torch.is_grad_enabled()
