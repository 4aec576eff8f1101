"""The section ``search`` of a specification: ranges, and every fault with its place and its remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.plan.resolve import unflatten
from sfrbench.plan.space import grid_size, grid_values, probes
from sfrbench.spec import search as spec_search
from sfrbench.spec.model import Range
from sfrbench.spec.search import range_faults, to_range
from tests.test_spec import faults, plan_of

SPEC = """\
title: A search
dataset: {name: phantom, labeled: 2, val: 1}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: mean_teacher}
arms:
  - {name: mt}
  - {name: sfr, pseudo: offline}
  - {name: ft, stages: [finetune, predict, evaluate]}
search:
  arm: sfr
  params:
    ssl.lambda_cons: card
    ssl.w_pl: [0.5, 2]
  trials: 3
seeds: [4, 5]
"""


def test_ranges_come_from_cards_and_from_the_specification(tmp_path: Path) -> None:
    more = """\
    finetune.rank: card
    finetune.optim.lr: card
    stitch.scale: {low: 2, high: 6, step: 2}
    ssl.pseudo_labels: {choices: [hard, soft]}
    ssl: {choices: [mean_teacher, supervised]}
    ssl.ema: {low: 0.9, high: 0.99, step: 0.01}
"""
    text = SPEC.replace("  trials: 3\n", f"{more}  trials: 3\n").replace(
        "ssl.lambda_cons: card", "ssl.noise: [0, 1]"
    )
    plan = plan_of(tmp_path, text)
    assert plan.space == {
        "ssl.noise": Range(0, 1),
        "ssl.w_pl": Range(0.5, 2),
        "finetune.rank": Range(1, 16, whole=True),
        "finetune.optim.lr": Range(1e-4, 1e-2, log=True),
        "stitch.scale": Range(2, 6, step=2, whole=True),
        "ssl.pseudo_labels": Range(choices=("hard", "soft")),
        "ssl": Range(choices=("mean_teacher", "supervised")),
        "ssl.ema": Range(0.9, 0.99, step=0.01),
    }
    assert grid_values(plan.space["stitch.scale"]) == [2, 4, 6]
    assert grid_values(plan.space["ssl.ema"])[-1] == 0.99
    assert grid_size({path: plan.space[path] for path in ("stitch.scale", "ssl.ema", "ssl")}) == 3 * 10 * 2


def test_defaults(tmp_path: Path) -> None:
    search = plan_of(tmp_path, SPEC).spec.search
    assert search is not None
    assert (search.metric, search.larger, search.seeds, search.sampler) == ("dice", True, (4,), "tpe")
    only = re.sub(r"arms:\n(  - .*\n)+", "", SPEC).replace("  arm: sfr\n", "")
    only = only.replace("    ssl.w_pl: [0.5, 2]\n", "")
    changed = only.replace("trials: 3", "metric: hd95\n  hours: 1\n  seeds: [1, 2]")
    search = plan_of(tmp_path, changed).spec.search
    assert search is not None
    assert (search.arm.name, search.larger, search.trials, search.hours) == ("base", False, None, 1)
    assert search.seeds == (1, 2)


def test_a_profile_replaces_single_keys(tmp_path: Path) -> None:
    text = SPEC + "profiles: {smoke: {search: {trials: 1, params: {ssl.w_pl: [0.5, 20]}}}}\n"
    search = plan_of(tmp_path, text.replace("20]", "2]")).spec.search
    assert search is not None
    assert (search.trials, [param.path for param in search.params]) == (1, ["ssl.w_pl"])
    assert "spec.yaml:16:65  ssl.w_pl: 20 is above the bound 10" in faults(tmp_path, text)
    alone = text.replace(SPEC[SPEC.index("search:") : SPEC.index("seeds:")], "")
    assert "there is no section 'search'" in faults(tmp_path, alone)


#: Name, what replaces what, and what the message must hold.
BROKEN = [
    ("unknown key", ("trials: 3", "trails: 3"), ["spec.yaml:14:3", "no field 'trails'", "'trials'"]),
    ("no params", ("    ssl.lambda_cons: card\n    ssl.w_pl: [0.5, 2]\n", ""), ["spec.yaml:11:3", "params"]),
    ("no budget", ("  trials: 3\n", ""), ["spec.yaml:9:1", "no budget", "trials: 20"]),
    ("zero trials", ("trials: 3", "trials: 0"), ["spec.yaml:14:3", "0 is below the bound 1"]),
    ("unknown sampler", ("trials: 3", "trials: 3\n  sampler: tpee"), ["spec.yaml:15:3", "'tpe'"]),
    ("unknown pruner", ("trials: 3", "trials: 3\n  pruner: best"), ["spec.yaml:15:3", "'median'"]),
    ("unknown arm", ("arm: sfr", "arm: sft"), ["spec.yaml:10:3", "no arm 'sft'", "'ft'"]),
    ("which arm", ("  arm: sfr\n", ""), ["spec.yaml:9:1", "there are several", "mt, sfr, ft"]),
    ("unscored arm", ("name: sfr,", "name: sfr, stages: [finetune],"), ["spec.yaml:10:3", "not scored"]),
    ("unknown metric", ("trials: 3", "trials: 3\n  metric: dise"), ["spec.yaml:15:3", "no metric 'dise'", "'dice'"]),
    ("test metric", ("trials: 3", "trials: 3\n  metric: test.dice"), ["spec.yaml:15:3", "no test any more", "dice"]),
    ("test score", ("trials: 3", "trials: 3\n  score: test"), ["spec.yaml:15:3", "no test any more", "delete"]),
    ("searched score", ("ssl.w_pl: [0.5, 2]", "score: {choices: [val, test]}"), ["spec.yaml:13:5", "no test any more"]),
    ("no validation cases", (", val: 1", ""), ["spec.yaml:9:1", "needs validation cases", "dataset.val"]),
    ("searched val", ("ssl.w_pl: [0.5, 2]", "dataset.val: [1, 2]"), ["spec.yaml:13:5", "which cases are scored"]),
    ("searched rule", ("ssl.w_pl: [0.5, 2]", "protocol.empty: {choices: [skip, worst]}"), ["spec.yaml:13:5", "or how"]),
    ("unknown kind", ("ssl.w_pl:", "sls.w_pl:"), ["spec.yaml:13:5", "'sls' is no kind", "'ssl'"]),
    ("unknown field", ("ssl.w_pl:", "ssl.w_pll:"), ["spec.yaml:13:5", "no field 'w_pll'", "'w_pl'"]),
    ("below", ("[0.5, 2]", "[-1, 2]"), ["spec.yaml:13:16", "ssl.w_pl: -1 is below the bound 0"]),
    ("above", ("[0.5, 2]", "[0.5, 20]"), ["spec.yaml:13:21", "ssl.w_pl: 20 is above the bound 10"]),
    ("above, by name", ("[0.5, 2]", "{low: 1, high: 20}"), ["spec.yaml:13:24", "20 is above the bound 10"]),
    ("no choice", ("ssl.w_pl: [0.5, 2]", "ssl.pseudo_labels: {choices: [hard, firm]}"), ["spec.yaml:13:41", "'firm'"]),
    ("no component", ("ssl.w_pl: [0.5, 2]", "ssl: {choices: [mean_teacher, sup]}"), ["spec.yaml:13:35", "'sup'"]),
    ("fractions", ("ssl.w_pl: [0.5, 2]", "finetune.rank: [1.5, 4]"), ["spec.yaml:13:21", "rank", "integer"]),
    ("broken step", ("ssl.w_pl: [0.5, 2]", "finetune.rank: {low: 1, high: 4, step: 0.5}"), ["whole", "0.5"]),
    ("turned round", ("[0.5, 2]", "[2, 0.5]"), ["spec.yaml:13:5", "low 2 is not below high 0.5"]),
    ("log of zero", ("[0.5, 2]", "{low: 0, high: 2, log: true}"), ["spec.yaml:13:16", "above 0"]),
    ("log and step", ("[0.5, 2]", "{low: 1, high: 2, log: true, step: 1}"), ["spec.yaml:13:44", "no step"]),
    ("great step", ("[0.5, 2]", "{low: 1, high: 2, step: 3}"), ["spec.yaml:13:33", "step 3"]),
    ("one number", ("[0.5, 2]", "3"), ["spec.yaml:13:5", "is no range", "[low, high]"]),
    ("one choice", ("[0.5, 2]", "{choices: [1]}"), ["spec.yaml:13:16", "two or more"]),
    ("choices and low", ("[0.5, 2]", "{choices: [1, 2], low: 1}"), ["spec.yaml:13:33", "stand alone"]),
    ("kind as a range", ("ssl.w_pl:", "ssl:"), ["spec.yaml:13:5", "choices"]),
    ("card without range", ("ssl.w_pl: [0.5, 2]", "ssl.w_pl: card"), ["spec.yaml:13:5", "gives no range", "lambda_cons"]),
    ("no effect", ("arm: sfr", "arm: mt"), ["spec.yaml:13:5", "ssl.w_pl has no effect in arm 'mt'"]),
    ("kind not used", ("arm: sfr", "arm: ft"), ["spec.yaml:12:5", "ssl.lambda_cons has no effect", "uses no ssl"]),
    ("nothing to prune", ("arm: sfr", "arm: ft\n  pruner: median"), ["spec.yaml:11:3", "no stage retrain"]),
    ("endless grid", ("trials: 3", "sampler: grid"), ["spec.yaml:12:5", "spec.yaml:13:5", "no end of values", "step"]),
]  # fmt: skip
# ruff: noqa: E501


@pytest.mark.parametrize(("change", "wanted"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_fault_has_its_place(tmp_path: Path, change: tuple[str, str], wanted: list[str]) -> None:
    text = SPEC.replace(*change, 1)
    assert text != SPEC
    found = faults(tmp_path, text)
    for part in wanted:
        assert part in found, found


@pytest.mark.parametrize("card", Catalog.read().cards(), ids=lambda card: f"{card.kind}/{card.name}")
def test_ranges_of_cards_are_sound(card: Card) -> None:
    for path, value in card.search.items():
        assert list(range_faults(value)) == []
        for _, end in probes(to_range(value)):
            card.component(unflatten({path: end}))  # raises where the field's own bounds forbid it


def test_a_run_with_options_is_not_held_up_by_a_search(tmp_path: Path) -> None:
    assert plan_of(tmp_path, SPEC, sets=("ssl.w_pl=1",)).cells
    assert plan_of(tmp_path, SPEC, sets=("pseudo=none",)).cells


def test_faults_come_together_with_those_of_the_rest(tmp_path: Path) -> None:
    text = SPEC.replace("[0.5, 2]", "[0.5, 20]").replace("name: mt", "name: mt, ssl.ema: 2")
    found = faults(tmp_path, text)
    assert "20 is above" in found
    assert "2 is not below" in found


def test_a_sampler_that_cannot_run_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SPEC.replace("trials: 3", "trials: 3\n  sampler: gp")
    assert plan_of(tmp_path, text).space
    monkeypatch.setattr(spec_search, "find_spec", lambda name: None)
    found = faults(tmp_path, text)
    assert "spec.yaml:15:3" in found
    assert "pip install torch scipy" in found
