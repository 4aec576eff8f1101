"""Scores of prompted models: the best round of each class, and Medical SAM 2's own Dice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Protocol
from sfrbench.components.base_prompts import Said
from sfrbench.components.prompter.clicks import Clicks
from sfrbench.components.protocol.standard import StandardProtocol
from sfrbench.errors import DataError
from sfrbench.maths.metrics import METRICS, score_case
from sfrbench.maths.slice_dice import scored_slices, slice_mean
from sfrbench.report.render import captions
from tests.support import prompted
from tests.support.prompted import Corrector
from tests.support.talks import Talks, labels_of, maps_of, said_of

SHAPE = (14, 12, 9)
MEDSAM2 = Catalog.read().card("protocol", "medsam2")


def medsam2(**fields: Any) -> Protocol:
    protocol = MEDSAM2.component(fields)
    assert isinstance(protocol, Protocol)
    return protocol


def written(value: float) -> str:
    return "" if np.isnan(value) else repr(value)


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Talks:
    return Talks.of(tmp_path_factory.mktemp("talks"), labels_of(SHAPE, 4, cases=3), 4)


@pytest.mark.parametrize("largest", [False, True])
def test_best_is_the_round_of_the_highest_dice_by_case_and_class(talks: Talks, largest: bool) -> None:
    """Against all rounds scored one by one: all metrics of a class are of its best Dice's first round."""
    protocol = StandardProtocol(spacing="mm", largest_component=largest)
    talk = talks(f"best{largest}", prompter=Clicks(number=6), seed=3)
    found, out = talks.scores(talk, 5, best=True, protocol=protocol)
    rounds = json.loads((out / "best_rounds.json").read_text("utf-8"))
    for case, truth in labels_of(SHAPE, 4, cases=3).items():
        every = {
            number: {
                (score.label, score.metric): score.value
                for score in score_case(labels, truth, 4, (1, 1, 2), protocol)
            }
            for number, labels in maps_of(talk, case).items()
            if number <= 5
        }
        for label in (1, 2, 3):
            dices = [every[number][label, "dice"] for number in range(1, 6)]
            best = 1 + dices.index(max(dices))
            assert rounds[case][f"c{label}"] == best
            for metric in METRICS:
                assert found[case, f"c{label}", metric] == written(every[best][label, metric])
    assert {number for of_case in rounds.values() for number in of_case.values()} > {5}  # no round for all


def test_best_up_to_a_round_never_falls(talks: Talks) -> None:
    talk = talks("rising", prompter=Clicks(number=6), seed=3)
    dices = [
        [
            float(value)
            for (_, _, metric), value in talks.scores(talk, after, best=True)[0].items()
            if metric == "dice"
        ]
        for after in range(1, 7)
    ]
    assert np.diff(np.asarray(dices), axis=0).min() >= 0
    last = talks.scores(talk, 1)[0]
    assert dices[0] == [float(value) for (_, _, metric), value in last.items() if metric == "dice"]


def reference(logits: NDArray[np.float64], truth: NDArray[np.bool_], thresholds: tuple[float, ...]) -> float:
    """Medical SAM 2's score of one object on these slices, written out."""
    values = []
    for z in range(truth.shape[2]):
        for threshold in thresholds:
            predicted = {(x, y) for x, y in zip(*np.nonzero(logits[..., z] > threshold), strict=True)}
            there = {(x, y) for x, y in zip(*np.nonzero(truth[..., z]), strict=True)}
            values.append((2 * len(predicted & there) + 1e-4) / (len(predicted) + len(there) + 1e-4))
    return sum(values) / len(values)


def test_the_slice_mean_by_its_formula() -> None:
    rng = np.random.default_rng(0)
    thresholds = (0.1, 0.3, 0.5, 0.7, 0.9)
    for _ in range(5):
        logits = rng.normal(0, 1, (5, 4, 6))
        truth = rng.random((5, 4, 6)) < 0.2
        truth[..., 2] = False
        passed = np.sum([logits > threshold for threshold in thresholds], axis=0).astype(np.uint8)
        assert slice_mean(passed, truth, 5) == pytest.approx(reference(logits, truth, thresholds), rel=1e-12)


