"""What another choice hides in every cell is checked as well: a slip there would bite in the next profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.specs import GOOD, faults, plan_of

ARMS = "arms: [{name: a, ssl: supervised, ssl.steps: 3, backbone: unet3d}]\n"
BASE = GOOD.split("arms:")[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("ssl: mean_teacher", "ssl: mean_techer", "4:75  ssl: no component 'mean_techer' of kind 'ssl'"),
        ("ssl: mean_teacher", "ssl: mean_teacher, ssl.steps: many", "4:94  ssl.steps: "),
        ("ssl: mean_teacher", "ssl: {name: mean_teacher, steps: 0}", "4:101  ssl.steps: 0 is below"),
        ("backbone: vnet", "backbone: {name: vnet, filters: x}", "4:82  backbone.filters: "),
        ("foundation: sam_toy", "foundation: {name: sam_vit_b, checkpoint: [5]}", "foundation.checkpoint"),
    ],
)  # fmt: skip
def test_a_hidden_slip_is_a_fault(tmp_path: Path, old: str, new: str, told: str) -> None:
    message = faults(tmp_path, BASE.replace(old, new) + ARMS)
    assert told in message
    assert message.count("spec.yaml:") == 1


def test_a_field_of_a_kind_that_no_cell_has(tmp_path: Path) -> None:
    arms = ARMS.replace("ssl.steps: 3", "selector.tua: 0.9")
    assert "selector.tua: no selector has a field 'tua'" in faults(tmp_path, BASE + arms)
    assert "did you mean 'tau'?" in faults(tmp_path, BASE + arms)
    assert plan_of(tmp_path, BASE + arms.replace("tua", "tau")).cells


def test_profiles_hide_and_are_hidden(tmp_path: Path) -> None:
    """Profile smoke sets ssl.steps: the specification's own value is checked all the same."""
    assert "ssl.steps: -1 is below" in faults(tmp_path, BASE.replace("ssl: mean", "ssl.steps: -1, ssl: mean"))
    text = f"{BASE}{ARMS}profiles: {{smoke: {{ssl.steps: -1}}}}\n"
    assert "ssl.steps: -1 is below" in faults(tmp_path, text)
    assert plan_of(tmp_path, text, "cpu").cells


def test_what_some_component_takes_may_be_hidden(tmp_path: Path) -> None:
    """A field of base is for whichever component has it; a value that suits one of them is none's fault."""
    base = BASE.replace("backbone: vnet", "backbone: {name: vnet, norm: group}")
    arms = "arms: [{name: a, backbone.norm: batch}, {name: b, backbone: vnet, backbone.norm: instance}]\n"
    assert plan_of(tmp_path, base + arms).cells
    assert plan_of(tmp_path, BASE.replace("ssl: mean_teacher", "ssl: bcp") + ARMS).cells
    hidden = (
        GOOD.replace("labeled: 2", "labeled: 2, patch: [64, 64, 16]") + "axes: {dataset.labeled: [1, 2]}\n"
    )
    assert plan_of(tmp_path, hidden, "paper").cells
