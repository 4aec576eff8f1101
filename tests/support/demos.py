"""Reports on made-up results, and their golden files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sfrbench.paper.sizes import Size
from sfrbench.report.facts.info import Counted, Failure, ReportInfo, Reuse
from sfrbench.report.facts.volumes import MontageCase
from sfrbench.results.grid import Missing
from tests.support.places import GOLDEN

ARMS = (("supervised", "V-Net (LB)"), ("mt", "MT"), ("sfr_ft", "SFR_FT"), ("sfr_mt", "SFR_MT"))


LEVEL = {"supervised": 62.0, "mt": 70.0, "sfr_ft": 66.0, "sfr_mt": 74.0}


STRICT = {
    "checkpoint": "last",
    "stride": None,
    "sam_stride": None,
    "largest_component": False,
    "spacing": "mm",
    "empty": "worst",
    "absent": "skip",
    "asd": "pred_to_gt",
    "nsd_tolerance": 1.0,
}


METRICS = ("dice", "jaccard", "asd", "hd95")


def rows_of(arm: str, seed: int, level: float, *, cases=12, classes=("anterior", "posterior"), **extra: Any):
    """Rows of one cell; the same case is hard for every arm, so that pairs are correlated."""
    rng = np.random.default_rng([seed, *map(ord, arm), *map(ord, str(extra))])
    hard = np.random.default_rng(5).normal(0, 7, size=cases)
    cell = f"{arm}-{seed}" + "".join(f"-{value}" for value in extra.values())
    facts = {"experiment": "demo", "profile": "cpu", "arm": arm, "label": dict(ARMS).get(arm, arm)}
    facts |= {"seed": seed, "cell": cell, "subset": "test", "key": f"k{cell}", **extra}
    rows = []
    for index in range(cases):
        for number, name in enumerate(classes):
            dice = float(np.clip(level - 4 * number + hard[index] + rng.normal(0, 2), 1, 99))
            values = {
                "dice": dice,
                "jaccard": 100 * dice / (200 - dice),
                "asd": (100 - dice) / 10,
                "hd95": (100 - dice) / 3,
            }
            rows += [
                {**facts, "case": f"case_{index:03d}", "class": name, "metric": metric, "value": value}
                | {"unit": "%" if metric in ("dice", "jaccard") else "mm"}
                | {"empty_pred": False, "empty_gt": False}
                for metric, value in values.items()
            ]
    return rows


def check_golden(name: str, made: str) -> None:
    """Set SFRBENCH_UPDATE_GOLDEN=1 to write the files anew, and read the difference before you commit it."""
    golden = GOLDEN / "report" / name
    if os.environ.get("SFRBENCH_UPDATE_GOLDEN") == "1":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(made, encoding="utf-8", newline="")
    assert made == golden.read_text(encoding="utf-8")


@dataclass
class Demo:
    frame: pd.DataFrame
    info: ReportInfo


def volumes(cell: str, case: str, subset: str) -> MontageCase:
    """A noisy ellipsoid of two classes; the prediction is shifted, more so for a bad arm."""
    index = int(case.rpartition("_")[2])
    x, y, z = np.meshgrid(np.arange(48), np.arange(40), np.arange(20), indexing="ij")

    def body(dx: float, scale: float) -> np.ndarray:
        inside = ((x - 24 - dx) / 12) ** 2 + ((y - 20) / 9) ** 2 + ((z - 10) / 8) ** 2 < scale
        return np.where(inside, np.where(x < 24 + dx, 1, 2), 0).astype(np.uint8)

    truth = body(0, 1 + 0.05 * index)
    rng = np.random.default_rng(index)
    image = truth * 0.5 + rng.normal(0, 0.3, truth.shape)
    shift = {"supervised": 5, "mt": 3, "sfr_ft": 4, "sfr_mt": 1}.get(cell.partition("-")[0], 2)
    guess = (lambda: body(shift, 1)) if subset == "test" else None
    pseudo = (lambda: body(-3, 0.8)) if subset == "unlabelled" else None
    return MontageCase(lambda: image, lambda: truth, guess, pseudo)


def demo(**changes: Any) -> Demo:
    """Four arms, two seeds, twelve cases; pseudo-labels of one arm; one failed cell, one odd case."""
    rows = [row for arm, _ in ARMS for seed in (0, 1) for row in rows_of(arm, seed, LEVEL[arm] + seed)]
    rows = [row for row in rows if (row["arm"], row["seed"]) != ("sfr_ft", 1)]
    for row in rows:
        if row["arm"] == "supervised" and row["case"] == "case_003" and row["class"] == "posterior":
            row["empty_pred"] = True
            row["value"] = 0.0 if row["unit"] == "%" else 74.0
    for seed in (0, 1):
        rows += [{**row, "subset": "unlabelled", "key": f"p{seed}"} for row in rows_of("sfr_mt", seed, 66.0)]
    info = ReportInfo(
        experiment="demo",
        title="Demonstration",
        description="Made-up numbers that show what a report looks like.",
        paper="Table VII",
        profile="cpu",
        protocol="strict",
        protocol_fields=STRICT,
        arms=ARMS,
        seeds=(0, 1),
        metrics=METRICS,
        pseudo_arms=("sfr_mt",),
        items=(
            {"table": "results", "metrics": list(METRICS), "rows": "arm"},
            {
                "table": "paper",
                "metrics": ["dice", "hd95"],
                "gains": {"sfr_mt": "mt", "sfr_ft": "mt"},
                "std": "cases",
                "columns": ["params", "seconds"],
            },
            {"pairs": [["sfr_mt", "mt"], ["sfr_ft", "mt"], ["mt", "supervised"]]},
            {"ranks": "dice"},
            {"pseudo_labels": True},
            {"parameters": True},
            {"kde": "dice"},
            {"montage": 3},
        ),
        counted=counted(),
        missing=(Missing("sfr_ft", {}, 1, "finetune failed: loss is not finite at step 40"),),
        failures=(
            Failure(
                "sfr_ft seed 1",
                "finetune",
                "loss is not finite at step 40",
                "runs/store/failed/finetune-3f9c81aa/log.txt",
            ),
        ),
        flags=("mt = sfr_mt: the same work, so what differs between them has no effect",),
        reuse=Reuse(
            8,
            21,
            36,
            12,
            8,
            1,
            {
                "prepare": {"nodes": 1, "reused": 1, "ran": 0, "failed": 0},
                "finetune": {"nodes": 2, "reused": 1, "ran": 0, "failed": 1},
                "retrain": {"nodes": 6, "reused": 2, "ran": 4, "failed": 0},
            },
            ("reuse finetune 3f9c81aa same key", "run retrain 81aa0b12 new: ssl.w_pl 0.5 → 1.0"),
        ),
        montage=volumes,
        environment={"python": "3.11.2", "torch": "2.13.0+cpu", "cpus": 2, "platform": "Linux-6.1-x86_64"},
        provenance={"spec_sha256": "9f" * 32, "git_commit": "3d89ad5", "git_dirty": False},
    )
    from dataclasses import replace

    return Demo(pd.DataFrame(rows), replace(info, **changes))


def counted() -> tuple[Counted, ...]:
    """As in ``demo``: two arms without fine-tuning, one of two cells of ``sfr_ft`` failed."""
    plain: dict[str, Any] = {"finetune": None, "why_finetune": "this arm does not fine-tune"}
    plain |= {"seconds": 0.84, "device": "cpu"}
    broken: dict[str, Any] = {"finetune": None, "predicts": None}
    broken |= dict.fromkeys(("why_finetune", "why_predicts"), "finetune failed: loss is not finite")
    broken |= {"seconds": None, "why_seconds": "finetune failed: loss is not finite"}
    unknown: dict[str, Any] = {"seconds": None, "why_seconds": "not run yet", "device": ""}
    tuned: dict[str, Any] = {"finetune": (3_931_374, 93_602_286), "predicts": 93_602_286, "seconds": 61.25}
    tuned["device"] = "cpu"
    tuned["size"] = broken["size"] = Size(91, "Table XII", "the nominal size of SAM ViT-B")
    of_arm: dict[str, list[dict[str, Any]]] = {
        "supervised": [{**plain, "predicts": 9_448_866}] * 2,
        "mt": [{**plain, "predicts": None, "why_predicts": "not run yet"} | unknown] * 2,
        "sfr_ft": [tuned, broken],
        "sfr_mt": [{**tuned, "predicts": 9_448_866, "seconds": 0.9, "size": Size(10, "Table XII, SFR_MT")}]
        * 2,
    }
    return tuple(
        Counted(arm, {}, seed, f"{arm}-{seed}", nodes=(f"retrain/k{arm}{seed}",), **facts)
        for arm, cells in of_arm.items()
        for seed, facts in enumerate(cells)
    )


def axis_demo(seeds: tuple[int, ...] = (0, 1)) -> Demo:
    """One arm on an axis of seven values, the last without a result."""
    levels = {1: 41.0, 2: 58.0, 3: 66.0, 4: 71.0, 6: 69.0, 8: 60.0}
    rows = [
        row
        for value, level in levels.items()
        for seed in seeds
        for row in rows_of("base", seed, level, classes=("atrium",), **{"stitch.scale": value})
    ]
    info = ReportInfo(
        experiment="scale_demo",
        title="Stitching scale",
        paper="Fig. 9",
        profile="cpu",
        protocol="strict",
        protocol_fields=STRICT,
        arms=(("base", "SFR_FT"),),
        axes={"stitch.scale": (1, 2, 3, 4, 6, 8, 12)},
        seeds=seeds,
        metrics=METRICS,
        items=(
            {"curve": {"x": "stitch.scale", "y": "dice"}},
            {"table": "per_scale", "rows": "stitch.scale", "metrics": ["dice", "hd95"]},
            {"kde": "dice"},
            {"montage": 3},
        ),
        missing=tuple(Missing("base", {"stitch.scale": 12}, seed, "not enough memory") for seed in seeds),
        montage=volumes,
    )
    return Demo(pd.DataFrame(rows), info)
