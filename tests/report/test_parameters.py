"""The table of parameters: counts of the store, the paper's figures, gaps and axes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.catalog.fields import field_exists
from sfrbench.machine.needs import Machine
from sfrbench.paper.sizes import sizes
from sfrbench.plan.build import Cell, Excluded
from sfrbench.report.facts.assemble import info_of
from sfrbench.report.facts.info import Counted, ReportInfo
from sfrbench.report.facts.sizes import size_of
from sfrbench.report.item import Shown
from sfrbench.report.items import kinds
from sfrbench.report.items.parameters.table import ParameterRow, parameters_table
from sfrbench.report.items.table.result import pseudo_table, result_tables
from sfrbench.report.render.tables import Table, to_csv
from sfrbench.run.experiment import Experiment, open_experiment

SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16]}
base: {stitch: grid, foundation: sam_vit_b, finetune: lora, backbone: vnet, ssl: mean_teacher}
arms:
  - {name: mt}
  - {name: sfr_ft, stages: [finetune, predict, evaluate]}
  - {name: sfr_mt, pseudo: offline}
report:
  - {parameters: true}
"""


def opened(folder: Path, text: str = SPEC, profile: str = "smoke") -> Experiment:
    (folder / "spec.yaml").write_text(text)
    machine = Machine(folder / "runs")
    return open_experiment(str(folder / "spec.yaml"), profile, machine, items=kinds())


def publish(experiment: Experiment, cell: Cell, role: str, model: dict[str, Any]) -> None:
    """An artefact that holds a model.json alone."""
    folder = experiment.store.new_folder()
    (folder / "model.json").write_text(json.dumps(model))
    experiment.store.publish(*cell.nodes[role], folder, {})


def table_of(experiment: Experiment) -> tuple[Table, dict[str, dict[str, str]], list[ParameterRow]]:
    (table,), rows = parameters_table(info_of(experiment, None), "parameters")
    data = csv.DictReader(io.StringIO(to_csv(table)))
    return table, {row["arm"]: row for row in data}, rows


def test_the_counts_are_those_of_model_json(tmp_path: Path) -> None:
    experiment = opened(tmp_path)
    mt, sfr_ft, sfr_mt = experiment.plan.cells
    publish(experiment, sfr_ft, "finetune", {"classes": ["a", "b"], "trainable": 123_456, "total": 7_654_321})
    publish(experiment, mt, "retrain", {"classes": ["a", "b"], "parameters": 4_711})
    experiment.store.note_failure(*sfr_mt.nodes["pseudolabel"], "no memory\nand more", "log")
    table, rows, shown = table_of(experiment)
    assert sfr_ft.nodes["finetune"] == sfr_mt.nodes["finetune"]
    names = ("trained", "finetuned", "predicts")
    counts = {arm: tuple(row[name] for name in names) for arm, row in rows.items()}
    assert counts["mt"] == ("", "", "4711")
    assert counts["sfr_ft"] == ("123456", "7654321", "7654321")
    assert counts["sfr_mt"] == ("123456", "7654321", "")
    assert rows["mt"]["note"] == "fine-tuning: this arm does not fine-tune"
    assert rows["sfr_mt"]["note"] == "prediction: pseudolabel failed: no memory"
    assert [entry.text for entry in table.rows[1]] == ["sfr_ft", "123,456", "7,654,321", "7,654,321", "91"]
    assert shown[1].behind()["models"] == [f"finetune/{sfr_ft.nodes['finetune'][1]}"]
    assert shown[1].behind()["cells"] == [sfr_ft.id]


def test_the_seconds_are_those_of_the_prediction(tmp_path: Path) -> None:
    experiment = opened(tmp_path)
    mt, sfr_ft, _ = experiment.plan.cells
    folder = experiment.store.new_folder()
    (folder / "index.json").write_text('{"cases": ["a", "b"], "seconds_per_case": {"a": 1.0, "b": 2.5}}')
    experiment.store.publish(*sfr_ft.nodes["predict"], folder, {"device": "cpu"})
    experiment.store.note_failure(*mt.nodes["retrain"], "no memory\nand more", "log")
    found = {entry.arm: entry for entry in info_of(experiment, None).counted}
    assert (found["sfr_ft"].seconds, found["sfr_ft"].device) == (1.75, "cpu")
    assert (found["mt"].seconds, found["mt"].why_seconds) == (None, "retrain failed: no memory")
    assert found["sfr_mt"].why_seconds == "not run yet"


def test_a_dash_says_why(tmp_path: Path) -> None:
    table, rows, _ = table_of(opened(tmp_path))
    assert rows["sfr_ft"]["note"] == "fine-tuning: not run yet; prediction: not run yet"
    marked = table.rows[0][1]
    assert (marked.text, dict(table.notes)[marked.marks]) == ("—", "this arm does not fine-tune")


def figures(folder: Path, base: str, arms: str, profile: str = "smoke") -> dict[str, str]:
    text = f"title: T\ndataset: {{name: phantom, labeled: 1}}\nbase: {base}\n{arms}\n"
    found = {cell.arm: size_of(cell) for cell in opened(folder, text, profile).plan.cells}
    return {arm: "—" if size is None else size.text for arm, size in found.items()}


