"""A short form of ``benchmarks/broken_specs.py``: mutated specifications and cards, by a seed of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.places import BENCHMARKS

FILE = BENCHMARKS / "broken_specs.py"


@pytest.fixture(scope="module")
def campaign() -> Any:
    found = importlib.util.spec_from_file_location("broken_specs", FILE)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["broken_specs"] = module
    found.loader.exec_module(module)
    return module


def test_what_is_mutated_was_sound(campaign: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spec.yaml").write_text(campaign.SPEC.replace("stitch: grid", "stitch: mine"))
    (tmp_path / "cards" / "stitch").mkdir(parents=True)
    (tmp_path / "cards" / "stitch" / "mine.yaml").write_text(campaign.CARD.replace("MODULE", "sound_module"))
    (tmp_path / "sound_module.py").write_text(campaign.MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for profile in ("smoke", "cpu", "paper"):
        options = [f"--profile={profile}", f"--registry={tmp_path}/cards", f"--workspace={tmp_path}"]
        done = CliRunner().invoke(campaign.command, ["validate", str(tmp_path / "spec.yaml"), *options])
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("kind", "count"), [("spec_case", 30), ("card_case", 15)])
def test_no_mutation_ends_in_a_traceback(campaign: Any, kind: str, count: int) -> None:
    counts, bad = campaign.campaign(getattr(campaign, kind), count, apart=1, seed=1)
    assert bad == []
    assert sum(counts.values()) == count + 1
    assert counts["exit 2"] > count / 3  # most mutations are faults, and not all
    assert counts["exit 0"] > 0
