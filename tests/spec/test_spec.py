"""Specifications: what is right is read, what is wrong is named with its place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfrbench.errors import InputError
from sfrbench.plan.overlaid import overlaid
from sfrbench.report.items import kinds
from sfrbench.spec.reader import read_spec
from tests.support.broken_specs import BROKEN
from tests.support.specs import GOOD, faults, plan_of


def test_a_sound_specification(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD)
    assert [cell.title for cell in plan.cells] == [
        "sup seed 0", "sup seed 1", "mt seed 0", "mt seed 1", "sfr seed 0", "sfr seed 1",
    ]  # fmt: skip
    assert plan.cells[0].label == "Supervised"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("- {name: mt, ", "- {name: sup, ", ["arm 'sup' is given twice"]),
        ("backbone: vnet, ", "", ["no backbone is chosen"]),
        (
            "arms:\n",
            "  arms:\n",
            ["'arms' is a section of its own: it begins at the left edge, not below 'base'"],
        ),
        ("labeled: 2}", "labeled: 2, unlabeled: 0}", ["ssl mean_teacher: needs unlabelled cases"]),
    ],
    ids=["twice", "missing", "indented", "no unlabelled"],
)
def test_a_fault_has_no_false_ones_behind_it(tmp_path: Path, old: str, new: str, told: list[str]) -> None:
    text = GOOD + "report: [{pairs: [[sfr, mt]]}]\n"
    if "  arms" in new:
        text = text.replace("base: {", "base:\n  {").replace(
            "{stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: mean_teacher}",
            "stitch: grid\n  backbone: vnet\n  ssl: mean_teacher",
        )
    said = faults(tmp_path, text.replace(old, new))
    assert all(part in said for part in told)
    assert "no arm" not in said
    assert said.count("no backbone is chosen") == (told[0] == "no backbone is chosen")


@pytest.mark.parametrize(
    ("arm", "who"),
    [
        ("{name: a, ssl: supervised}", ""),
        ("{name: a, ssl: supervised, pseudo: offline}", "pseudo offline"),
        ("{name: a, ssl: self_training}", "ssl self_training"),
        ("{name: a, stages: [finetune, predict, evaluate]}", ""),
    ],
)
def test_who_needs_unlabelled_cases(tmp_path: Path, arm: str, who: str) -> None:
    text = GOOD.split("arms:")[0].replace("labeled: 2", "labeled: 2, unlabeled: 0") + f"arms: [{arm}]\n"
    if who:
        assert f"{who}: needs unlabelled cases, and dataset.unlabeled is 0" in faults(tmp_path, text)
    else:
        assert plan_of(tmp_path, text).cells


def test_what_a_profile_lays_over_a_specification(tmp_path: Path) -> None:
    """Its own values where they differ and are used; not what an overlay or an option settles."""
    text = GOOD.replace("labeled: 2}", "labeled: 2, test_cases: 1, train_cases: 8}")
    assert list(overlaid(plan_of(tmp_path, text))) == [("dataset.test_cases", 1, 2)]
    assert list(overlaid(plan_of(tmp_path, text, sets=("dataset.test_cases=3",)))) == []
    kept = text + "profiles: {smoke: {dataset.test_cases: 1}}\n"
    assert list(overlaid(plan_of(tmp_path, kept))) == []


@pytest.mark.parametrize(("change", "wanted"), [(b[1], b[2]) for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_specifications(tmp_path: Path, change: tuple[str, str], wanted: list[str]) -> None:
    assert change[0] in GOOD
    text = GOOD.replace(change[0], change[1], 1)
    profile = "paper" if "patch" in change[1] else "smoke"
    message = faults(tmp_path, text, profile=profile)
    for part in wanted:
        assert part in message
    assert "Traceback" not in message


def test_every_fault_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace("stitch: grid", "stitch: gird").replace("0.2", "-1").replace("labeled: 2", "labeled: 0")
    )
    text = text.replace("pseudo: offline", "pseudo: ofline").replace("finetune: lora", "fintune: lora")
    message = faults(tmp_path, text)
    for part in ("gird", "-1 is below", "0 is below the bound 1", "'offline'", "'fintune' is no kind"):
        assert part in message


def test_faults_of_form_do_not_hide_faults_of_meaning(tmp_path: Path) -> None:
    text = GOOD.replace("title: A test", "title: 5").replace("seeds: [0, 1]", "sedes: [0, 1]\nseeds: [1, x]")
    text = (
        text.replace("stitch: grid", "stitch: gird").replace("0.2", "-1").replace("labeled: 2", "labeled: 0")
    )
    text += "exclude: [{when: {x: 1}, reason: r}, 5]\nreport: [{kde: dise}, {pairs: [[mt, mtt]]}]\n"
    message = faults(tmp_path, text)
    for part in (
        "spec.yaml:1:1  title",
        "no field 'sedes'",
        "seeds.1",
        "gird",
        "-1 is below",
        "0 is below the bound 1",
        "no axis 'x'",
        "exclude.1: a mapping",
        "report.0.kde",
        "no arm 'mtt'",
    ):
        assert part in message
    assert message.count("spec.yaml:") == 10


def test_what_is_left_out_is_no_second_fault(tmp_path: Path) -> None:
    """A section that cannot be read is one fault; so is each reference to it none."""
    more = "exclude: [{when: {arm: mt}, reason: r}]\nreport: [{pairs: [[mt, sfr]]}]\n"
    for old, new in (
        ("arms:\n", "arms: 5\nx:\n"),
        ("dataset: {", "dataset: 5\nx: {"),
        ("base: {", "base: 5\nx: {"),
    ):
        message = faults(tmp_path, GOOD.replace(old, new) + more)
        assert message.count("spec.yaml:") == 2, message  # the section and 'x'


HUNDRED = f"[{', '.join(f'0.{n:03}' for n in range(1, 101))}]"


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (
            f"axes: {{ssl.ema: {HUNDRED}, ssl.w_pl: {HUNDRED}, ssl.sup_ce: {HUNDRED}, "
            f"ssl.pl_ce: {HUNDRED}}}\n",
            "spec.yaml:10:8",
        ),
        (f"profiles: {{smoke: {{seeds: {list(range(7000))}}}}}\n", "21000 cells"),
        (
            "search: {params: {ssl.ema: {low: 0.1, high: 0.9, step: 1e-300}}, arm: mt, sampler: grid}\n",
            "spec.yaml:10:1",
        ),
    ],
)
def test_more_cells_than_anybody_wants(tmp_path: Path, more: str, wanted: str) -> None:
    message = faults(tmp_path, GOOD.replace("labeled: 2", "labeled: 2, val: 1") + more)
    assert "SFRBENCH_LIMITS=cells=NUMBER" in message
    assert wanted in message


def test_the_number_of_cells_may_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFRBENCH_LIMITS", "cells=5")
    assert "6 cells" in faults(tmp_path, GOOD)
    monkeypatch.setenv("SFRBENCH_LIMITS", "cells=6")
    assert len(plan_of(tmp_path, GOOD).cells) == 6


def test_an_axis_of_groups(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD + "axes: {ssl.optim: [{lr: 0.1}, {lr: 0.2, clip: 1}]}\n")
    optims = {
        (c.components["ssl"].component.model_dump()["optim"][name])
        for c in plan.cells
        for name in ("lr", "clip")
    }
    assert optims == {0.1, 0.2, None, 1}


def test_an_arm_stands_once_beside_an_axis_that_means_nothing_to_it(tmp_path: Path) -> None:
    tied = '"dataset.organs, dataset.labeled": [[1, 1], [2, 1], [1, 2], [2, 2]], ssl.w_pl: [0.5, 1]'
    axes = GOOD.replace("seeds: [0, 1]", f"axes: {{{tied}}}\nseeds: [0]")
    both = "without: [dataset.labeled, ssl.w_pl]"
    plan = plan_of(tmp_path, axes.replace("{name: sup, ", f"{{name: sup, {both}, "))
    assert [cell.axes for cell in plan.cells if cell.arm == "sup"] == [
        {"dataset.organs": 1}, {"dataset.organs": 2},
    ]  # fmt: skip
    other = [cell for cell in plan.cells if cell.arm == "sfr"]
    assert len(other) == 8
    assert {tuple(cell.axes) for cell in other} == {("dataset.organs", "dataset.labeled", "ssl.w_pl")}
    assert not [line for line in plan.no_ops() if line.startswith("sup")]
    plain = plan_of(tmp_path, axes)
    assert [cell.id for cell in plain.cells if cell.arm == "sfr"] == [cell.id for cell in other]


def test_an_arm_is_without_axes_only(tmp_path: Path) -> None:
    axes = GOOD.replace("seeds: [0, 1]", "axes: {ssl.w_pl: [0.5, 1]}\nseeds: [0]")
    said = faults(tmp_path, axes.replace("{name: mt, ", "{name: mt, without: [ssl.w_p, ssl.w_pl], "))
    assert "spec.yaml:7:26  without: arm 'mt': no axis 'ssl.w_p'" in said
    assert said.count("without") == 1
    assert "a list is needed" in faults(tmp_path, axes.replace("{name: mt, ", "{name: mt, without: x, "))


def test_yaml_traps_are_read_as_written(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD.replace("seeds:", "axes: {ssl.optim.lr: [1e-4, 1e-3]}\nseeds:"))
    assert sorted({cell.axes["ssl.optim.lr"] for cell in plan.cells}) == [1e-4, 1e-3]


def test_a_profile_may_change_one_arm(tmp_path: Path) -> None:
    text = GOOD + "profiles:\n  smoke:\n    arms: {mt: {ssl.lambda_cons: 0.7, ssl.ema: 0.5}}\n"
    fields = {}
    for profile in ("smoke", "cpu"):
        for cell in plan_of(tmp_path, text, profile).cells:
            fields[profile, cell.arm] = cell.components["ssl"].component.model_dump()
    assert fields["smoke", "mt"]["lambda_cons"] == 0.7
    assert fields["smoke", "mt"]["ema"] == 0.5
    assert fields["smoke", "sfr"]["ema"] == 0.99
    assert fields["cpu", "mt"]["lambda_cons"] == 0.2
    assert fields["cpu", "mt"]["ema"] == 0.99


def test_a_profile_may_leave_an_arm_out(tmp_path: Path) -> None:
    text = GOOD + "profiles:\n  cpu:\n    exclude: [{when: {arm: mt}, reason: too slow}]\n"
    for profile, left in (("smoke", []), ("cpu", [("mt", "too slow")])):
        plan = plan_of(tmp_path, text, profile)
        assert [(entry.title, entry.reason) for entry in plan.excluded] == left
        assert ("mt" in {cell.arm for cell in plan.cells}) == (not left)


def test_base_may_differ_at_some_points(tmp_path: Path) -> None:
    """Such choices are base's: profiles scale them, arms and axes go before them."""
    text = GOOD.replace("{name: sfr, pseudo", "{name: sfr, backbone.filters: 4, pseudo") + (
        "axes: {dataset.labeled: [1, 2]}\n"
        "points:\n"
        "  - {when: {dataset.labeled: 2}, base: {backbone: unet3d, ssl.steps: 50, ssl.ema: 0.5}}\n"
        "  - {when: {dataset.labeled: 2, arm: [mt, sfr]}, base: {ssl.ema: 0.7, backbone.filters: 8}}\n"
        "profiles: {smoke: {points: [{when: {arm: mt}, base: {ssl.steps: 3}}]}}\n"
    )
    found = {}
    for profile in ("paper", "smoke"):
        for cell in plan_of(tmp_path, text, profile).cells:
            parts = {kind: cell.components[kind] for kind in ("backbone", "ssl")}
            fields = [parts["ssl"].component.model_dump()[name] for name in ("steps", "ema")]
            network = parts["backbone"]
            filters = network.component.model_dump()["filters"]
            found[profile, cell.arm, cell.axes["dataset.labeled"]] = (network.card.name, filters, *fields)
    assert found["paper", "mt", 1] == ("vnet", 16, 6000, 0.99)
    assert found["paper", "mt", 2] == ("unet3d", 8, 50, 0.7)
    assert found["paper", "sup", 2] == ("unet3d", 16, 50, 0.5)
    assert found["paper", "sfr", 2] == ("unet3d", 4, 50, 0.7)
    assert found["smoke", "mt", 1] == ("vnet", 2, 3, 0.99)
    assert found["smoke", "mt", 2] == ("unet3d", 2, 3, 0.7)
    assert found["smoke", "sfr", 2] == ("unet3d", 4, 2, 0.7)


