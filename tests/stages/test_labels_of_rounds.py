"""Which cases a round of SFR+ labels: those whose labels its re-training can read, and no other."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from sfrbench.components.base import Component, Selector
from sfrbench.components.selector.threshold import Everything, Nothing, Quantile, Tau
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext
from sfrbench.errors import DataError
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.pseudolabel import run as pseudolabel
from sfrbench.stages.retrain import data
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.select import run as select
from sfrbench.store.store import Artefact
from tests.support.prepared import PATCH, make_prepared, net, sam
from tests.support.specs import GOOD, keys, plan_of
from tests.support.stages import settings_of, stage_of

TOLD = {"split": {"labeled": 1}, "patch": PATCH, "rot_flip": True, "pseudo": "none"}
PLUS = GOOD.replace("seeds: [0, 1]", "  - {name: plus, pseudo: offline, selector: tau}\nseeds: [0]")
Parts = dict[str, Component]


def run(folder: Path, stage: Any, parts: Parts, inputs: dict[str, Artefact], **settings: Any) -> Artefact:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    told = settings_of(stage, **{**TOLD, **settings})
    stage.run(StageContext(parts, told, inputs, 1, folder / "out", folder / "scratch"))
    return artefact_of(stage_of(stage), folder / "out")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    """What stands before a round, and the confidences; labels of all four unlabelled cases."""
    folder = tmp_path_factory.mktemp("first")
    made = {"prepare": make_prepared(folder / "prepared")}
    made["finetune"] = run(folder / "finetune", finetune, sam(steps=2), made)
    made["pseudolabel"] = run(folder / "labels", pseudolabel, sam(), made, sam_stride=PATCH)
    made["before"] = run(folder / "retrain", retrain, net(steps=2), made, pseudo="offline")
    inputs = {"prepare": made["prepare"], "retrain": made["before"]}
    made["select"] = run(folder / "select", select, net(), inputs, stride=PATCH, keep="certainty")
    return made


def confidences(first: dict[str, Artefact]) -> dict[str, float]:
    with first["select"].path("confidence.csv").open(encoding="utf-8") as stream:
        return {row["case"]: float(row["all"]) for row in csv.DictReader(stream)}


def labels(folder: Path, first: dict[str, Artefact], selector: Selector, **settings: Any) -> Artefact:
    inputs = {role: first[role] for role in ("prepare", "finetune", "select")}
    parts = {**sam(), "selector": selector}
    return run(folder, pseudolabel, parts, inputs, sam_stride=PATCH, **settings)


def trained(
    folder: Path, first: dict[str, Artefact], selector: Selector, made: Artefact, **fields: Any
) -> dict[str, bytes]:
    inputs = {role: first[role] for role in ("prepare", "before", "select")} | {"pseudolabel": made}
    parts = {**net(steps=8, **fields), "selector": selector}
    after = run(folder, retrain, parts, inputs, pseudo="offline", first_iteration=2)
    return {name: after.path(name).read_bytes() for name in after.record["files"] if name != "history.csv"}


def stored(made: Artefact) -> set[str]:
    return {Path(name).stem for name in made.record["files"] if name != "index.json"}


@pytest.mark.parametrize(
    "selector",
    [Quantile(share=0), Quantile(share=0.25), Quantile(share=0.75), Everything(), Nothing(), Tau(tau=0.0),
     Tau(tau=1.0), Quantile(share=0.5, both=True), Quantile(share=0.5, unit="crop")],
    ids=repr,
)  # fmt: skip
def test_each_case_that_can_be_read_is_labelled_and_none_else(
    tmp_path: Path, first: dict[str, Artefact], selector: Selector
) -> None:
    known = confidences(first)
    least = selector.threshold(list(known.values()))
    wanted = {case for case, c in known.items() if c < least or selector.both or selector.unit == "crop"}
    made = labels(tmp_path / "few", first, selector)
    assert stored(made) == set(made.read_json("index.json")["cases"]) == wanted
    for case in wanted:
        name = f"labels/{case}.npy"
        assert made.path(name).read_bytes() == first["pseudolabel"].path(name).read_bytes()
    found = [trained(tmp_path / name, first, selector, source)
             for name, source in (("all", first["pseudolabel"]), ("needed", made))]  # fmt: skip
    assert found[0] == found[1]


def test_soft_labels_are_left_out_alike(tmp_path: Path, first: dict[str, Artefact]) -> None:
    results = []
    for name, selector in (("few", Quantile(share=0.5)), ("all", Quantile(share=0.5, both=True))):
        made = labels(tmp_path / name, first, selector, keep="probabilities")
        assert len(stored(made)) == (2 if name == "few" else 4)
        soft = {"pseudo_labels": "soft", "batch_unlabeled": 2}
        results.append(trained(tmp_path / f"{name}-net", first, Quantile(share=0.5), made, **soft))
    assert results[0] == results[1]


def test_a_case_without_labels_is_named(tmp_path: Path, first: dict[str, Artefact]) -> None:
    known = confidences(first)
    made = labels(tmp_path / "few", first, Quantile(share=0.75))
    left_out = sorted(known, key=lambda case: -known[case])[:3]
    with pytest.raises(DataError) as caught:
        trained(tmp_path / "net", first, Quantile(share=0), made)
    assert "has no pseudo-labels" in str(caught.value)
    assert any(case in str(caught.value) for case in left_out)


def test_labels_of_no_case_need_no_model(
    tmp_path: Path, first: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudolabel, "by_sam", None)
    made = labels(tmp_path, first, Everything())
    assert list(made.record["files"]) == ["index.json"]


@pytest.mark.parametrize(("selector", "labelled"), [(Nothing(), 8), (Everything(), 0)])
def test_online_sam_labels_no_step_that_reads_no_label(
    tmp_path: Path,
    first: dict[str, Artefact],
    monkeypatch: pytest.MonkeyPatch,
    selector: Selector,
    labelled: int,
) -> None:
    forwards: list[int] = []
    made = data.fine_tuned_forward

    def counted(*args: Any) -> Any:
        forward = made(*args)
        return lambda images: (forwards.append(len(images)), forward(images))[1]

    monkeypatch.setattr(data, "fine_tuned_forward", counted)
    inputs = {role: first[role] for role in ("prepare", "before", "select", "finetune")}
    parts = {**sam(), **net(steps=8), "selector": selector}
    after = run(tmp_path / "few", retrain, parts, inputs, pseudo="online", first_iteration=2)
    assert len(forwards) == labelled
    if not labelled:  # no L_pl: where labels would have come from makes no difference
        offline = trained(tmp_path / "off", first, selector, first["pseudolabel"])
        assert offline["model.safetensors"] == after.path("model.safetensors").read_bytes()


def test_a_round_labels_by_what_its_selection_says(tmp_path: Path) -> None:
    """Where the selector labels all cases in any event, it is in no key of labels."""
    made = plan_of(tmp_path, PLUS)
    node = made.nodes[made.cells[-1].nodes["pseudolabel_2"]]
    assert node.inputs["select"] == made.cells[-1].nodes["select_2"]
    assert "selector" in node.keyed
    for name in ("none", "{name: tau, labels: all}", "both", "{name: tau, unit: crop}"):
        other = plan_of(tmp_path, PLUS.replace("selector: tau", f"selector: {name}"))
        node = other.nodes[other.cells[-1].nodes["pseudolabel_2"]]
        assert set(node.inputs) == {"prepare", "finetune"}
        assert node.keyed == ()


def test_confidences_may_come_of_fewer_windows(tmp_path: Path) -> None:
    for way, stride in (("evaluation", [32, 32, 16]), ("half", [16, 16, 8])):
        made = plan_of(tmp_path, PLUS, sets=(f"selector.windows={way}",))
        assert made.nodes[made.cells[-1].nodes["select_1"]].settings.told()["stride"] == stride
        assert made.nodes[made.cells[-1].nodes["predict"]].settings.told()["stride"] == [32, 32, 16]


def test_the_fewest_windows_are_of_pseudo_labels_alone(tmp_path: Path) -> None:
    """And the field left alone leaves the keys as they were."""
    spec = GOOD.replace("seeds: [0, 1]", "  - {name: sam, stages: [finetune, predict]}\nseeds: [0]")
    before, after = (plan_of(tmp_path, spec, sets=sets) for sets in ((), ("dataset.label_windows=fewest",)))
    for role in ("prepare", "finetune", "predict", "pseudolabel"):
        arm = "sfr seed 0" if role == "pseudolabel" else "sam seed 0" if role == "predict" else "sfr seed 0"
        assert (keys(before, role)[arm] == keys(after, role)[arm]) == (role != "pseudolabel")
    told = [made.nodes[made.cells[2].nodes["pseudolabel"]].settings.told() for made in (before, after)]
    assert told[0] == {"split": {"labeled": 2, "choice": 0, "val": 0, "unlabeled": None},
                       "patch": [32, 32, 16], "sam_stride": [16, 16, 8]}  # fmt: skip
    assert told[1] == {"windows": "fewest", **{k: v for k, v in told[0].items() if k != "sam_stride"}}
