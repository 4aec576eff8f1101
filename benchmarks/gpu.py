"""What is to be known of a card, in some minutes: does it compute rightly, how fast, in what memory.

    python benchmarks/gpu.py                     # the first GPU, else in miniature on the CPU
    python benchmarks/gpu.py --out results       # writes results/gpu.md and results/gpu.json, too
    python benchmarks/gpu.py --only lora         # one part; several by commas

Weights are random: this measures, it scores nothing. Steps are timed one by one with the card waited for
(median of the second half), so that rows can be compared; "idle" looks at a training that is left alone. A
part that fails says so in its row, and the others go on; no part begins once ``--minutes`` are over.

"attention" is by ``rows`` (our kernel), ``fused`` (torch's) or ``pieces`` (on a CPU). "off" is the largest
difference, as a part of the largest value: from float64 (attention, which should stay below 0.03), from the
CPU in fp32 (networks) or from one window at once (windows). In miniature, sizes are toys: it shows that the
measurements work, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from card import agreement, trainings
from card.material import FULL, MINI, Bench, Row, fault

from sfrbench.files.atomic import write_atomic

PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "attention": agreement.attention,
    "networks": agreement.networks,
    "lora": trainings.lora,
    "resumed": trainings.resumed,
    "windows": agreement.windows,
    "idle": trainings.idle,
    "layouts": trainings.layouts,
    "methods": trainings.methods,
    "tunings": trainings.tunings,
    "memory": trainings.in_less_memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--device", help="cuda, cuda:1, cpu; default: a GPU where torch has one")
    parser.add_argument("--mini", action="store_true", help="small sizes on a GPU, too")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins later (8)")
    parser.add_argument("--out", type=Path, help="a folder for gpu.md and gpu.json")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := sorted(set(wanted) - PARTS.keys()):
        sys.exit(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", device):
        sys.exit(f"no device {device!r}; there are: cpu, cuda, cuda:1")
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            sys.exit(f"torch {torch.__version__} sees no GPU here; 'sfrbench doctor' says what is missing")
        torch.cuda.set_device(device if ":" in device else "cuda:0")
    with tempfile.TemporaryDirectory(prefix="sfrbench-gpu-") as folder:
        scale = MINI if options.mini or device == "cpu" else FULL
        tables = measure(Bench(Path(folder), device, scale), wanted, 60 * options.minutes)
    about = described(device, scale is MINI)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_atomic(options.out / "gpu.md", markdown(about, tables))
        write_atomic(options.out / "gpu.json", json.dumps({"about": about, "tables": tables}, indent=1))
    if faults := sum("fault" in row for rows in tables.values() for row in rows):
        sys.exit(f"{faults} rows are faults")


def measure(bench: Bench, wanted: Sequence[str], limit_s: float) -> dict[str, list[Row]]:
    """The rows of every part, printed as they come."""
    tables: dict[str, list[Row]] = {}
    began = time.perf_counter()
    for name in wanted:
        rows = tables[name] = []
        if time.perf_counter() - began > limit_s:
            rows.append({"fault": f"not begun: {limit_s / 60:g} minutes are over"})
        else:
            part = time.perf_counter()
            try:
                for row in PARTS[name](bench):
                    rows.append(row)
                    print(f"{name}: {'  '.join(f'{key} {value}' for key, value in row.items())}", flush=True)
            except Exception as error:  # the other parts go on
                rows.append({"fault": fault(error)})
                print(f"{name}: {fault(error)}", flush=True)
            print(f"{name}: {time.perf_counter() - part:.1f} s", flush=True)
    return tables


def described(device: str, mini: bool) -> dict[str, Any]:
    """The card and the libraries."""
    about: dict[str, Any] = {"device": device, "torch": torch.__version__, "miniature": mini}
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        about |= {"card": card.name, "memory GB": round(card.total_memory / 2**30, 1)}
        about |= {"capability": f"{card.major}.{card.minor}", "cuDNN": torch.backends.cudnn.version()}
    return about


def markdown(about: dict[str, Any], tables: dict[str, list[Row]]) -> str:
    """A table for each part."""
    title = "# In miniature: what works, not how fast" if about["miniature"] else "# Measured on a card"
    text = [title, "", ", ".join(f"{key} {value}" for key, value in about.items()), ""]
    for name, rows in tables.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text += [f"## {name}", "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
        for row in rows:
            cells = (row.get(column) for column in columns)
            text.append(f"| {' | '.join('' if cell is None else str(cell) for cell in cells)} |")
        text.append("")
    return "\n".join(text)


if __name__ == "__main__":
    main()
