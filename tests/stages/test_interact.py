"""The stage interact: what a talk leaves, whatever the volume, and after any kill."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Said
from sfrbench.components.foundation.prompted import PromptedModel
from sfrbench.components.prompter.clicks import Clicks
from sfrbench.engine import disk_arrays
from sfrbench.engine.predictions import label_map, thresholds_passed
from sfrbench.errors import DataError
from sfrbench.stages.interact.maps import Maps
from tests.support import prompted
from tests.support.prompted import Ball, Corrector, LaterBall
from tests.support.talks import Talks, content, labels_of, maps_of, said_of

SHAPE = (14, 12, 9)


@pytest.fixture
def talks(tmp_path: Path) -> Talks:
    return Talks.of(tmp_path, labels_of(SHAPE, 3), 3)


@pytest.mark.parametrize("overlap", ["larger", "later"])
def test_overlaps_are_settled_round_by_round(tmp_path: Path, overlap: Literal["larger", "later"]) -> None:
    """Against the definition, in float64: the largest logit above 0, the earlier class of equal ones; or the
    last class above 0."""
    logits = np.random.default_rng(0).integers(-2, 4, (3, 2, 4, 3, 5)).astype(np.float32)  # class, round
    maps = Maps(2, logits.shape[2:], overlap, tmp_path)
    for label, of_class in enumerate(logits, start=1):
        for number, one in enumerate(of_class, start=1):
            maps.put(label, number, one)
    for number in (1, 2):
        now = logits[:, number - 1].astype(np.float64)
        above = now > 0
        larger = np.where(above, now, 0).argmax(axis=0) + 1
        later = 3 - above[::-1].argmax(axis=0)
        wanted = np.where(above.any(axis=0), larger if overlap == "larger" else later, 0)
        assert maps.rounds[str(number)].tolist() == wanted.tolist()


def test_the_stage_keeps_a_map_after_each_round(talks: Talks) -> None:
    """By the numbers of the model itself, one object and one round after the other."""
    talk = talks(prompter=Corrector(number=3))
    for case in ("t0", "t1"):
        said = said_of(talk, case)
        for number, labels in maps_of(talk, case).items():
            best = np.zeros(SHAPE)
            wanted = np.zeros(SHAPE, np.uint8)
            for label, name in enumerate(("c1", "c2"), start=1):
                rounds = [Said.of(one) for one in said[name]["said"][:number]]
                logits = prompted._Object(4.0, SHAPE, None).segment(rounds)
                wins = logits > best
                wanted[wins], best[wins] = label, logits[wins]
            assert labels.dtype == np.uint8
            assert labels.tolist() == wanted.tolist()
    assert talk.read_json("index.json")["rounds"] == 3
    took = talk.read_json("index.json")["seconds_per_round"]
    assert len(took) == 3
    assert all(seconds >= 0 for seconds in took)


def test_the_first_clicks_of_five_are_those_of_two(talks: Talks) -> None:
    few, many = (talks(f"{n}", prompter=Clicks(number=n), seed=7) for n in (2, 5))
    other = talks("other", prompter=Clicks(number=2), seed=8)
    for case in ("t0", "t1"):
        two, five = said_of(few, case), said_of(many, case)
        for name, one in two.items():
            assert one["said"] == five[name]["said"][:2]
            assert one["said"] != said_of(other, case)[name]["said"]
        for number, labels in maps_of(few, case).items():
            assert np.array_equal(labels, maps_of(many, case)[number])


def test_a_case_is_the_same_whichever_cases_there_are(tmp_path: Path) -> None:
    labels = labels_of(SHAPE, 3, cases=3)
    whole = Talks.of(tmp_path / "whole", labels, 3)(prompter=Clicks(number=3))
    alone = Talks.of(tmp_path / "alone", {"t2": labels["t2"]}, 3)(prompter=Clicks(number=3))
    assert said_of(whole, "t2") == said_of(alone, "t2")
    assert whole.path("rounds/t2.npz").read_bytes() == alone.path("rounds/t2.npz").read_bytes()


def test_an_object_stays_where_its_user_has_no_more_to_say(tmp_path: Path) -> None:
    """A box that is filled exactly is right after one round."""
    label = np.zeros(SHAPE, np.uint8)
    label[2:6, 3:9, 1:4] = 1

    class Boxes(prompted.Boxer):
        @property
        def rounds(self) -> int:
            return 4

        def say(self, scene: Any) -> Said:
            return super().say(scene) if not scene.prediction.any() else Said()

    talk = Talks.of(tmp_path, {"t0": label}, 2)(prompter=Boxes())
    assert said_of(talk, "t0")["c1"] == {"said": [{"boxes": [[2, 3, 1, 5, 8, 3]]}], "dice": [100.0]}
    assert [np.array_equal(one, label) for one in maps_of(talk, "t0").values()] == [True] * 4
    assert talk.read_json("index.json")["seconds_per_round"][1:] == [None] * 3


def test_of_absent_classes_nobody_speaks(tmp_path: Path) -> None:
    labels = labels_of(SHAPE, 4)
    labels["t0"][labels["t0"] == 2] = 0
    labels["t1"][:] = 0
    talks = Talks.of(tmp_path, labels, 4)
    talk = talks(prompter=Corrector(number=2))
    assert said_of(talk, "t0")["c2"] == {"said": [], "dice": []}
    assert all(one["said"] == [] for one in said_of(talk, "t1").values())
    assert not any(one.any() for one in maps_of(talk, "t1").values())
    assert talk.read_json("ledger.json")["prompts"] == {"t0": 4, "t1": 0}
    assert talks.scores(talk, 2)[0]["t1", "c1", "dice"] == ""
    assert talks.scores(talk, 2, best=True)[0]["t1", "c1", "dice"] == ""


@pytest.mark.parametrize(("shape", "classes"), [((9, 8, 1), 3), ((1, 7, 5), 2), ((16, 16, 10), 14)])
def test_any_volume_and_13_classes(tmp_path: Path, shape: tuple[int, int, int], classes: int) -> None:
    labels = labels_of(shape, classes)
    talks = Talks.of(tmp_path, labels, classes)
    for name, foundation in (("larger", Ball(radius=2)), ("later", LaterBall(radius=2, extent=True))):
        talk = talks(name, prompter=Clicks(number=2), foundation=foundation)
        for case in labels:
            found = maps_of(talk, case)
            assert list(found) == [1, 2]
            present = {int(value) for value in np.unique(labels[case])} - {0}
            assert {int(value) for value in np.unique(found[2])} - {0} <= present
            assert all(len(said_of(talk, case)[f"c{value}"]["said"]) == 2 for value in present)
        assert len(talks.scores(talk, 2)[0]) == 2 * (classes - 1) * 7


class Killed(Exception):
    """Stands for a kill."""


def _dying(after: int, how: Any) -> type[Ball]:
    """A ball whose model ends the process when it is asked once more than that."""
    left = [after]

    class Dying(Ball):
        def prompted(self, weights: Path | None) -> PromptedModel:
            model = super().prompted(weights)
            segment = prompted._Object.segment

            def dies(one: Any, said: Sequence[Said]) -> NDArray[np.float32]:
                left[0] -= 1
                if left[0] < 0:
                    how()
                return segment(one, said)

            class Object(prompted._Object):
                segment = dies

            class Volume(prompted._Volume):
                def an_object(self, extent: Any) -> Object:
                    return Object(self.radius, self.shape, extent)

            model.open = lambda shown: Volume(4.0, shown.image.shape)  # type: ignore[method-assign]
            return model

    return Dying


@pytest.mark.parametrize("after", [0, 3, 6, 9])
def test_kill_9_loses_a_case_and_no_bit(tmp_path: Path, after: int) -> None:
    """A process of its own is killed before the first answer, within the first case of six answers, between
    the cases, and within the second."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    talks = Talks.of(tmp_path, labels_of(SHAPE, 3), 3)
    asked = {"prompter": Corrector(number=3), "thresholds": (0.5, 1.5)}
    whole = talks("whole", **asked)
    ended = _dying(after, lambda: os.kill(os.getpid(), signal.SIGKILL))()
    process = multiprocessing.get_context("fork").Process(
        target=lambda: talks("again", foundation=ended, **asked)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    again = talks("again", **asked)
    assert content(again) == content(whole)
    assert not (tmp_path / "again" / "scratch" / ".volume").exists()
    assert not (tmp_path / "again" / "out" / ".volume").exists()


def test_a_finished_case_is_not_asked_again(talks: Talks) -> None:
    def stop(done: int, total: int, **values: float) -> None:
        if done == 1:
            raise Killed

    asked = {"prompter": Corrector(number=3)}
    with pytest.raises(Killed):
        talks("again", progress=stop, **asked)
    again = talks("again", foundation=_dying(6, pytest.fail)(), **asked)  # two classes, three rounds
    assert content(again) == content(talks("whole", **asked))


def test_a_full_disk_is_told_before_anything_is_written(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(OSError, match="No space") as caught:
            talks("again")
        assert str(caught.value.filename).endswith("labels")
    assert content(talks("again")) == content(talks("whole"))


def test_a_limit_of_file_sizes_is_an_error_and_no_signal(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            disk_arrays.disk_array(tmp_path / "large", (4096,), np.float32)
        except OSError as error:
            os._exit(error.errno == errno.EFBIG)
        os._exit(7)

    process = multiprocessing.get_context("fork").Process(target=limited)
    process.start()
    process.join(60)
    assert process.exitcode == 1
    assert not (tmp_path / "large").exists(), "what was reserved would keep a full disk full"


def test_a_file_system_that_reserves_nothing_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
    monkeypatch.setattr(disk_arrays, "_PIECE", 7)
    array = disk_arrays.disk_array(tmp_path / "array", (3, 5), np.uint8)
    assert array.shape == (3, 5)
    assert not array.any()
    assert (tmp_path / "array").stat().st_blocks > 0


def test_memory_does_not_grow_with_the_rounds(tmp_path: Path) -> None:
    """What is on the heap beside the model's own arrays is the same for 3 and for 12 rounds."""
    label = np.zeros((64, 64, 32), np.uint8)
    label[10:50, 10:50, 5:25] = 1
    talks, peaks = Talks.of(tmp_path, {"t0": label}, 2), {}
    for rounds in (3, 12):
        tracemalloc.start()
        talks(f"{rounds}", prompter=Corrector(number=rounds), thresholds=(0.5,))
        peaks[rounds] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[12] < peaks[3] + 0.5 * label.size
    assert peaks[12] < 40 * label.size


def _altered(talk: Any, case: str, **arrays: NDArray[Any]) -> Any:
    from sfrbench.conformance.material import artefact_of

    with (talk.folder / f"rounds/{case}.npz").open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return artefact_of("interact", talk.folder)


def test_damaged_rounds_are_an_error_that_names_the_case(talks: Talks) -> None:
    from sfrbench.conformance.material import artefact_of

    talk = talks(prompter=Corrector(number=2))
    with pytest.raises(DataError, match=r"case t0 .*no round 3"):
        talks.scores(talk, 3)
    wrong = _altered(talk, "t0", **{"1": np.full(SHAPE, 3, np.uint8)})
    with pytest.raises(DataError, match=r"case t0 .*not 0\.\.2"):
        talks.scores(wrong, 1)
    small = _altered(talk, "t0", **{"1": np.zeros((3, 3, 3), np.uint8)})
    for best in (False, True):
        with pytest.raises(DataError, match=r"case t0 .*\[3, 3, 3\], the label \[14, 12, 9\]"):
            talks.scores(small, 1, best=best)
    for broken in (b"", b"PK\x03\x04 and no more", talk.path("rounds/t1.npz").read_bytes()[:-40]):
        (talk.folder / "rounds/t0.npz").write_bytes(broken)
        with pytest.raises(DataError, match=r"case t0 .*rounds/t0\.npz cannot be read"):
            talks.scores(artefact_of("interact", talk.folder), 1)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (np.full(SHAPE, np.nan, np.float32), "no numbers"),
        (np.zeros((2, 2, 2), np.float32), r"shape \[2, 2, 2\]"),
    ],
)
def test_what_no_model_may_answer(
    talks: Talks, monkeypatch: pytest.MonkeyPatch, answer: NDArray[np.float32], what: str
) -> None:
    monkeypatch.setattr(prompted._Object, "segment", lambda one, said: answer)
    with pytest.raises(DataError, match=rf"case t0, c1, round 1 .*{what}"):
        talks()


def test_how_many_thresholds_each_logit_is_above(talks: Talks) -> None:
    """Before overlaps are settled; where a user has no more to say, those of the last round."""
    thresholds = (0.1, 0.5, 2.0)
    talk = talks(prompter=Corrector(number=2), thresholds=thresholds)
    for case in ("t0", "t1"):
        for label, name in ((1, "c1"), (2, "c2")):
            rounds = [Said.of(one) for one in said_of(talk, case)[name]["said"]]
            for after in (1, 2):
                logits = prompted._Object(4.0, SHAPE, None).segment(rounds[:after]).astype(np.float64)
                found = thresholds_passed(talk, case, label, after)
                wanted = sum((logits > np.float32(threshold)).astype(int) for threshold in thresholds)
                assert found is not None
                assert found.tolist() == np.asarray(wanted).tolist()
            last = thresholds_passed(talk, case, label, 2)
            beyond = thresholds_passed(talk, case, label, 9)
            assert np.array_equal(np.asarray(last), np.asarray(beyond))
    assert thresholds_passed(talk, "t0", 3, 2) is None
    plain = talks("plain", prompter=Corrector(number=2))
    assert not [name for name in plain.record["files"] if name.startswith("passed/")]
    for case in ("t0", "t1"):
        assert np.array_equal(label_map(plain, case, 3, 2), label_map(talk, case, 3, 2))