@pytest.mark.parametrize("profile", ["paper", "cpu", "smoke"])
def test_the_papers_figure_is_that_of_the_chosen_model(tmp_path: Path, profile: str) -> None:
    """A profile that puts a smaller model in its place does not change what the paper says."""
    names = ["lora", "lora_r16", "samed", "full", "decoder_only", "encoder_decoder", "msa", "frozen"]
    arms = "".join(f"  - {{name: {name}, finetune: {name}}}\n" for name in names)
    arms += "  - {name: rank8, finetune: {name: lora, rank: 8}}\n  - {name: huge, foundation: sam_vit_h}\n"
    base = "{stitch: grid, foundation: sam_vit_b, finetune: lora}"
    found = figures(tmp_path, base, f"stages: [finetune, predict]\narms:\n{arms}", profile)
    assert found == dict.fromkeys([*names, "rank8", "huge"], "—") | {"lora": "91"}


def test_the_3d_adapters_and_the_segmenters_figures(tmp_path: Path) -> None:
    base = "{stitch: upsampled, foundation: sam_vit_b, foundation.canvas: 64, finetune: sam3d_adapter}"
    assert figures(tmp_path, base, "stages: [finetune, predict]") == {"base": "114"}
    base = "{stitch: grid, foundation: sam_vit_b, finetune: lora, backbone: vnet, ssl: mean_teacher}"
    arms = ["{name: mt}", "{name: sfr_mt, pseudo: offline}", "{name: unet, backbone: unet3d}"]
    arms += ["{name: magic, backbone: vnet_magic, ssl: magicnet}", "{name: other, backbone: vnet_magic}"]
    found = figures(tmp_path, base, "arms:\n" + "".join(f"  - {arm}\n" for arm in arms))
    assert found == {"mt": "10", "sfr_mt": "10", "unet": "10", "magic": "18", "other": "—"}


def test_every_published_condition_names_a_part_that_exists() -> None:
    catalog = Catalog.read()
    for entry in [*sizes().finetune, *sizes().retrain]:
        for path, wanted in entry.when.items():
            kind, _, field = path.partition(".")
            names = wanted if isinstance(wanted, list) else [wanted]
            cards = [catalog.card(kind, entry.when[kind] if field else name) for name in names]
            assert not field or all(field_exists(card.component_class, field) for card in cards)


def ranked(counts: dict[tuple[int, int], int | None], **changes: Any) -> ReportInfo:
    """One arm on axes rank and scale; a count of none is a failure."""
    found = tuple(
        Counted("base", {"rank": rank, "scale": scale}, 0, f"c{rank}{scale}", (count, 100), 100)
        if count is not None
        else Counted("base", {"rank": rank, "scale": scale}, 0, "c", None, None, "failed", "failed")
        for (rank, scale), count in counts.items()
    )
    info = ReportInfo("e", "E", "cpu", "strict", [("base", "SFR_FT")], [0], [], counted=found)
    return replace(info, axes={"rank": (1, 4, 8), "scale": (2, 3)}, **changes)


def texts(info: ReportInfo) -> list[list[str]]:
    (table,), _ = parameters_table(info, "parameters")
    return [list(table.columns[1:-4]), *([entry.text for entry in row[1:-3]] for row in table.rows)]


def test_an_axis_that_changes_the_count_has_a_row_for_each() -> None:
    points = [(rank, scale) for rank in (1, 4, 8) for scale in (2, 3)]
    same = dict.fromkeys(points, 7)
    assert texts(ranked(same)) == [[], ["7"]]
    by_rank = {(rank, scale): rank for rank, scale in points}
    assert texts(ranked(by_rank)) == [["rank"], ["1", "1"], ["4", "4"], ["8", "8"]]
    two = {(rank, scale): min(rank, 4) for rank, scale in points}
    assert texts(ranked(two)) == [["rank"], ["1", "1"], ["4, 8", "4"]]
    failed = {**same, (8, 3): None}
    last = texts(ranked(failed))
    assert last[0] == ["rank", "scale"]
    assert last[-1] == ["8", "3", "—"]
    assert len(last) == 1 + len(points)


def test_an_arm_that_is_left_out_is_told_with_its_reason(small: Any) -> None:
    gone = Excluded("sfr_ft", {}, "no ViT here")
    frame = small.frame[small.frame["arm"] != "sfr_ft"]
    counted = [entry for entry in small.info.counted if entry.arm != "sfr_ft"]
    info = replace(small.info, missing=(), excluded=[gone], counted=counted)
    (table, _), _ = result_tables(frame, info, "results", Shown(), "results")
    row = next(row for row in table.rows if row[0].text == "SFR_FT")
    assert dict(table.notes)[row[0].marks] == "no seed has a result: left out: no ViT here"
    (table,), _ = parameters_table(info, "parameters")
    row = next(row for row in table.rows if row[0].text == "SFR_FT")
    assert [entry.text for entry in row[1:]] == ["—"] * 4
    assert {dict(table.notes)[entry.marks] for entry in row[1:]} == {"left out: no ViT here"}
    (table,), _ = pseudo_table(frame, info, Shown(), "pseudo_labels")
    assert "Left out on purpose: sfr_ft: no ViT here." in table.rules


def test_points_that_are_left_out_stand_in_the_notes(small: Any) -> None:
    gone = [Excluded("mt", {"stitch.scale": scale}, "no SAM") for scale in (2, 3)]
    (table, _), _ = result_tables(small.frame, replace(small.info, excluded=gone), "r", Shown(), "r")
    assert "Left out on purpose: mt stitch.scale=2, mt stitch.scale=3: no SAM." in table.rules
    assert all("no SAM" not in text for _, text in table.notes)