def test_a_combination_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("finetune: lora", "finetune: samus")
    assert plan_of(tmp_path, text).cells
    message = faults(tmp_path, text, profile="cpu")  # LiteMedSAM takes the place of the ViT
    assert "finetune samus: it is defined for segment-anything's ViT; this" in message
    assert "or exclude it" in message


def test_set_is_the_strongest(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD, sets=("ssl.lambda_cons=0.5", "seeds=[7]"))
    lambdas = [cell.components["ssl"].component.model_dump().get("lambda_cons") for cell in plan.cells]
    assert lambdas == [None, 0.5, 0.5]


@pytest.mark.parametrize(
    "option",
    [
        "ssl.lamda=1",
        "nonsense",
        "ssl.ema=2",
        "stages=x",
        "seeds=[a]",
        "a=[",
        "=5",
        "",
        "ssl=",
        "ssl.optim=5",
        "ssl.optim={lrr: 1}",
        "seeds=true",
        "seeds=[1, 1]",
        "ssl.ema=.nan",
        "ssl.ema=!!binary x",
        "pseudo=[1]",
        "ssl.ema=" + "9" * 5000,
        "ssl.ema=" + "[" * 300,
        "dataset=5",
        "x" * 3000 + "=1",
        "ssl.ema=\x1b[1m",
        "ssl.ema=\ud800",
    ],
)
def test_a_wrong_set_is_named(tmp_path: Path, option: str) -> None:
    assert "--set" in faults(tmp_path, GOOD, sets=(option,))


def test_a_section_asked_for_by_set_is_sent_to_a_file_of_its_own(tmp_path):
    said = faults(tmp_path, GOOD, sets=("axes={backbone: [vnet]}",))
    assert "'extends: EXPERIMENT' and 'axes: …'" in said


def test_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_spec(tmp_path / "missing.yaml", "smoke", items=kinds())
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_spec(tmp_path / "latin.yaml", "smoke", items=kinds())
