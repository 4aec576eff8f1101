"""SAM 2 over the slices of a volume: equal to transformers' own session, whatever is dropped and reused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2VideoInferenceSession

from sfrbench.components.base_prompts import Box, Click, Said
from sfrbench.components.foundation import _sam2_said
from sfrbench.components.foundation._sam2_features import frame
from sfrbench.components.foundation._sam2_session import Sam2Model
from sfrbench.components.foundation._sam2_tracker import Tracker
from sfrbench.components.foundation.prompted import UNSEEN, Shown, span_of
from sfrbench.components.foundation.sam2 import Sam2Toy
from tests.support.pretend import pretended

SHAPE = (37, 29, 6)  # sides that are no multiple of anything
CANVAS = 64
Points = list[tuple[float, float, int]]  # column, row, label

SAID = (
    Said(clicks=(Click((15, 12, 3), True), Click((5, 20, 3), False))),
    Said(clicks=(Click((20, 10, 4), True),)),
)


def shown(folder: Path, slices: int = SHAPE[2], first: int = 0) -> Shown:
    """Noise with a bright block; ``first`` leaves slices before it out."""
    image = np.random.default_rng(1).standard_normal((*SHAPE[:2], slices)).astype(np.float32)
    image[10:25, 8:20, 2:] += 2
    low, high = np.percentile(image, (0.5, 99.5))
    folder.mkdir(parents=True, exist_ok=True)
    return Shown(image[:, :, first:], (float(low), float(high)), (1.0, 1.0, 1.0), folder)


@pytest.fixture(scope="module")
def toy() -> Sam2Model:
    made = Sam2Toy(canvas=CANVAS).prompted(None)
    assert isinstance(made, Sam2Model)
    return made


def made(**fields: object) -> Sam2Model:
    model = Sam2Toy.model_validate({"canvas": CANVAS, **fields}).prompted(None)
    assert isinstance(model, Sam2Model)
    return model


def segmented(model: Sam2Model, seen: Shown, *said: Said) -> NDArray[np.float32]:
    return model.open(seen).an_object(None).segment(said)


class Theirs:
    """Transformers' session on a whole video, as its documentation has it."""

    def __init__(self, model: Sam2Model, seen: Shown) -> None:
        self.network = model.network
        self.shape = seen.image.shape[:2]
        slices = seen.image.shape[2]
        video = torch.cat([frame(seen.grey(at), CANVAS) for at in range(slices)])
        self.session = Sam2VideoInferenceSession(video=video, dtype=torch.float32)

    def click(self, frame: int, points: Points, run: bool = True) -> None:
        """Points in voxels: column, row, label."""
        scale = (CANVAS / self.shape[1], CANVAS / self.shape[0])
        places = torch.tensor([[[[x * scale[0], y * scale[1]] for x, y, _ in points]]])
        labels = torch.tensor([[[label for *_, label in points]]], dtype=torch.int32)
        at = self.session.obj_id_to_idx(9)
        self.session.add_point_inputs(at, frame, {"point_coords": places, "point_labels": labels})
        self.run(frame, run)

    def absent(self, frame: int) -> None:
        at = self.session.obj_id_to_idx(9)
        self.session.add_mask_inputs(at, frame, torch.zeros(1, 1, CANVAS, CANVAS))
        self.run(frame, True)

    def run(self, frame: int, run: bool) -> None:
        self.session.obj_with_new_inputs = [9]
        if run:
            self.network(self.session, frame_idx=frame)

    def propagate(self, start: int, reverse: bool = False) -> Iterator[tuple[int, Tensor]]:
        for out in self.network.propagate_in_video_iterator(self.session, start, reverse=reverse):
            sized = F.interpolate(out.pred_masks, self.shape, mode="bilinear", align_corners=False)
            yield out.frame_idx, sized[0, 0]

    def frames(self, kind: str) -> set[int]:
        return set(self.session.output_dict_per_obj[0][f"{kind}_frame_outputs"])


