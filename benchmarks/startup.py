"""How long the command line takes to answer, and a plan of 10,000 cells: ``python benchmarks/startup.py``.

The bounds that we hold ourselves to are 0.3 s for ``--help`` and 2 s for the plan, on two cores. An empty
``python -c pass`` is timed beside them, since most of ``--help`` is the interpreter's own start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = """\
title: Ten thousand cells
dataset: {{name: phantom, labeled: 2}}
protocol: strict
base: {{stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: mean_teacher}}
arms:
  - {{name: supervised, ssl: supervised}}
  - {{name: mt}}
  - {{name: sfr_mt, pseudo: offline}}
  - {{name: sfr_ft, stages: [finetune, predict, evaluate]}}
axes:
  ssl.ema: [{ema}]
  finetune.rank: [{rank}]
seeds: [{seeds}]
"""


def seconds(command: list[str], repeat: int) -> list[float]:
    """Wall time of a command, the first run left out."""
    found = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - started)
    return found[1:]


def show(name: str, found: list[float]) -> None:
    print(f"{name:<34} median {statistics.median(found):6.3f} s   ({min(found):.3f} .. {max(found):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="one run of each")
    options = parser.parse_args()
    repeat = 1 if options.small else options.repeat
    ours = [sys.executable, "-m", "sfrbench"]
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "many.yaml"
        spec.write_text(
            SPEC.format(
                ema=", ".join(str(round(0.9 + index / 1000, 3)) for index in range(25)),
                rank=", ".join(str(index + 1) for index in range(10)),
                seeds=", ".join(str(index) for index in range(10)),
            )
        )
        plan = [*ours, "plan", str(spec), "--profile", "smoke", "--workspace", folder, "--json"]
        counts = json.loads(subprocess.run(plan, check=True, capture_output=True, text=True).stdout)
        show("python -c pass", seconds([sys.executable, "-c", "pass"], repeat))
        show("sfrbench --help", seconds([*ours, "--help"], repeat))
        show("sfrbench list", seconds([*ours, "list"], repeat))
        show(f"sfrbench plan, {counts['cells']:,} cells", seconds(plan, repeat))
        print(f"nodes {counts['nodes']:,}, {counts['naive_nodes']:,} were nothing shared")


if __name__ == "__main__":
    main()
