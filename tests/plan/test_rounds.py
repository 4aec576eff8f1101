"""Rounds of SFR+ and of self-training: how they are planned, and what is confident."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sfrbench.components.base import Selector
from sfrbench.components.selector.threshold import Everything, Nothing, Quantile, Tau
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import backbone_forward, load_backbone, slide
from sfrbench.engine.volumes import Volumes
from sfrbench.maths.sampling import draw_patch
from sfrbench.plan.build import Plan
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.pseudolabel import run as pseudolabel
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.select import run as select
from sfrbench.stages.select.selection import Selection
from sfrbench.store.store import Artefact
from tests.support.prepared import PATCH, make_prepared, net, sam
from tests.support.specs import GOOD, faults, keys, plan_of, stages
from tests.support.stages import settings_of, stage_of

PLUS = GOOD.replace("seeds: [0, 1]", "  - {name: plus, pseudo: offline, selector: tau}\nseeds: [0]")


def plan(tmp_path: Path, spec: str = PLUS, *sets: str) -> Plan:
    return plan_of(tmp_path, spec, sets=sets)


def test_a_round_is_select_finetune_pseudolabel_retrain(tmp_path: Path) -> None:
    made = plan(tmp_path)
    cell = next(cell for cell in made.cells if cell.arm == "plus")
    sfr = next(cell for cell in made.cells if cell.arm == "sfr")
    assert stages(made) == Counter(
        {
            "prepare": 1,
            "finetune": 3,
            "pseudolabel": 3,
            "retrain": 5,
            "select": 2,
            "predict": 4,
            "evaluate": 9,
        }
    )
    assert cell.nodes["retrain_0"] == sfr.nodes["retrain"]
    assert cell.nodes["finetune"] == sfr.nodes["finetune"]
    last = made.nodes[cell.nodes["retrain"]]
    assert last.inputs["before"] == cell.nodes["retrain_1"]
    assert last.inputs["select"] == cell.nodes["select_2"]
    assert last.inputs["pseudolabel"] == cell.nodes["pseudolabel_2"]
    assert made.nodes[cell.nodes["finetune_2"]].inputs["before"] == cell.nodes["finetune_1"]
    assert made.nodes[cell.nodes["predict"]].inputs["model"] == cell.nodes["retrain"]
    assert made.nodes[cell.nodes["evaluate_select_2"]].inputs["prediction"] == cell.nodes["select_2"]
    assert (
        made.nodes[cell.nodes["evaluate_pseudolabel_2"]].inputs["prediction"] == cell.nodes["pseudolabel_2"]
    )
    assert last.settings.told()["first_iteration"] == 4  # two trainings of two steps before


def test_a_sweep_of_tau_shares_everything_before_the_threshold(tmp_path: Path) -> None:
    made = plan(tmp_path, PLUS.replace("seeds: [0]", "axes: {selector.tau: [0.5, 0.9, 0.99]}\nseeds: [0]"))
    assert stages(made)["select"] == 1 + 3  # the first confidences are shared, later ones are of other models
    assert stages(made)["finetune"] == 1 + 2 * 3


@pytest.mark.parametrize(
    ("field", "shared"),
    [("retrain_steps=5", {"finetune_1", "pseudolabel_1"}), ("finetune_steps=5", {"select_1"}),
     ("rounds=3", {"finetune_1", "retrain_1", "finetune_2", "select_2"}),
     ("labels=all", {"select_1", "finetune_1"}), ("windows=half", {"retrain_0", "pseudolabel"})],
)  # fmt: skip
def test_only_what_depends_on_a_field_is_done_again(tmp_path: Path, field: str, shared: set[str]) -> None:
    before, after = plan(tmp_path), plan(tmp_path, PLUS, f"selector.{field}")
    roles = {
        role
        for role in shared | {"retrain"}
        if keys(before, role)["plus seed 0"] == keys(after, role)["plus seed 0"]
    }
    assert roles == shared


def test_self_training_labels_for_the_next_training(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        GOOD.replace("ssl: mean_teacher", "ssl: {name: self_training, rounds: 2}")
        .replace("  - {name: mt, ssl.lambda_cons: 0.2}\n", "  - {name: st}\n")
        .replace("seeds: [0, 1]", "seeds: [0]"),
    )
    cell = {cell.arm: cell for cell in made.cells}
    st, sfr = cell["st"].nodes, cell["sfr"].nodes
    assert set(st) == {
        "prepare",
        "retrain_0",
        "pseudolabel_1",
        "retrain_1",
        "pseudolabel_2",
        "retrain",
        "predict",
        "evaluate",
        "evaluate_pseudolabel_1",
        "evaluate_pseudolabel_2",
    }
    assert made.nodes[st["pseudolabel_2"]].inputs["retrain"] == st["retrain_1"]
    assert made.nodes[st["retrain"]].inputs["pseudolabel"] == st["pseudolabel_2"]
    assert "before" not in made.nodes[st["retrain"]].inputs  # from scratch
    assert made.nodes[sfr["retrain_0"]].inputs["pseudolabel"] == sfr["pseudolabel"]  # SAM's
    assert len({st["retrain_0"], st["retrain_1"], st["retrain"]}) == 3


def test_self_training_with_a_selector_is_refused(tmp_path: Path) -> None:
    spec = PLUS.replace("{name: plus, pseudo: offline,", "{name: plus, pseudo: offline, ssl: self_training,")
    assert "self-training starts anew" in faults(tmp_path, spec)


@pytest.mark.parametrize(
    ("selector", "confident"),
    [(Tau(tau=0.8), {"a", "b"}), (Tau(tau=0.81), {"a"}), (Quantile(share=0.5), {"a", "b"}),
     (Quantile(share=0.25), {"a"}), (Quantile(share=0), set()), (Quantile(share=1), {"a", "b", "c", "d"}),
     (Everything(), {"a", "b", "c", "d"}), (Nothing(), set())],
)  # fmt: skip
def test_thresholds(selector: Selector, confident: set[str]) -> None:
    confidence = {"c": 0.5, "a": 0.95, "b": 0.8, "d": 0.1}
    least = selector.threshold(list(confidence.values()))
    assert {case for case, value in confidence.items() if value >= least} == confident


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return make_prepared(tmp_path_factory.mktemp("prepared") / "a")


class Rounds:
    """Runs stages one after the other in a folder, each under a name."""

    def __init__(self, folder: Path, prepared: Artefact) -> None:
        self.folder, self.prepared = folder, prepared

    def __call__(
        self, stage: Any, name: str, components: Any, inputs: Any = None, **settings: Any
    ) -> Artefact:
        out = self.folder / name
        (out / "out").mkdir(parents=True)
        (out / "scratch").mkdir()
        settings = {"split": {"labeled": 1}, "patch": PATCH, "rot_flip": True, "pseudo": "none", **settings}
        ctx = StageContext(
            components,
            settings_of(stage, **settings),
            {"prepare": self.prepared, **(inputs or {})},
            1,
            out / "out",
            out / "scratch",
        )
        stage.run(ctx)
        self.ctx = ctx
        return artefact_of(stage_of(stage), ctx.out)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, prepared: Artefact) -> dict[str, Artefact]:
    """A first training of SAM and of the segmenter, and the segmenter's confidences."""
    run = Rounds(tmp_path_factory.mktemp("first"), prepared)
    tuned = run(finetune, "finetune", sam(steps=3))
    labels = run(pseudolabel, "pseudolabel", sam(), {"finetune": tuned}, sam_stride=PATCH)
    trained = run(retrain, "retrain", net(steps=6), {"pseudolabel": labels}, pseudo="offline")
    chosen = run(select, "select", net(), {"retrain": trained}, stride=PATCH, keep="certainty")
    return {"finetune": tuned, "pseudolabel": labels, "retrain": trained, "select": chosen}