def theirs(
    model: Sam2Model, seen: Shown, clicks: dict[int, Points], absent: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """Both directions, each in a session of its own with the same prompts."""
    found = np.zeros(seen.image.shape, np.float32)
    for reverse in (True, False):
        session = Theirs(model, seen)
        for at in sorted([*clicks, *absent]):
            if at in clicks:
                session.click(at, clicks[at])
            else:
                session.absent(at)
        for at, logits in session.propagate(min([*clicks, *absent]), reverse):
            found[:, :, at] = logits.numpy()
    return found


def test_clicks_are_as_in_transformers_session(tmp_path: Path, toy: Sam2Model) -> None:
    seen = shown(tmp_path)
    clicks: dict[int, Points] = {3: [(12, 15, 1), (20, 5, 0)], 4: [(10, 20, 1)]}
    ours = segmented(toy, seen, *SAID)
    assert np.array_equal(ours, theirs(toy, seen, clicks))
    assert ours.shape == SHAPE
    assert ours.dtype == np.float32
    assert (ours > 0).any()
    assert (ours < 0).any()


def test_boxes_and_absence_are_as_in_transformers_session(tmp_path: Path, toy: Sam2Model) -> None:
    seen = shown(tmp_path)
    said = Said(boxes=(Box((10, 8, 2), (24, 19, 2)),), clicks=(Click((15, 12, 2), True),), absent=(1, 5))
    clicks: dict[int, Points] = {2: [(8, 10, 2), (19, 24, 3), (12, 15, 1)]}
    ours = segmented(toy, seen, said)
    assert np.array_equal(ours, theirs(toy, seen, clicks, absent=(1, 5)))
    assert np.abs(ours[:, :, [1, 5]] + 10).max() < 1e-5


def test_a_box_of_the_whole_object_stands_on_its_middle_slice(tmp_path: Path, toy: Sam2Model) -> None:
    seen = shown(tmp_path)
    whole = segmented(toy, seen, Said(boxes=(Box((10, 8, 1), (24, 19, 6)),)))
    middle = segmented(toy, seen, Said(boxes=(Box((10, 8, 3), (24, 19, 3)),)))
    assert np.array_equal(whole, middle)
    assert (whole[:, :, 0] != UNSEEN).any()  # beyond the box, too


def test_what_is_dropped_is_not_read(tmp_path: Path, toy: Sam2Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over more slices than a memory (6) or a pointer (here 7) lives, in both directions."""
    monkeypatch.setattr(toy.network.config, "max_object_pointers_in_encoder", 8)
    seen, said = shown(tmp_path, slices=19), Said(clicks=(Click((15, 12, 9), True),))
    kept: list[Tracker] = []
    run = Tracker.run
    monkeypatch.setattr(Tracker, "run", lambda self, *args: (kept.append(self), run(self, *args)))
    dropping = segmented(toy, seen, said)
    tracked = kept[0].tracked
    assert len(tracked) == 7
    assert sum("maskmem_features" in entry for entry in tracked.values()) == 6
    entries = [*tracked.values(), *kept[0].conditioning.values()]
    assert not any("high_res_masks" in entry for entry in entries)
    monkeypatch.setattr(Tracker, "_drop", lambda *_: None)
    monkeypatch.setattr(Tracker, "_lighten", lambda *_: None)
    assert np.array_equal(segmented(toy, seen, said), dropping)
    assert len(kept[1].tracked) == 9


@pytest.mark.parametrize("canvas", [64, 128])
def test_state_of_a_frame(canvas: int) -> None:
    def wanted(side: int) -> int:
        """Small and full mask, memory in bf16, its encodings, pointer, score."""
        return (
            (side // 4) ** 2 * 4
            + side**2 * 4
            + (side // 16) ** 2 * 64 * (2 + 4)
            + 256 * 4
            + 4
        )  # fmt: skip

    model = made(canvas=canvas)
    session = Sam2VideoInferenceSession(video=torch.zeros(1, 3, canvas, canvas), dtype=torch.float32)
    at = session.obj_id_to_idx(1)
    session.add_mask_inputs(at, 0, torch.zeros(1, 1, canvas, canvas))
    session.obj_with_new_inputs = [1]
    out = model.network(session, frame_idx=0)
    assert (out.pred_masks + 10).abs().max() < 1e-5
    assert (out.object_score_logits == -10).all()
    state = session.output_dict_per_obj[at]["cond_frame_outputs"][0]
    assert sum(value.numel() * value.element_size() for value in state.values()) == wanted(canvas)
    assert wanted(1024) == 6_030_340


def test_prompts_have_to_be_run_before_propagation(tmp_path: Path, toy: Sam2Model) -> None:
    """What transformers does, and why every prompted slice is run first."""
    seen = shown(tmp_path, slices=6)
    session = Theirs(toy, seen)
    for at in (0, 2, 4):
        session.click(at, [(12, 15, 1)])
    assert [at for at, _ in session.propagate(0)] == list(range(6))
    assert session.frames("cond") == {0, 2, 4}
    assert session.frames("non_cond") == {1, 3, 5}

    trap = Theirs(toy, seen)
    for at in (2, 4):
        trap.click(at, [(12, 15, 1)], run=False)
    list(trap.propagate(0))
    assert trap.frames("cond") == {0, 1, 2}
    assert trap.frames("non_cond") == {3, 4, 5}

    late = Theirs(toy, seen)
    late.click(0, [(12, 15, 1)])
    list(late.propagate(0))
    late.click(3, [(12, 15, 1)])
    assert late.frames("cond") == {0}


def test_objects_do_not_know_of_each_other(tmp_path: Path, toy: Sam2Model) -> None:
    """Whatever their order, and whether slices were encoded for one before: the same bits."""
    one, other = SAID[:1], (Said(clicks=(Click((30, 5, 4), True),)),)
    volume = toy.open(shown(tmp_path / "a"))
    first = [volume.an_object(None).segment(said) for said in (one, other)]
    volume = toy.open(shown(tmp_path / "b"))
    second = [volume.an_object(None).segment(said) for said in (other, one)]
    assert np.array_equal(first[0], second[1])
    assert np.array_equal(first[1], second[0])


def test_rounds_are_as_all_at_once_and_slices_are_encoded_once(
    tmp_path: Path, toy: Sam2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = toy.encode
    monkeypatch.setattr(toy, "encode", lambda pixels: (encoded.append(1), encode(pixels))[1])
    volume = toy.open(shown(tmp_path / "a"))
    subject = volume.an_object(None)
    subject.segment(SAID[:1])
    later = subject.segment(SAID)
    assert len(encoded) == SHAPE[2]
    assert np.array_equal(later, segmented(made(), shown(tmp_path / "b"), *SAID))


def test_a_span_is_all_that_is_looked_at(tmp_path: Path, toy: Sam2Model) -> None:
    """As if the volume ended there."""
    within = Said(clicks=(Click((15, 12, 3), True),), absent=(0,), span=(2, 4))
    found = segmented(toy, shown(tmp_path / "a"), within)
    assert (found[:, :, [0, 1, 5]] == UNSEEN).all()
    seen = shown(tmp_path / "b")
    cut = Shown(seen.image[:, :, 2:5], seen.range, seen.spacing, seen.scratch)
    alone = segmented(toy, cut, Said(clicks=(Click((15, 12, 1), True),)))
    assert np.array_equal(found[:, :, 2:5], alone)
    assert (segmented(toy, seen, Said(absent=(0,), span=(2, 4))) == UNSEEN).all()


def test_forward_leaves_what_lies_before(tmp_path: Path, toy: Sam2Model) -> None:
    both = segmented(toy, shown(tmp_path / "a"), *SAID)
    forward = segmented(made(direction="forward"), shown(tmp_path / "b"), *SAID)
    assert (forward[:, :, :3] == UNSEEN).all()
    assert np.array_equal(forward[:, :, 3:], both[:, :, 3:])


def test_a_slice_of_negative_clicks_alone_has_the_memory_of_the_others(
    tmp_path: Path, toy: Sam2Model
) -> None:
    seen = shown(tmp_path)
    said = Said(clicks=(Click((15, 12, 4), True), Click((5, 20, 1), False)))
    alone = segmented(made(denials="alone"), seen, said)
    assert np.array_equal(alone, theirs(toy, seen, {1: [(20, 5, 0)], 4: [(12, 15, 1)]}))
    remembered = segmented(toy, seen, said)
    assert not np.array_equal(remembered[:, :, 1], alone[:, :, 1])
    assert np.array_equal(remembered[:, :, 4], alone[:, :, 4])  # which is prompted by itself
    only = Said(clicks=(Click((5, 20, 1), False),))
    assert np.array_equal(segmented(toy, seen, only), segmented(made(denials="alone"), seen, only))


def test_bf16_is_near_and_repeats(tmp_path: Path, toy: Sam2Model) -> None:
    exact = segmented(toy, shown(tmp_path / "a"), *SAID)
    model = made(precision="bf16")
    volume = model.open(shown(tmp_path / "b"))
    found, again = (volume.an_object(None).segment(SAID) for _ in range(2))
    assert np.array_equal(found, again)
    assert not np.array_equal(found, exact)
    judged = (exact != UNSEEN) & (found != UNSEEN)  # near its threshold a score may fall to either side
    assert judged.mean() > 0.5
    assert np.abs(found - exact)[judged].mean() < 0.1


def grey_of(image: NDArray[np.float32], value_range: tuple[float, float]) -> NDArray[np.float32]:
    return Shown(image[:, :, None], value_range, (1.0, 1.0, 1.0), Path()).grey(0)


def test_a_frame_is_a_picture_of_8_bits() -> None:
    image = np.linspace(-3, 5, 64 * 64, dtype=np.float32).reshape(64, 64)
    found = frame(grey_of(image, (-2.0, 4.0)), 64)
    grey = np.round(np.clip((image.astype(np.float64) + 2) / 6, 0, 1) * 255) / 255
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        assert np.abs(found[0, channel].numpy() - (grey - mean) / std).max() < 0.02  # a step is 1/255
        assert np.abs(found[0, channel].numpy() - (grey - mean) / std).mean() < 1e-5
    row = np.zeros((20, 40), np.float32)
    row[:5] = 1  # rows are the first axis
    sized = frame(grey_of(row, (0.0, 1.0)), 64)[0, 0]
    assert (sized[:12] > 0).all()
    assert (sized[24:] < 0).all()


def test_what_was_said_by_slices() -> None:
    first, second = Click((1, 2, 5), True), Click((3, 4, 5), False)
    box, later = Box((0, 0, 2), (9, 9, 2)), Box((1, 1, 2), (8, 8, 2))
    found = _sam2_said.by_slice(
        [Said(clicks=(first,), boxes=(box,), absent=(7, 9)), Said(clicks=(second,), boxes=(later,))]
    )
    assert list(found) == [2, 5, 7, 9]
    assert found[5].places == [(1, 2), (3, 4)]
    assert found[5].labels == [1, 0]
    assert (found[2].places, found[2].labels) == ([(1, 1), (8, 8)], [2, 3])
    assert found[7].places == []
    assert not found[7].only_denies
    assert _sam2_said.OnSlice(clicks=(second,)).only_denies
    assert not found[5].only_denies
    taken_back = _sam2_said.by_slice([Said(absent=(5,)), Said(clicks=(first,)), Said(absent=(5,))])
    assert taken_back[5].labels == [1]
    assert _sam2_said.by_slice([Said(boxes=(Box((0, 0, 10), (1, 1, 21)),))]).keys() == {15}
    assert span_of([Said(span=(1, 4)), Said()], 10) == (1, 4)
    assert span_of([Said()], 10) == (0, 9)


def test_on_a_card(tmp_path: Path, toy: Sam2Model) -> None:
    """No tensor is left behind, in all forms of prompts; numbers are those of the processor."""
    said = Said(clicks=(Click((15, 12, 3), True),), boxes=(Box((10, 8, 4), (24, 19, 4)),), absent=(1,))
    here = segmented(toy, shown(tmp_path / "a"), said)
    with pretended():
        model = made().to("cuda")
        assert np.array_equal(segmented(model, shown(tmp_path / "b"), said), here)
