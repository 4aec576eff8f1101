"""The shipped comparisons of fine-tuning share what they have in common."""

from __future__ import annotations

from pathlib import Path

from tests.support.runs import cli


def test_strategies_and_ranks_share(tmp_path: Path) -> None:
    """The prepared data, and all of rank 4: it is the arm 'lora' of the other experiment."""
    said = cli("plan", "fig01_finetune", "ablation_lora_rank", "--profile", "smoke", cwd=tmp_path).stdout
    assert "nodes 45 (" in said
    assert "nodes 13 (" in said
    assert "together 18 cells, nodes 54 (" in said
