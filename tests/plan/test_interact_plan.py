"""Arms that are prompted: what is wrong with them is said at once, and what stands in their keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Foundation
from sfrbench.errors import InputError
from sfrbench.machine.needs import Machine
from sfrbench.plan.build import Plan, build_plan
from sfrbench.report.items import kinds
from sfrbench.run.forecast import Forecast
from sfrbench.spec.reader import read_spec
from sfrbench.store.store import Store
from tests.support.prompted import SPEC, cards


class Deaf(Foundation):
    """It takes no prompts."""

    family = "deaf"


HEAD = """\
title: Prompts
dataset: {name: phantom, labeled: 2, train_cases: 8, test_cases: 2, shape: [32, 32, 16], organs: 2}
protocol: strict
base: {foundation: ball, backbone: vnet, ssl: supervised, stitch: grid, finetune: lora}
arms:
"""


def planned(tmp_path: Path, text: str, *sets: str) -> Plan:
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    spec = read_spec(tmp_path / "spec.yaml", "smoke", sets, items=kinds())
    return build_plan(spec, Catalog.read([cards(tmp_path / "registry")]), lambda dataset: "none")


def faults(tmp_path: Path, *arms: str) -> str:
    lines = "".join(f"  - {{name: arm{number}, {arm}}}\n" for number, arm in enumerate(arms))
    with pytest.raises(InputError) as caught:
        planned(tmp_path, HEAD + lines)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_what_is_wrong_is_said_all_at_once(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        "foundation: sam_vit_h, prompter: corrector, foundation.canvas: 3, stages: [interact, evaluate]",
        "foundation: ball_clicks, prompter: boxer, stages: [interact, evaluate]",
        "prompter: {name: boxer, guess: true}, stages: [interact, evaluate]",
        "prompter: {name: clicks, number: 3, count: 7}, stages: [interact, evaluate]",
        "prompter: corrector, stages: [finetune, predict, evaluate]",
        "prompter: corrector, stages: [retrain, predict, interact, evaluate]",
        "protocol: medsam2, stages: [retrain, predict, evaluate]",
        "score: val, prompter: corrector, stages: [interact, evaluate]",
        "ssl: supervised, stages: [predict, evaluate]",
        "protocol: {name: medsam2, dice_thresholds: [0.5, 0.1]}, prompter: corrector, stages: [interact]",
    )
    for line in (
        "spec.yaml:7:18  foundation ball_clicks: it takes click; not understood: box",
        "arm 'arm2': the prompter goes by what the cell's own segmenter predicts, and no stage here "
        "predicts\n    add predict, and retrain or finetune before it, to 'stages'",
        "prompter clicks: the map after round 7 is to be scored (count), and it has 3 (its number of "
        "clicks); "
        "an arm that an axis prompter.count does not concern has without: [prompter.count]",
        "spec.yaml:10:18  arm 'arm4' has a prompter and no stage interact: nobody would be asked\n"
        "    add stages: [interact, evaluate] to the arm",
        "foundation ball: it segments from prompts only and cannot be fine-tuned here",
        "arm 'arm5': the result is that of stage interact, which does not read what retrain, "
        "predict would make",
        "arm 'arm6': protocol.dice slice_mean scores logits, which stage interact alone keeps\n"
        "    give arms without prompts another protocol, or set protocol.dice to volume",
        "score: val needs validation cases",
        "arm 'arm8': no stage here trains a model that stage predict could use\n"
        "    add retrain or finetune to 'stages'",
        "protocol.dice_thresholds: they must ascend from 0 or more, got [0.5, 0.1]",
    ):
        assert line in said
    assert "Traceback" not in said
    assert "no prompter is chosen\n    add 'prompter: NAME' to base" in faults(
        tmp_path, "stages: [interact, evaluate]"
    )


def test_a_model_without_prompts_is_refused(tmp_path: Path) -> None:
    """With its own card; a foundation of the user's that says nothing of prompts takes none."""
    folder = cards(tmp_path / "registry") / "foundation"
    (folder / "deaf.yaml").write_text(
        f"target: {__name__}:Deaf\nsummary: For tests.\nlabel: Deaf\n", encoding="utf-8"
    )
    said = faults(tmp_path, "foundation: deaf, prompter: corrector, stages: [interact, evaluate]")
    assert "foundation deaf: it takes no prompts" in said


def test_a_talk_that_nothing_can_be_made_of_is_refused(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        "prompter: corrector, stages: [interact]",
        "protocol: medsam2, prompter: {name: clicks, scored: best}, stages: [interact, evaluate]",
    )
    assert "arm 'arm0': stage interact is named without evaluate: nothing would be scored" in said
    assert "arm 'arm1': prompter.scored best goes by the Dice of volumes, and protocol.dice is slice" in said