def test_empty_against_empty_is_1_and_flatters() -> None:
    """A case with 1 of 10 slices labelled and an empty prediction: about 0.9, where its volume Dice is 0."""
    truth = np.zeros((8, 8, 10), bool)
    truth[2:5, 2:5, 4] = True
    exact = (9 + 1e-4 / (9 + 1e-4)) / 10
    for empty in (None, np.zeros(truth.shape, np.uint8)):
        assert slice_mean(empty, truth, 5) == pytest.approx(exact, rel=1e-12)
    assert exact == pytest.approx(0.9, abs=1e-5)
    (score, *_) = score_case(np.zeros(truth.shape, int), truth.astype(int), 2, None, StandardProtocol())
    assert (score.metric, score.value) == ("dice", 0.0)
    assert slice_mean(np.full(truth.shape, 5, np.uint8) * truth, truth, 5) == 1.0
    assert np.isnan(slice_mean(None, np.zeros((3, 3, 2), bool), 5))


@pytest.mark.parametrize(("count", "quarter"), [(88, 22), (9, 2), (4, 1), (3, 1), (1, 1)])
def test_the_slices_that_are_scored(count: int, quarter: int) -> None:
    """From the first labelled one; int(n / 4) of them as released, and one at least (ours)."""
    label = np.zeros((2, 2, count + 7), np.uint8)
    label[0, 0, 3] = 1
    label[1, 1, 3 + count - 1] = 2
    assert scored_slices(label, "labelled") == slice(3, 3 + count)
    assert scored_slices(label, "first_quarter") == slice(3, 3 + quarter)
    assert scored_slices(np.zeros_like(label), "first_quarter") == slice(0, 0)


@pytest.mark.parametrize("slices", ["labelled", "first_quarter"])
def test_the_protocol_scores_an_objects_own_logits(talks: Talks, slices: str) -> None:
    """Dice from the model's answers to the prompts that are on record; all else as by 'paper'."""
    protocol = medsam2(dice_slices=slices)
    thresholds = protocol.logit_thresholds
    assert thresholds == (0.1, 0.3, 0.5, 0.7, 0.9)
    talk = talks(f"logits {slices}", prompter=Corrector(number=3), thresholds=thresholds)
    found, _ = talks.scores(talk, 2, protocol=protocol)
    paper, _ = talks.scores(talk, 2, protocol=StandardProtocol(empty="paper_zero", absent="score"))
    scored = 0
    for case, truth in labels_of(SHAPE, 4, cases=3).items():
        within = scored_slices(truth, protocol.dice_slices)
        said = said_of(talk, case)
        for label in (1, 2, 3):
            rounds = [Said.of(one) for one in said[f"c{label}"]["said"][:2]]
            logits = prompted._Object(4.0, SHAPE, None).segment(rounds).astype(np.float64)[..., within]
            there = truth[..., within] == label
            value = found[case, f"c{label}", "dice"]
            if there.any():
                assert float(value) == pytest.approx(reference(logits, there, thresholds), rel=1e-12)
                scored += 1
            else:
                assert value == ""
            for metric in set(METRICS) - {"dice"}:
                assert found[case, f"c{label}", metric] == paper[case, f"c{label}", metric]
    assert scored == 9 if slices == "labelled" else 0 < scored < 9


def test_predictions_without_logits_are_no_prediction_of_this_protocol(talks: Talks, tmp_path: Path) -> None:
    talk = talks("plain", prompter=Corrector(number=2))
    with pytest.raises(Exception, match="passed/t0"):
        talks.scores(talk, 2, protocol=medsam2())
    talks.folder.joinpath("labels", "labels").mkdir(parents=True)
    for case, label in labels_of(SHAPE, 4, cases=3).items():
        np.save(talks.folder / "labels" / "labels" / f"{case}.npy", label)
    (talks.folder / "labels" / "index.json").write_text(json.dumps({"cases": ["t0"]}), encoding="utf-8")
    from sfrbench.conformance.material import artefact_of

    with pytest.raises(DataError, match=r"case t0 .*keeps no logits"):
        talks.scores(artefact_of("predict", talks.folder / "labels"), None, protocol=medsam2())


def test_a_report_says_what_kind_of_dice_it_is() -> None:
    """And nothing of it where it is that of a volume."""
    said = captions._rules(medsam2().model_dump(mode="json"), ["dice"])
    assert "mean over slices (the first quarter from the first" in said
    assert "logits above 0.1, 0.3, 0.5, 0.7, 0.9, 1 where both are empty" in said
    paper = captions._rules(StandardProtocol().model_dump(mode="json"), ["dice"])
    assert "slices" not in paper
    assert "dice" not in paper.lower()


def test_thresholds_ascend() -> None:
    for wrong in ((0.5, 0.1), (0.1, 0.1), (-1.0, 0.5), ()):
        with pytest.raises(ValueError, match="dice_thresholds"):
            StandardProtocol(dice="slice_mean", dice_thresholds=wrong)
    assert StandardProtocol().logit_thresholds is None