def test_confidence_is_that_of_equation_8(prepared: Artefact, first: dict[str, Artefact]) -> None:
    volumes = Volumes(prepared)
    network = load_backbone(net()["backbone"], first["retrain"], "last", classes=2, device="cpu")  # type: ignore[arg-type]
    with first["select"].path("confidence.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == ["case1", "case2", "case3", "case4"]
    for row in rows:
        image = torch.from_numpy(np.array(volumes.image(row["case"])))
        probs = slide(image, PATCH, PATCH, backbone_forward(network), 2).double()
        assert float(row["all"]) == pytest.approx(float(probs.max(0).values.mean()), abs=1e-5)
        inside = probs.argmax(0) > 0
        wanted = float(probs.max(0).values[inside].mean()) if inside.any() else 0.0
        assert float(row["foreground"]) == pytest.approx(wanted, abs=1e-5)
        stored = np.load(first["select"].path(f"labels/{row['case']}.npy"))
        np.testing.assert_array_equal(stored, probs.argmax(0).numpy())


def round_of(
    run: Rounds, first: dict[str, Artefact], selector: Selector
) -> tuple[Artefact, Artefact, dict[str, Any]]:
    chosen = {"before": first["finetune"], "select": first["select"]}
    tuned = run(finetune, "finetune", {**sam(steps=2, batch=1), "selector": selector}, chosen)
    notes = dict(run.ctx.notes)
    inputs = {"before": first["retrain"], "select": first["select"], "pseudolabel": first["pseudolabel"]}
    parts = {**net(steps=3), "selector": selector}
    return tuned, run(retrain, "retrain", parts, inputs, pseudo="offline", first_iteration=6), notes


def column(artefact: Artefact, name: str) -> list[str]:
    with artefact.path("history.csv").open(encoding="utf-8") as stream:
        return [row.get(name) or "" for row in csv.DictReader(stream)]


def test_nobody_confident_leaves_sam_alone(
    tmp_path: Path, prepared: Artefact, first: dict[str, Artefact]
) -> None:
    tuned, trained, notes = round_of(Rounds(tmp_path, prepared), first, Nothing())
    old, new = (load_file(part.path("adapter.safetensors")) for part in (first["finetune"], tuned))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert notes["selection"] == {"threshold": "inf", "confident": [], "unlabelled": 4}
    assert all(column(trained, "pseudo"))


def test_everybody_confident_updates_sam_and_is_not_pseudolabelled(
    tmp_path: Path, prepared: Artefact, first: dict[str, Artefact]
) -> None:
    tuned, trained, notes = round_of(Rounds(tmp_path, prepared), first, Everything())
    assert notes["selection"]["confident"] == ["case1", "case2", "case3", "case4"]
    assert all(column(tuned, "confident"))
    assert not any(column(trained, "pseudo"))
    _, both, _ = round_of(Rounds(tmp_path / "both", prepared), first, Everything(both=True))
    assert all(column(both, "pseudo"))


def test_a_round_goes_on_where_the_training_ended(
    tmp_path: Path, prepared: Artefact, first: dict[str, Artefact]
) -> None:
    run = Rounds(tmp_path, prepared)
    parts = {
        **net(steps=1, optim={"lr": 1e-12, "optimiser": "sgd", "weight_decay": 0}),
        "selector": Nothing(),
    }
    inputs = {"before": first["retrain"], "select": first["select"], "pseudolabel": first["pseudolabel"]}
    after = run(retrain, "retrain", parts, inputs, pseudo="offline", first_iteration=10**6)
    old, new = (load_file(part.path("model.safetensors")) for part in (first["retrain"], after))
    for name in [name for name in old if "running" not in name and "tracked" not in name]:
        torch.testing.assert_close(old[name], new[name], atol=1e-6, rtol=0)
    weight = float(column(after, "consistency_weight")[0])
    assert weight == pytest.approx(MeanTeacher().lambda_cons)  # the ramp goes on, it does not begin anew


def test_poisoned_labels_of_unlabelled_cases_change_nothing(
    tmp_path: Path, first: dict[str, Artefact]
) -> None:
    results = []
    for poison in (False, True):
        prepared = make_prepared(tmp_path / f"prepared{poison}", poison=poison)
        tuned, trained, _ = round_of(Rounds(tmp_path / str(poison), prepared), first, Quantile(share=0.5))
        results.append(
            [tuned.path("adapter.safetensors").read_bytes(), trained.path("model.safetensors").read_bytes()]
        )
    assert results[0] == results[1]


def test_certainty_is_kept_for_crops_alone(
    tmp_path: Path, prepared: Artefact, first: dict[str, Artefact]
) -> None:
    """C is the same either way, and a selector of cases leaves the key of before."""
    lean = Rounds(tmp_path, prepared)(select, "lean", net(), {"retrain": first["retrain"]}, stride=PATCH)
    assert not any(name.startswith("certainty/") for name in lean.record["files"])
    for name in ("confidence.csv", "labels/case1.npy", "labels/case4.npy"):
        assert lean.path(name).read_bytes() == first["select"].path(name).read_bytes()
    certainty = np.load(first["select"].path("certainty/case1.npy")) / select.SCALE
    rows = csv.DictReader(lean.path("confidence.csv").read_text(encoding="utf-8").splitlines())
    assert float(next(rows)["all"]) == pytest.approx(certainty.mean(), rel=1e-12)
    for name, kept in (("tau", None), ("{name: tau, unit: crop}", "certainty")):
        made = plan(tmp_path, PLUS.replace("selector: tau", f"selector: {name}"))
        assert made.nodes[made.cells[-1].nodes["select_1"]].settings.told().get("keep") == kept


def test_crops_are_judged_one_by_one(tmp_path: Path, prepared: Artefact, first: dict[str, Artefact]) -> None:
    certainty = np.load(first["select"].path("certainty/case1.npy")) / select.SCALE
    volume = Volumes(prepared).image("case1")
    patch = draw_patch("case1", volume, (16, 16, 16), False, False, np.random.default_rng(0))
    inside = patch.view.take(certainty)[patch.inside].mean()
    for tau, confident in ((inside - 1e-3, True), (inside + 1e-3, False)):
        ctx = StageContext(
            {"selector": Tau(tau=tau, unit="crop")}, {}, {"select": first["select"]}, 0, tmp_path, tmp_path
        )
        found = Selection.of(ctx)
        assert found is not None
        assert found.is_confident(patch) == confident
        assert found.is_labelled_by_sam(patch) == (not confident)
        assert len(found.candidates) == 4


def test_labels_for_self_training_are_the_segmenters(
    tmp_path: Path, prepared: Artefact, first: dict[str, Artefact]
) -> None:
    run, told = Rounds(tmp_path, prepared), {"inputs": {"retrain": first["retrain"]}, "stride": PATCH}
    labels = np.load(first["select"].path("labels/case2.npy"))
    for keep, name in (("labels", "labels"), ("probabilities", "probs")):
        made = run(pseudolabel, keep, net(), keep=keep, **told)
        assert made.read_json("index.json")["cases"] == ["case1", "case2", "case3", "case4"]
        found = np.load(made.path(f"{name}/case2.npy"))
        np.testing.assert_array_equal(found if keep == "labels" else found[0] > 0.5, labels)
