"""The evaluate stage, on a tiny store made by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfrbench.components.protocol.standard import StandardProtocol
from sfrbench.engine.context import StageContext
from sfrbench.engine.volumes import harden
from sfrbench.errors import DataError
from sfrbench.maths.metrics import METRICS, score_case
from sfrbench.stages.evaluate import run as evaluate
from sfrbench.stages.evaluate.recipe import EvaluateSettings
from sfrbench.store.store import Artefact, Store

CLASSES = ["background", "anterior", "posterior"]
SPACING = (1.0, 0.7, 2.0)
STRICT = StandardProtocol(spacing="mm")


def published(store: Store, stage: str, index: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Artefact:
    folder = store.new_folder()
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    for name, array in arrays.items():
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / name, array)
    return store.publish(stage, "0" * 64, folder, {})


@pytest.fixture
def truth() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    labels = {case: rng.integers(0, 3, (6, 5, 4)).astype(np.uint8) for case in ("a", "b", "c")}
    labels["c"][labels["c"] == 2] = 0  # one class absent
    return labels


@pytest.fixture
def prepare(tmp_path: Path, truth: dict[str, NDArray[np.uint8]]) -> Artefact:
    entry = {"shape": [6, 5, 4], "spacing": SPACING, "affine": None, "range": [-1, 1], "source": {}}
    index = {"dataset": "tiny", "classes": CLASSES, "train": ["a"], "test": ["b", "c"]}
    index["cases"] = dict.fromkeys(truth, entry)
    labels = {f"labels/{case}.npy": label for case, label in truth.items()}
    return published(Store(tmp_path), "prepare", index, labels)


Rows = list[dict[str, str]]


def evaluated(tmp_path: Path, prepare: Artefact, prediction: Artefact) -> tuple[Rows, dict[str, Any]]:
    out = tmp_path / "out"
    out.mkdir()
    inputs = {"prepare": prepare, "prediction": prediction}
    evaluate.run(
        StageContext({"protocol": STRICT}, EvaluateSettings(), inputs, seed=0, out=out, scratch=tmp_path)
    )
    with (out / "scores.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return rows, json.loads((out / "ledger.json").read_text(encoding="utf-8"))


def test_scores_each_case_class_and_metric(tmp_path: Path, prepare: Artefact, truth: dict[str, Any]) -> None:
    preds = {case: np.roll(truth[case], 1, axis=0) for case in ("c", "b")}
    arrays = {f"labels/{case}.npy": pred for case, pred in preds.items()}
    prediction = published(Store(tmp_path), "predict", {"cases": list(preds)}, arrays)
    rows, ledger = evaluated(tmp_path, prepare, prediction)
    assert ledger == {"labels_opened": ["b", "c"], "purpose": "evaluate"}
    expected = [
        {
            "case": case,
            "class": CLASSES[score.label],
            "metric": score.metric,
            "value": "" if np.isnan(score.value) else repr(score.value),
            "empty_pred": str(score.empty_pred),
            "empty_gt": str(score.empty_gt),
        }
        for case in ("c", "b")
        for score in score_case(preds[case], truth[case], 3, SPACING, STRICT)
    ]
    assert rows == expected
    absent = [row for row in rows if row["case"] == "c" and row["class"] == "posterior"]
    assert len(absent) == len(METRICS)
    assert {(row["value"], row["empty_gt"]) for row in absent} == {("", "True")}


def deepened_case(store: Store, label: NDArray[np.uint8]) -> Artefact:
    """One test case of four slices of 2.4 mm that ``dataset.min_depth`` made six of 1.6 mm."""
    entry: dict[str, Any] = {"shape": [6, 5, 6], "spacing": [1.0, 0.7, 1.6], "affine": None, "range": [-1, 1]}
    cases = {case: {**entry, "source": {"depth": 4}} for case in ("a", "b")}
    index = {"dataset": "tiny", "classes": CLASSES, "train": ["a"], "test": ["b"], "cases": cases}
    return published(store, "prepare", index, {"labels/b.npy": label})


@pytest.mark.parametrize("kind", ["labels", "probs"])
def test_volumes_interpolated_along_z_are_scored_on_their_own_slices(tmp_path: Path, kind: str) -> None:
    """Against the four slices, in their spacing. By centres the old slice i lies in the new one
    floor((2 i + 1) 6 / 8): 0, 2, 3, 5; and the new ones in the old 0, 0, 1, 2, 3, 3."""
    rng = np.random.default_rng(1)
    truth, pred = (rng.integers(0, 3, (6, 5, depth)).astype(np.uint8) for depth in (4, 6))
    deep, store = truth[..., [0, 0, 1, 2, 3, 3]], Store(tmp_path)
    probs = np.stack([pred == label for label in (1, 2)]).astype(np.float16)
    array, stage = {"labels": (pred, "predict"), "probs": (probs, "pseudolabel")}[kind]
    prediction = published(store, stage, {"cases": ["b"]}, {f"{kind}/b.npy": array})
    rows, _ = evaluated(tmp_path, deepened_case(store, deep), prediction)
    found = [float(row["value"]) for row in rows]
    own = score_case(pred[..., [0, 2, 3, 5]], truth, 3, (1.0, 0.7, 2.4), STRICT)
    assert found == pytest.approx([score.value for score in own], rel=1e-12)
    interpolated = score_case(pred, deep, 3, (1.0, 0.7, 1.6), STRICT)
    assert found != pytest.approx([score.value for score in interpolated], rel=1e-2)


def test_a_prediction_of_another_depth_is_a_fault_though_it_could_be_cut(tmp_path: Path) -> None:
    store = Store(tmp_path)
    prepare = deepened_case(store, np.zeros((6, 5, 6), np.uint8))
    arrays = {"labels/b.npy": np.zeros((6, 5, 8), np.uint8)}
    with pytest.raises(DataError, match=r"case b .*\[6, 5, 8\], the label \[6, 5, 6"):
        evaluated(tmp_path, prepare, published(store, "predict", {"cases": ["b"]}, arrays))


def test_probabilities_are_hardened(tmp_path: Path, prepare: Artefact, truth: dict[str, Any]) -> None:
    probs = np.stack([truth["a"] == label for label in (1, 2)]).astype(np.float16) * np.float16(0.6)
    prediction = published(Store(tmp_path), "pseudolabel", {"cases": ["a"]}, {"probs/a.npy": probs})
    rows, ledger = evaluated(tmp_path, prepare, prediction)
    assert ledger["labels_opened"] == ["a"]
    assert {float(row["value"]) for row in rows if row["metric"] == "dice"} == {1.0}


def test_harden_gives_background_the_rest_and_ties_to_the_lowest() -> None:
    pairs = [(0.0, 0.0), (0.3, 0.3), (0.5, 0.0), (0.25, 0.5), (0.5, 0.5), (0.2, 0.7)]
    probs = np.array(pairs, dtype=np.float16).T.reshape(2, 6, 1, 1)
    assert harden(probs, 3).ravel().tolist() == [0, 0, 0, 2, 1, 2]


@pytest.mark.parametrize(
    ("index", "arrays", "what"),
    [
        (["b"], {"labels/b.npy": np.zeros((6, 5, 3), np.uint8)}, r"case b .*\[6, 5, 3\], the label \[6"),
        (["b", "c"], {"labels/b.npy": np.zeros((6, 5, 4), np.uint8)}, "case c .*holds no prediction"),
        (["z"], {"labels/z.npy": np.zeros((6, 5, 4), np.uint8)}, "case z .*no such case"),
        (["b"], {"labels/b.npy": np.full((6, 5, 4), 3, np.uint8)}, r"case b .*not 0\.\.2"),
        (["b"], {"labels/b.npy": np.zeros((6, 5, 4), np.float32)}, "case b .*float32"),
        (["b"], {"probs/b.npy": np.zeros((3, 6, 5, 4), np.float16)}, "case b .*2 foreground channels"),
        (["b"], {"probs/b.npy": np.full((2, 6, 5, 4), np.nan, np.float16)}, "case b .*not finite"),
    ],
)
def test_faults_name_the_case(
    tmp_path: Path, prepare: Artefact, index: list[str], arrays: dict[str, NDArray[Any]], what: str
) -> None:
    prediction = published(Store(tmp_path), "predict", {"cases": index}, arrays)
    with pytest.raises(DataError, match=what):
        evaluated(tmp_path, prepare, prediction)
