"""The shipped comparisons of fine-tuning run in profile smoke, and share what they have in common."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.runs import cli


def test_strategies_and_ranks(tmp_path: Path) -> None:
    options = ("--profile", "smoke", "--tracking-uri", "none")
    first = cli("run", "fig01_finetune", *options, cwd=tmp_path)
    assert "42 ran, 0 reused, 0 failed" in first.stdout
    second = cli("run", "ablation_lora_rank", *options, cwd=tmp_path)
    # the prepared data, and rank 4: it is the arm 'lora' of the other experiment
    assert "9 ran, 4 reused, 0 failed" in second.stdout
    for name in ("fig01_finetune", "ablation_lora_rank"):
        assert (tmp_path / "runs" / "reports" / name / "smoke" / "index.html").is_file()
    models = [
        json.loads(path.read_text())
        for path in (tmp_path / "runs" / "store" / "finetune").rglob("model.json")
    ]
    assert len(models) == 12
    assert all(0 < model["trainable"] <= model["total"] for model in models)
    # frozen < decoder; full and its twin without the prompt encoder; two MSA; SAMUS; LoRA at four ranks
    assert len({(model["trainable"], model["total"]) for model in models}) == 10
