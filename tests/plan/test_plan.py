"""Plans: what is shared is shared, what differs differs, and nothing else is in a key."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.files.roots import shipped
from sfrbench.spec.model import PROFILES
from tests.support.specs import GOOD, faults, keys, plan_of, stages


def test_shared_work_is_one_node(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD)
    assert stages(plan) == {
        "prepare": 1, "finetune": 2, "pseudolabel": 2, "retrain": 6, "predict": 6, "evaluate": 8,
    }  # fmt: skip
    assert plan.naive_nodes == 4 * 4 + 2 * 7
    order = list(plan.nodes)
    for link, node in plan.nodes.items():
        assert all(order.index(source) < order.index(link) for source in node.inputs.values())


def test_a_field_of_the_method_leaves_the_fine_tuning_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD.replace("seeds: [0, 1]", "axes: {ssl.w_pl: [0.5, 1.0]}\nseeds: [0]"))
    assert stages(plan)["finetune"] == 1
    assert stages(plan)["pseudolabel"] == 1
    assert stages(plan)["retrain"] == 4  # w_pl means something to the sfr arm only
    assert any("no effect" in line for line in plan.no_ops())


def test_labelled_count_shares_prepare(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD.replace("seeds: [0, 1]", "axes: {dataset.labeled: [1, 2]}\nseeds: [0]"))
    assert stages(plan)["prepare"] == 1
    assert stages(plan)["finetune"] == 2


FEATURES = GOOD.replace("seeds:", "report: [{features: {arms: [mt, sfr], cases: 5, voxels: 50}}]\nseeds:")


def test_features_are_leaves_of_the_arms_that_the_report_shows(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, FEATURES)
    assert keys(plan, "features").keys() == {"mt seed 0", "mt seed 1", "sfr seed 0", "sfr seed 1"}
    assert stages(plan) - stages(plan_of(tmp_path, GOOD)) == {"features": 4}
    assert not [
        link for node in plan.nodes.values() for link in node.inputs.values() if link[0] == "features"
    ]
    for cell in plan.cells:
        if "features" in cell.nodes:
            node = plan.nodes[cell.nodes["features"]]
            assert node.inputs == {"prepare": cell.nodes["prepare"], "retrain": cell.nodes["retrain"]}
            assert node.settings.told()["cases"] == 5
    every = plan_of(tmp_path, FEATURES.replace("arms: [mt, sfr], ", ""))
    assert len(keys(every, "features")) == 6


def test_features_change_no_other_key(tmp_path: Path) -> None:
    plain, shown = plan_of(tmp_path, GOOD), plan_of(tmp_path, FEATURES)
    assert [link for link in shown.nodes if link[0] != "features"] == list(plain.nodes)


def test_features_depend_on_what_they_show(tmp_path: Path) -> None:
    before = keys(plan_of(tmp_path, FEATURES), "features")
    for change in ("cases: 6", "voxels: 51"):
        field = change.partition(":")[0]
        old = {"cases": "cases: 5", "voxels": "voxels: 50"}[field]
        after = keys(plan_of(tmp_path, FEATURES.replace(old, change)), "features")
        assert not set(after.values()) & set(before.values())
    relabelled = keys(plan_of(tmp_path, FEATURES.replace("label: Supervised", "label: Other")), "features")
    assert relabelled == before


def test_what_a_precision_changes(tmp_path: Path) -> None:
    """That of predictions: these and their scores. The segmenter's: it, and what follows. SAM's: all but the
    volumes. What is not given stands in no key."""
    plain = plan_of(tmp_path, GOOD)

    def same(*sets: str) -> set[str]:
        """Stages of which all nodes stay as they are."""
        nodes = plan_of(tmp_path, GOOD, sets=sets).nodes
        return set(stages(plain)) - {link[0] for link in plain.nodes if link not in nodes}

    assert same("protocol.precision=null", "backbone.precision=fp32") == set(stages(plain))
    assert same("protocol.precision=tf32") == {"prepare", "finetune", "pseudolabel", "retrain"}
    assert same("backbone.precision=tf32") == {"prepare", "finetune", "pseudolabel"}
    assert same("foundation.precision=tf32") == {"prepare"}
    for node in plain.nodes.values():
        assert "precision" not in node.settings.told()


def test_another_protocol_rescores_without_new_predictions(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD.replace("seeds: [0, 1]", "axes: {protocol: [paper, strict]}\nseeds: [0]"))
    assert stages(plan)["predict"] == 3
    assert stages(plan)["evaluate"] == 8


def test_checkpoint_interval_is_in_no_key(tmp_path: Path) -> None:
    plain = plan_of(tmp_path, GOOD)
    other = plan_of(tmp_path, GOOD, sets=("ssl.checkpoint_every=7", "finetune.checkpoint_every=7"))
    assert plain.nodes.keys() == other.nodes.keys()


def test_how_crops_are_drawn_is_in_the_keys_of_training_alone(tmp_path: Path) -> None:
    plain = plan_of(tmp_path, GOOD)
    assert plan_of(tmp_path, GOOD, sets=("dataset.crops=all",)).nodes.keys() == plain.nodes.keys()
    other = plan_of(tmp_path, GOOD, sets=("dataset.crops=released",))
    assert stages(other) == stages(plain)
    for stage in ("prepare", "finetune", "retrain"):
        mine, theirs = ({key for name, key in plan.nodes if name == stage} for plan in (plain, other))
        assert (mine == theirs) if stage == "prepare" else not mine & theirs
    trained = [node for (stage, _), node in other.nodes.items() if stage in ("finetune", "retrain")]
    assert {node.settings.told()["crops"] for node in trained} == {"released"}


def test_scores_of_interpolated_volumes_are_not_those_of_before(tmp_path: Path) -> None:
    """They were on the interpolated slices once, under a key that said nothing of it."""
    for sets, settings in (((), {}), (("dataset.min_depth=64",), {"slices": "own"})):
        plan = plan_of(tmp_path, GOOD, sets=sets)
        scored = [node for (stage, _), node in plan.nodes.items() if stage == "evaluate"]
        assert scored
        assert all(node.settings.told() == settings for node in scored)


def test_a_preset_card_and_its_spelled_out_fields_are_one(tmp_path: Path) -> None:
    named = plan_of(tmp_path, GOOD.replace("finetune: lora,", "finetune: lora_r8,"))
    spelled = plan_of(tmp_path, GOOD.replace("finetune: lora,", "finetune: {name: lora, rank: 8},"))
    assert named.nodes.keys() == spelled.nodes.keys()


def test_profile_is_part_of_every_key(tmp_path: Path) -> None:
    text = GOOD.replace("finetune: lora", "finetune: {name: lora, steps: 2}")
    smoke, paper = plan_of(tmp_path, text, "smoke"), plan_of(tmp_path, text, "paper")
    assert not smoke.nodes.keys() & paper.nodes.keys()


def test_exclusions_keep_their_reason(tmp_path: Path) -> None:
    text = GOOD.replace(
        "seeds: [0, 1]",
        "axes: {stitch.scale: [2, 3]}\n"
        "exclude: [{when: {arm: [sup, mt], stitch.scale: 3}, reason: no SAM}]\nseeds: [0]",
    )
    plan = plan_of(tmp_path, text)
    assert len(plan.cells) == 4
    assert [entry.reason for entry in plan.excluded] == ["no SAM", "no SAM"]


def test_tied_axes_move_together(tmp_path: Path) -> None:
    text = GOOD.replace("seeds: [0, 1]", 'axes: {"ssl.ema, ssl.steps": [[0.9, 2], [0.99, 3]]}\nseeds: [0]')
    points = {(cell.axes["ssl.ema"], cell.axes["ssl.steps"]) for cell in plan_of(tmp_path, text).cells}
    assert points == {(0.9, 2), (0.99, 3)}


def test_an_arm_may_stop_at_the_fine_tuned_model(tmp_path: Path) -> None:
    text = GOOD.replace("pseudo: offline", "stages: [finetune, predict, evaluate]")
    plan = plan_of(tmp_path, text)
    cell = plan.cells[-1]
    assert "retrain" not in cell.nodes
    assert plan.nodes[cell.nodes["predict"]].settings.told()["model_stage"] == "finetune"


def test_online_labels_need_no_pseudolabel_node(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD.replace("pseudo: offline", "pseudo: online"))
    assert "pseudolabel" not in stages(plan)
    assert "finetune" in plan.nodes[plan.cells[-1].nodes["retrain"]].inputs


def test_validation_scores_need_validation_cases(tmp_path: Path) -> None:
    assert "score: val needs validation cases" in faults(tmp_path, GOOD, sets=("score=val",))
    plan = plan_of(tmp_path, GOOD, sets=("score=val", "dataset.val=2"))
    assert all(cell.score == "val" for cell in plan.cells)


def test_a_patch_that_the_backbone_cannot_take_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("labeled: 2", "labeled: 2, patch: [40, 40, 24]")
    text = text.replace(", ssl: supervised", "").replace(", ssl.lambda_cons: 0.2", "")
    message = faults(tmp_path, text, profile="paper")
    assert message.count("no multiple of 16") == 1  # of three arms that choose no component of their own
    assert message.startswith("spec.yaml:4:59  backbone vnet: patch [40, 40, 24]")


def test_a_refused_component_is_named_where_it_was_chosen(tmp_path: Path) -> None:
    """In the arm or in the axis."""
    text = GOOD.replace("labeled: 2", "labeled: 2, patch: [40, 40, 24]").replace("vnet", "segresnet")
    arm = text.replace("{name: mt, ", "{name: mt, backbone: vnet, ")
    assert faults(tmp_path, arm, profile="paper").startswith("spec.yaml:7:16  backbone vnet: patch")
    axis = text.replace("seeds:", "axes: {backbone: [segresnet, vnet]}\nseeds:")
    assert faults(tmp_path, axis, profile="paper").startswith("spec.yaml:9:8  backbone vnet: patch")


def test_keys_do_not_depend_on_the_order_of_keys_in_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("{name: phantom, labeled: 2}", "{labeled: 2, name: phantom}")
    assert plan_of(tmp_path, text).nodes.keys() == plan_of(tmp_path, GOOD).nodes.keys()


def test_ten_thousand_cells(tmp_path: Path) -> None:
    """Not a timed test: the bound of two seconds is measured in benchmarks; here it must only end soon."""
    values = ", ".join(str(round(0.5 + index / 1000, 4)) for index in range(100))
    text = GOOD.replace(
        "seeds: [0, 1]", f"axes: {{ssl.ema: [{values}]}}\nseeds: [{', '.join(map(str, range(34)))}]"
    )
    started = time.monotonic()
    plan = plan_of(tmp_path, text)
    assert len(plan.cells) == 10_200
    assert stages(plan)["finetune"] == 34
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("path", sorted(shipped("experiments").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_shipped_experiment_plans(path: Path, profile: str) -> None:
    from sfrbench.catalog.cards import Catalog
    from sfrbench.plan.build import build_plan
    from sfrbench.report.items import kinds
    from sfrbench.spec.reader import read_spec

    plan = build_plan(read_spec(path, profile, items=kinds()), Catalog.read(), lambda dataset: "none")
    assert plan.cells


BOTH = ("la_scarce", "table07_la_scarce")


def test_several_specifications_share_nodes(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main,
        [
            "plan",
            "la_scarce",
            "table07_la_scarce",
            "--profile",
            "smoke",
            "--workspace",
            str(tmp_path),
            "--json",
        ],
    )
    assert result.exit_code == 0, result.output
    counts = json.loads(result.output)
    alone = [entry["nodes"] for entry in counts["specs"]]
    whole = counts["together"]
    assert max(alone) < whole["nodes"] < sum(alone)
    assert whole["naive_nodes"] == sum(entry["naive_nodes"] for entry in counts["specs"])
    text = CliRunner().invoke(main, ["plan", *BOTH, "--profile", "smoke"]).output
    assert f"together {whole['cells']} cells, nodes {whole['nodes']} ({whole['naive_nodes']} were" in text