def test_without_a_count_the_last_round_is_scored(tmp_path: Path) -> None:
    plan = planned(tmp_path, HEAD + CLICKS.replace(", count: 5", ""))
    whole = planned(tmp_path, HEAD + CLICKS)
    (node,) = {cell.nodes["evaluate"] for cell in plan.cells}
    assert plan.nodes[node].settings.told()["after"] == 5
    assert {cell.nodes["evaluate"] for cell in whole.cells} == {node}


CLICKS = "  - {name: clicks, prompter: {name: clicks, number: 5, count: 5}, stages: [interact, evaluate]}\n"


def test_rounds_of_one_run_are_one_node(tmp_path: Path) -> None:
    """What is scored of a run stands in the key of evaluate alone; without draws all seeds are one run."""
    axes = "axes: {prompter.count: [1, 3, 5], prompter.scored: [last, best]}\nseeds: [0, 1]\n"
    plan = planned(tmp_path, HEAD + CLICKS + axes)
    stages = [stage for stage, _ in plan.nodes]
    assert len(plan.cells) == 12
    assert stages.count("interact") == 2  # one for each seed
    assert stages.count("evaluate") == 10  # of one round there is no better one
    told = [plan.nodes[cell.nodes["evaluate"]].settings.told() for cell in plan.cells]
    assert [one["after"] for one in told] == [1] * 4 + [3] * 4 + [5] * 4
    assert [one.get("best", False) for one in told] == [False] * 4 + [False, False, True, True] * 2
    drawn = planned(tmp_path, HEAD + CLICKS.replace("name: clicks, number: 5", "name: corrector") + axes)
    assert [stage for stage, _ in drawn.nodes].count("interact") == 1
    (title,) = (node.title for node in drawn.nodes.values() if node.stage == "interact")
    assert title.endswith(" corrector")


def test_a_protocol_changes_the_run_only_where_it_asks_for_more(tmp_path: Path) -> None:
    axes = "axes: {protocol: [strict, paper, medsam2]}\nseeds: [0]\n"
    plan = planned(tmp_path, HEAD + CLICKS + axes)
    strict, paper, medsam2 = (cell.nodes["interact"] for cell in plan.cells)
    assert strict == paper != medsam2
    assert "thresholds" not in plan.nodes[strict].settings.told()
    assert plan.nodes[medsam2].settings.told()["thresholds"] == [0.1, 0.3, 0.5, 0.7, 0.9]


def test_a_user_who_goes_by_a_prediction_waits_for_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, SPEC)
    by_arm = {cell.arm: cell.nodes for cell in plan.cells}
    guess = plan.nodes[by_arm["guess"]["interact"]]
    assert guess.inputs["guess"] == by_arm["sup"]["predict"]
    assert plan.nodes[by_arm["box"]["interact"]].inputs.keys() == {"prepare"}
    assert plan.nodes[by_arm["guess"]["evaluate"]].inputs["prediction"] == by_arm["guess"]["interact"]


def test_bytes_of_the_maps_are_forecast_and_seconds_are_not(tmp_path: Path) -> None:
    plan = planned(tmp_path, HEAD + CLICKS + "seeds: [0]\n")
    (link,) = (link for link in plan.nodes if link[0] == "interact")
    forecast = Forecast(plan, Store(tmp_path / "store"), Machine(tmp_path / "runs", device="cpu"))
    assert forecast.seconds(link) is None
    assert forecast.bytes(link) == round(2 * 5 * 32 * 32 * 16 * 0.01)


def test_weights_that_are_not_here_are_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFRBENCH_WEIGHTS", str(tmp_path / "none"))
    heavy = HEAD.replace("foundation: ball,", "foundation: ball_heavy,")
    plan = planned(tmp_path, heavy + CLICKS)
    (lack,) = Machine(tmp_path / "runs", device="cpu").lacks(plan)
    assert "sam_vit_b" in str(lack)
    assert lack.hint.startswith("bring sam_vit_b_01ec64.pth from ")


def test_a_search_over_a_prompted_arm(tmp_path: Path) -> None:
    """Of fields of the foundation and of the user, on validation cases; a pruner has nothing to watch."""
    search = (
        "search:\n  params: {prompter.number: [1, 5], foundation.radius: [1.0, 6.0]}\n  metric: dice\n"
        "  trials: 2\n  pruner: none\n"
    )
    text = HEAD.replace("labeled: 2,", "labeled: 2, val: 1,") + CLICKS.replace(", count: 5", "")
    plan = planned(tmp_path, text + search)
    assert set(plan.space) == {"prompter.number", "foundation.radius"}
    with pytest.raises(InputError, match="has no stage retrain, which alone validates"):
        planned(tmp_path, text + search.replace("pruner: none", "pruner: median"))
    with pytest.raises(InputError, match="is not scored"):
        planned(tmp_path, (text + search).replace("[interact, evaluate]", "[interact]"))
