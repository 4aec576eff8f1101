"""How long a report over many result rows takes, and its memory, with every kind of item on made-up rows.

    python benchmarks/report_rows.py [--rows 100000]

The bounds that we hold ourselves to are 10 s and 1 GB (the peak of the whole process) for 100,000 rows.
Slices are left out: they need volumes, and their time is that of reading those.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from sfrbench.report.build import build_report
from sfrbench.report.facts.info import ReportInfo

ARMS = tuple(f"arm_{index:02}" for index in range(8))
SCALES = (2, 4, 6)
SEEDS = (0, 1, 2)
CLASSES = ("liver", "spleen", "left kidney", "right kidney", "pancreas")
METRICS = {"dice": "%", "jaccard": "%", "asd": "mm", "hd95": "mm"}


def made_up(rows: int) -> pd.DataFrame:
    """At least ``rows`` rows in the form of ``load_frame``: object columns, values in percent and mm."""
    per_case = len(ARMS) * len(SCALES) * len(SEEDS) * len(CLASSES) * len(METRICS)
    cases = [f"case_{index:04}" for index in range(-(-rows // per_case))]
    levels = [ARMS, SCALES, SEEDS, cases, CLASSES, tuple(METRICS)]
    names = ["arm", "stitch.scale", "seed", "case", "class", "metric"]
    frame = pd.MultiIndex.from_product(levels, names=names).to_frame(index=False)
    rng = np.random.default_rng(0)
    hard = frame["case"].map(dict(zip(cases, rng.normal(0, 6, len(cases)), strict=True)))
    level = 60 + frame["arm"].map({arm: 2.0 * index for index, arm in enumerate(ARMS)})
    dice = (level + hard + rng.normal(0, 3, len(frame))).clip(0, 100)
    frame["value"] = dice.where(frame["metric"].isin(["dice", "jaccard"]), (100 - dice) / 5)
    frame["unit"] = frame["metric"].map(METRICS)
    cell = frame["arm"] + "-" + frame["stitch.scale"].astype(str) + "-" + frame["seed"].astype(str)
    facts = {"experiment": "made_up", "profile": "paper", "label": frame["arm"].str.upper(), "cell": cell}
    facts |= {"subset": "test", "key": "k" + cell, "empty_pred": False, "empty_gt": False}
    return frame.assign(**facts)


def described() -> ReportInfo:
    return ReportInfo(
        experiment="made_up",
        title="Made up",
        profile="paper",
        protocol="strict",
        arms=[(arm, arm.upper()) for arm in ARMS],
        seeds=SEEDS,
        axes={"stitch.scale": SCALES},
        items=[
            {"table": "results", "gains": dict.fromkeys(ARMS[1:], ARMS[0])},
            {"table": "per_scale", "rows": "stitch.scale", "std": "cases"},
            {"pairs": [(arm, ARMS[0]) for arm in ARMS[1:]], "metrics": list(METRICS)},
            {"ranks": "dice"},
            {"curve": {"x": "stitch.scale", "y": "dice"}},
            {"kde": "dice"},
            {"parameters": True},
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    frame = made_up(parser.parse_args().rows)
    with tempfile.TemporaryDirectory() as folder:
        began, before = time.perf_counter(), time.process_time()
        files = build_report(frame, described(), Path(folder))
        took, worked = time.perf_counter() - began, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = f"{took:.1f} s ({worked:.1f} s on the processor), peak memory {peak:.0f} MB"
    print(f"{len(frame):,} rows, {len(files)} files: {told}")


if __name__ == "__main__":
    main()
