"""Profiles: what `paper` and `released` choose, and how a profile puts one choice in the place of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sfrbench.catalog.cards import Catalog
from sfrbench.cli import main
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.plan.build import Plan, build_plan
from sfrbench.report.items import kinds
from sfrbench.report.render.style import scaled, stamp
from sfrbench.spec import reader
from sfrbench.spec.extends import locate
from sfrbench.spec.model import PROFILES
from sfrbench.spec.reader import read_profile, read_spec
from tests.support.specs import GOOD, faults, plan_of

ONLINE = "profiles: {smoke: {replace: {pseudo: {offline: online}}}}\n"


def recipe(plan: Plan, arm: str) -> tuple[object, ...]:
    """Bezier share, canvas turned, Dice without padding, pseudo-labels of an arm."""
    cell = next(cell for cell in plan.cells if cell.arm == arm)
    stitch, finetune = (cell.components[kind].component.model_dump() for kind in ("stitch", "finetune"))
    return stitch["bezier"], stitch["rotate_canvas"], finetune["dice_ignores_padding"], cell.pseudo


def test_every_profile_is_a_file_that_says_what_it_is() -> None:
    folder = shipped("experiments") / "profiles"
    assert {path.stem for path in folder.glob("*.yaml")} == set(PROFILES)
    assert all("summary:" in path.read_text(encoding="utf-8") for path in folder.glob("*.yaml"))
    assert {name for name in PROFILES if read_profile(name).needs_gpu} == {"paper", "released"}
    assert {name for name in PROFILES if scaled(name)} == {"cpu", "smoke"}
    assert {name for name in PROFILES if "full size" in stamp(name)} == {"paper", "released"}
    assert "by the authors' released code" in stamp("released")
    assert "by the paper's text, ours where it is silent" in stamp("paper")


def test_released_has_the_choices_of_the_authors_code() -> None:
    """What ShumengLI/SFR does, and what the paper says or is silent on; the same in size."""
    plans = {
        name: build_plan(
            read_spec(locate("table01_la"), name, items=kinds()), Catalog.read(), lambda dataset: "none"
        )
        for name in ("paper", "released")
    }
    assert recipe(plans["paper"], "sfr_mt") == (0.0, False, True, "offline")
    assert recipe(plans["released"], "sfr_mt") == (0.5, True, False, "online")
    for own, other in zip(plans["paper"].cells, plans["released"].cells, strict=True):
        assert (own.arm, own.axes, own.seed) == (other.arm, other.axes, other.seed)
        for kind in ("foundation", "backbone", "ssl", "protocol"):
            ours, theirs = (cell.components.get(kind) for cell in (own, other))
            assert ours == theirs, (own.title, kind)
        ours, theirs = (cell.components["dataset"].component for cell in (own, other))
        assert theirs == ours.model_copy(update={"crops": "released"})
        assert (own.pseudo == "none") == (other.pseudo == "none")


def test_a_profile_may_replace_a_value_of_a_switch(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD + ONLINE)
    found = {cell.arm: (cell.pseudo, cell.pseudo_chosen) for cell in plan.cells}
    assert found == {"sup": ("none", ""), "mt": ("none", ""), "sfr": ("online", "offline")}
    online = plan_of(tmp_path, GOOD.replace("pseudo: offline", "pseudo: online"))
    assert [cell.nodes for cell in plan.cells] == [cell.nodes for cell in online.cells]
    assert plan.swaps() == ["pseudo: online in the place of offline"]
    assert online.swaps() == []
    assert plan_of(tmp_path, GOOD + ONLINE, "cpu").swaps() == [
        "foundation: lite_medsam in the place of sam_toy"
    ]


def test_a_checkpoint_of_a_sam_that_the_profile_replaces_is_named(tmp_path: Path) -> None:
    text = GOOD.replace("foundation: sam_toy", "foundation: {name: sam_vit_b, checkpoint: mine}")
    assert plan_of(tmp_path, text, "cpu").swaps() == [
        "foundation: lite_medsam in the place of sam_vit_b, so without checkpoint"
    ]


def test_plan_prints_what_the_profile_replaces(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD.replace("dataset: {name: phantom", "dataset: {name: la") + ONLINE, encoding="utf-8")
    done = CliRunner().invoke(
        main, ["plan", str(path), "--profile", "smoke", "--workspace", str(tmp_path / "runs")]
    )
    assert done.exit_code == 0, done.output
    assert "profile smoke uses dataset: phantom in the place of la" in done.output
    assert "profile smoke uses pseudo: online in the place of offline" in done.output


AXIS = GOOD.replace("  - {name: sfr, pseudo: offline}\n", "axes: {pseudo: [none, offline]}\n")


def test_an_axis_bears_the_value_that_is_used(tmp_path: Path) -> None:
    excluded = "exclude: [{when: {pseudo: offline, arm: sup}, reason: r}]\n"  # as the file says it
    plan = plan_of(tmp_path, AXIS + excluded + ONLINE)
    assert {(cell.axes["pseudo"], cell.pseudo) for cell in plan.cells} == {
        ("none", "none"),
        ("online", "online"),
    }
    assert [entry.title for entry in plan.excluded] == ["sup pseudo=online"]
    assert plan.spec.told == {"pseudo": ["none", "online"]}


def test_an_axis_over_what_the_profile_replaces_is_refused(tmp_path: Path) -> None:
    both = AXIS.replace("[none, offline]", "[offline, online]")
    assert len(plan_of(tmp_path, both).cells) == 8
    message = faults(tmp_path, both + ONLINE)
    assert "spec.yaml:8:8" in message
    assert "profile 'smoke' replaces values, so that two are the same" in message
    assert "replace: {pseudo: {}}" in message
    assert len(plan_of(tmp_path, both + ONLINE.replace("{offline: online}", "{}")).cells) == 8


@pytest.mark.parametrize(
    ("swap", "wanted"),
    [
        ("{pseudo: {none: offline}}", "arms without pseudo-labels stay without"),
        ("{pseudo: {offline: none}}", "arms without pseudo-labels stay without"),
        ("{pseudo: {ofline: online}}", "'ofline' cannot be replaced"),
        ("{pseudo: online}", "pseudo: give {chosen: used instead}, got 'online'"),
        ("{score: {test: val}}", "'score' is no kind of component, and no switch that a profile may replace"),
        ("{stich: grid}", "'stitch'"),
        ("{stitch: [grid]}", "stitch: give {chosen: used instead}"),
        ("[grid]", "must be a mapping"),
    ],
)
def test_what_a_profile_cannot_replace(tmp_path: Path, swap: str, wanted: str) -> None:
    message = faults(tmp_path, GOOD + f"profiles: {{smoke: {{replace: {swap}}}}}\n")
    assert "spec.yaml:10:" in message
    assert wanted in message


def test_experiments_on_pseudo_labels_themselves_keep_them_in_released() -> None:
    plan = build_plan(
        read_spec(locate("pseudo_online_offline"), "released", items=kinds()),
        Catalog.read(),
        lambda dataset: "none",
    )
    assert {cell.arm: cell.pseudo for cell in plan.cells} == {
        "none": "none", "offline_hard": "offline", "offline_soft": "offline", "online_hard": "online",
        "online_soft": "online",
    }  # fmt: skip
    assert plan.no_ops() == []


def test_the_ablation_of_the_four_is_the_same_in_released() -> None:
    plans = [
        build_plan(
            read_spec(locate("text_against_code"), name, items=kinds()),
            Catalog.read(),
            lambda dataset: "none",
        )
        for name in ("paper", "released")
    ]
    arms = [arm.name for arm in plans[0].spec.arms]
    assert [recipe(plans[0], arm) for arm in arms] == [recipe(plans[1], arm) for arm in arms]
    assert recipe(plans[0], "text") == (0.0, False, True, "offline")
    assert recipe(plans[0], "code") == (0.5, True, False, "online")
    for arm, place in (("bezier", 0), ("turned", 1), ("padding", 2), ("online", 3)):  # one at a time
        own, text, code = (recipe(plans[0], name) for name in (arm, "text", "code"))
        assert own == (*text[:place], code[place], *text[place + 1 :])


@pytest.mark.parametrize("path", sorted(shipped("experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_arm_loses_its_meaning_in_released(path: Path) -> None:
    """What a profile replaces never makes two arms of an experiment one."""
    plans = [
        build_plan(read_spec(path, name, items=kinds()), Catalog.read(), lambda dataset: "none")
        for name in PROFILES[:2]
    ]
    assert plans[1].no_ops() == plans[0].no_ops()


def test_natural_images_are_those_of_the_paper_unless_the_profile_scales() -> None:
    """Fig. 5 mixes in PASCAL VOC 2012; eight photographs in its place are said in plan, label and page."""
    for name in PROFILES:
        plan = build_plan(
            read_spec(locate("fig04_fig05_continuity"), name, items=kinds()),
            Catalog.read(),
            lambda dataset: "none",
        )
        (cell,) = [one for one in plan.cells if one.arm == "natural_mix"][:1]
        said = "stitch natural_mix: eight photographs in the place of PASCAL VOC 2012"
        assert (said in plan.swaps()) == scaled(name)
        assert cell.components["stitch"].component.model_dump()["source"] == (
            "photographs" if scaled(name) else "voc2012"
        )
        assert cell.label == ("Eight photographs mixed in" if scaled(name) else "Natural images mixed in")


def test_without_pascal_voc_the_full_size_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SFRBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    common = ["fig04_fig05_continuity", "--workspace", str(tmp_path / "runs"), "--device", "cpu"]
    for name, wanted in (("paper", True), ("released", True), ("smoke", False)):
        done = CliRunner().invoke(main, ["validate", *common, "--profile", name])
        assert done.exit_code == 0, done.output
        assert ("data voc2012  no folder with PASCAL VOC 2012 is known" in done.output) == wanted
    done = CliRunner().invoke(main, ["run", *common, "--profile", "paper", "--tracking-uri", "none"])
    assert done.exit_code == 2
    assert "not ready here:" in done.output
    assert "stitch.source: photographs takes eight photographs in its place" in done.output
    (tmp_path / "empty").mkdir()
    given = ["--data", f"voc2012={tmp_path / 'empty'}"]
    done = CliRunner().invoke(main, ["validate", *common, "--profile", "paper", *given])
    assert "there is no such list of PASCAL VOC 2012" in done.output


def test_a_profile_may_name_an_arm_anew(tmp_path: Path) -> None:
    text = GOOD + "profiles: {smoke: {arms: {sup: {label: Small}, mt: {ssl.ema: 0.5}}}}\n"
    for profile, labels in (("smoke", ["Small", "mt", "sfr"]), ("cpu", ["Supervised", "mt", "sfr"])):
        assert [arm.label for arm in plan_of(tmp_path, text, profile).spec.arms] == labels


@pytest.mark.parametrize("needs", ["gpu", "[gup]", "[gpu, gpu]", "{gpu: 1}", "1"])
def test_a_profile_needs_what_is_known(needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A need that is spelt wrongly would be none, and the run would begin on the processor."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "own.yaml").write_text(f"summary: Own.\nneeds: {needs}\n")
    monkeypatch.setattr(reader, "shipped", lambda _: tmp_path)
    with pytest.raises(
        InputError, match=r"own.yaml:2.*no list of what a profile can need\n    needs: \[gpu\]"
    ):
        read_profile("own")
