"""Mutated specifications and cards: what ``validate``, ``plan``, ``show`` and ``list`` make of each.

    python benchmarks/broken_specs.py [--specs 500] [--cards 150] [--processes 20] [--seed 0] [--verbose]

Each case is a sound file with one to three things mutated by a fixed seed, given to the command line in this
process; the first ``--processes`` of each kind also to one of their own, held to 1 GB. Wanted: no exception,
exit status 0 or 2, a message where it is 2, no control code in it, at most 10 s, and 1 GB in all.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from ruamel.yaml import YAML

from sfrbench.cli import main as command
from sfrbench.files.roots import shipped

# ruff: noqa: E501
SECONDS, MEGABYTES = 10.0, 1000.0
SPEC = """\
title: A test
description: of many sections
dataset: {name: phantom, labeled: 2, val: 1}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: mean_teacher, pseudo: none}
arms:
  - {name: sup, label: Supervised, ssl: supervised}
  - {name: mt, ssl.lambda_cons: 0.2, ssl: {optim: {lr: 0.02}}}
  - {name: sfr, label: SFR, pseudo: offline, stages: [finetune, retrain, predict, evaluate]}
  - {name: plus, pseudo: offline, selector: tau, selector.tau: 0.9}
axes: {stitch.scale: [2, 3], "ssl.ema, ssl.w_pl": [[0.9, 1], [0.99, 2]]}
exclude: [{when: {arm: sup, stitch.scale: 3}, reason: twice the same}]
points: [{when: {stitch.scale: 3}, base: {backbone.filters: 8}}]
seeds: [0, 1]
report:
  - {table: results, metrics: [dice, hd95], rows: stitch.scale, gains: {sfr: mt}}
  - {curve: {x: stitch.scale, y: dice}}
  - {pairs: [[sfr, mt]]}
  - {features: {arms: [mt, sfr], cases: 4}}
search: {arm: sfr, params: {ssl.w_pl: [0.5, 2], finetune.rank: {choices: [2, 4]}, ssl.lambda_cons: card}, trials: 3}
profiles:
  smoke: {seeds: [3], arms: {mt: {ssl.ema: 0.5}}, replace: {pseudo: {offline: online}}, ssl.steps: 3}
  cpu: {exclude: [{when: {arm: mt}, reason: slow}], axes: {stitch.scale: [2]}}
"""
CARD = """\
target: MODULE:Mine
summary: A test.
label: Test
cite: nobody
preset: {scale: 3, order: random}
search: {scale: [1, 4]}
needs: [gpu]
figures: {dice: 3}
"""
MODULE = """\
from pydantic import Field
from sfrbench.components.stitch.grid import GridStitch


class Mine(GridStitch):
    more: int = Field(1, ge=1)
"""
#: What stands in the place of a value.
ODD: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e308, 5e-324, 2**63 - 1, -(2**63), 10**9, "", " ", "0", "x", "none", "card",
    "grid", "mean_teacher", "name", "ssl", "ssl.ema", "../x", "a.b.c", ".", "é", "\U0001f600", "=1+1", "a" * 300, "%s", "{x}",
    [], {}, [[]], [{}], [None], [1, 1], ["grid", "grid"], {"name": 5}, {"name": []}, {"name": "grid"}, {"": 1}, {"a": {"b": 1}},
    {"choices": []}, {"choices": [1, 2]}, {"low": 1, "high": 0}, {"low": 0, "high": 1, "step": 1e-300}, list(range(300)),
)  # fmt: skip
#: What YAML's grammar has to offer beside plain values.
RAW: Sequence[str] = (
    ".nan", ".inf", "-.inf", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!timestamp 2020-01-01", "2020-01-01",
    "!mine x", "!!python/name:os.system", "9" * 5000, "1e999", '"\\ud800"', '"\\e[31mred"', '"\\a"', '"\\u202e"', '"\\0"',
    "[" * 3000, "{a: " * 200, "*nowhere", "&x [*x]", "{<<: {a: 1}}", "{<<: 5}", "? [a]", "|", ">-", "'", '"', "@", "`", "%", "- -",
    "0x" + "f" * 400, "1_000", "0o17", "~", "<<", "&a {<<: *a}", "!!str 5", "!!int x", "[1, 2", "{a: b", "\t", "\x00", "\x1b[1m",
)  # fmt: skip
CODE: Sequence[str] = (
    "raise RuntimeError('x')", "import sys; sys.exit(0)", "import sys; sys.exit('bye')", "raise SystemExit", "1 / 0", "def f(:",
    "import no_such_module", "print('\\x1b[31mhello')", "Mine = 5", "del Mine", "class Mine: pass", "Mine.conflicts = None",
    "def __getattr__(name): raise KeyError(name)", "import sys; sys.modules[__name__] = None", "raise type('E', (BaseException,), {})",
    "Mine.conflicts = lambda self, cell: 1 / 0", "Mine.key_settings = lambda self: 1 / 0", "Mine.conflicts = lambda self, cell: 5",
    "Mine.key_settings = lambda self: {'x': object()}", "from sfrbench.components.base import Stitch as Mine",
    "from sfrbench.components.core import Component as Mine", "from sfrbench.components.backbone.vnet import VNet as Mine",
    "class Mine(GridStitch):\n    must: int", "class Mine(GridStitch):\n    def model_post_init(self, _): raise OSError('no')",
    "class Mine(GridStitch):\n    x: float = float('nan')", "class Mine(GridStitch):\n    version = None",
    "def f(): f()\nf()", "Mine.version = 'a'", "import os; os.environ['X'] = 'y'", "raise UnicodeDecodeError('u', b'x', 0, 1, 'y')",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    told: str
    arguments: Sequence[str]
    folder: Path


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(place for key, value in items for place in places(value, (*at, key)))]


def mutated(tree: Any, rng: random.Random) -> str:
    """Change one place of a tree; returns what was done."""
    place = rng.choice(places(tree)[1:])
    above = tree
    for key in place[:-1]:
        above = above[key]
    key = place[-1]
    told = ".".join(map(str, place))
    kind = rng.choice(["value", "value", "value", "raw", "raw", "delete", "key", "wrap", "swap", "repeat"])
    if kind == "value":
        above[key] = copy.deepcopy(rng.choice(ODD))
    elif kind == "raw":
        above[key] = f"RAW{rng.randrange(len(RAW))}RAW"
    elif kind == "delete":
        del above[key]
    elif kind == "key" and isinstance(above, dict):
        text = list(str(key))
        text[rng.randrange(len(text))] = rng.choice(["", "x", ".", ",", " "])
        above["".join(text)] = above.pop(key)
    elif kind == "swap":
        other = tree
        for step in rng.choice(places(tree)):
            other = other[step]
        above[key] = copy.deepcopy(other)
    elif kind == "repeat" and isinstance(above, list):
        above.insert(key, copy.deepcopy(above[key]))
    else:
        above[key] = rng.choice([[above[key]], {"name": above[key]}, {str(key): above[key]}])
    return f"{kind} {told}"


def written(tree: Any) -> str:
    import json

    text = json.dumps(tree, ensure_ascii=False, indent=1)  # JSON is YAML
    return re.sub(r'"RAW(\d+)RAW"', lambda found: RAW[int(found[1])], text)


def mutated_text(text: str, rng: random.Random) -> tuple[bytes, str]:
    """Change bytes of a text, or pieces of its grammar."""
    data = bytearray(text.encode("utf-8"))
    kind = rng.choice(["byte", "cut", "insert", "drop", "bomb", "many"])
    at = rng.randrange(len(data))
    if kind == "byte":
        data[at] = rng.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = rng.choice(
            [*RAW, ":", "-", "\n", "  ", "#", "---\n", "? ", "&a ", "*a ", "<<: "]
        ).encode()
    elif kind == "drop":
        del data[at : at + rng.randrange(1, 30)]
    elif kind == "bomb":
        width = rng.randrange(2, 10)
        lines = "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * width)}]\n" for n in range(1, 30))
        data += f"b0: &b0 [x]\n{lines}".encode()
    else:
        size = rng.choice([300, 30_000, 200_000])
        data += f"\nseeds2: [{', '.join(map(str, range(size)))}]\n".encode()
    return bytes(data), kind


def changed(text: str, rng: random.Random) -> tuple[bytes, str]:
    if rng.random() < 0.25:
        return mutated_text(text, rng)
    tree = YAML(typ="safe", pure=True).load(text)
    told = [mutated(tree, rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    return written(tree).encode("utf-8", "surrogatepass"), ", ".join(told)


def spec_case(folder: Path, number: int, rng: random.Random) -> Case:
    sources = [SPEC, SPEC, *(path.read_text() for path in sorted(shipped("experiments").glob("*.yaml")))]
    data, told = changed(rng.choice(sources) if rng.random() < 0.5 else SPEC, rng)
    path = folder / f"spec{number}.yaml"
    path.write_bytes(data)
    sets = []
    if rng.random() < 0.2:
        value = rng.choice([*RAW[:30], *(str(each)[:200] for each in ODD)]).replace("\x00", "")
        sets = [
            f"--set={rng.choice(['seeds', 'ssl.ema', 'ssl', 'pseudo', 'ssl.optim', '', 'axes', 'a'])}={value}"
        ]
    profile = rng.choice(["smoke", "smoke", "cpu", "paper"])
    verb = rng.choice(["validate", "validate", "plan"])
    told = f"{told} {' '.join(sets)[:60]}"
    return Case(told, [verb, str(path), f"--profile={profile}", f"--workspace={folder}/runs", *sets], folder)


def card_case(folder: Path, number: int, rng: random.Random) -> Case:
    """A registry with one card, mutated, or with its module mutated."""
    root, module = folder / f"cards{number}", f"broken_module_{number}"
    path = root / rng.choice(["stitch"] * 8 + ["backbone", "stich"]) / rng.choice(["mine"] * 9 + ["grid"])
    path.parent.mkdir(parents=True)
    card, told = CARD.replace("MODULE", module).encode(), ""
    code = MODULE
    if rng.random() < 0.5:
        extra = rng.choice(CODE)
        code += extra + "\n"
        told = f"module: {extra[:60]!r}"
    else:
        card, told = changed(card.decode(), rng)
    (folder / f"{module}.py").write_text(code)
    path.with_suffix(".yaml").write_bytes(card)
    spec = folder / f"for{number}.yaml"
    spec.write_text(SPEC.replace("stitch: grid", "stitch: mine"))
    rest = ["--profile=smoke", f"--workspace={folder}/runs"]
    verbs = [["show", "stitch/mine"], ["validate", str(spec), *rest], ["list"], ["plan", str(spec), *rest]]
    return Case(told, [*rng.choice(verbs), f"--registry={root}"], folder)


def judge(case: Case) -> tuple[int, str]:
    """Exit status, and what is wrong with the answer; empty where nothing is."""
    started = time.perf_counter()
    done = CliRunner().invoke(command, case.arguments)
    took = time.perf_counter() - started
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        last = traceback.extract_tb(done.exception.__traceback__)[-1]
        return done.exit_code, f"{type(done.exception).__name__} at {Path(last.filename).name}:{last.lineno}"
    return done.exit_code, _wrong(done.exit_code, done.output, took)


def judge_apart(case: Case) -> tuple[int, str]:
    """The same in a process of its own that may take 1 GB of data."""

    def held() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(MEGABYTES * 1e6),) * 2)

    package = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, str(case.folder)])}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sfrbench", *case.arguments], capture_output=True, text=True,
            timeout=6 * SECONDS, preexec_fn=held, env=environment, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, f"no end in {6 * SECONDS:.0f} s"
    took = time.perf_counter() - started
    return done.returncode, _wrong(done.returncode, done.stdout + done.stderr, took)


def _wrong(code: int, output: str, took: float) -> str:
    if "Traceback" in output:
        return "a traceback"
    if code not in (0, 2):
        return f"exit status {code}"
    if code == 2 and not output.strip():
        return "no message"
    if re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", output):
        return "a control code"
    return f"took {took:.0f} s" if took > SECONDS else ""


def campaign(
    make: Callable[[Path, int, random.Random], Case], count: int, apart: int, seed: int
) -> tuple[Counter[str], list[str]]:
    """How many cases came to what, and the cases that came to no good."""
    counts: Counter[str] = Counter()
    bad = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sys.path.insert(0, name)
        try:
            for number in range(count):
                case = make(folder, number, random.Random(f"{seed}/{make.__name__}/{number}"))
                for told, judged in [("", judge), ("apart ", judge_apart)][: 1 + (number < apart)]:
                    code, wrong = judged(case)
                    counts[f"{told}{'wrong' if wrong else f'exit {code}'}"] += 1
                    if wrong:
                        bad.append(
                            f"{make.__name__} {number} {told}{case.arguments[0]}: {wrong}: {case.told!a}"
                        )
        finally:
            sys.path.remove(name)
    return counts, bad


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, default in (("--specs", 500), ("--cards", 150), ("--processes", 20), ("--seed", 0)):
        parser.add_argument(option, type=int, default=default)
    given = parser.parse_args()
    failed = False
    for make, count in ((spec_case, given.specs), (card_case, given.cards)):
        started = time.perf_counter()
        counts, bad = campaign(make, count, given.processes, given.seed)
        told = ", ".join(f"{name}: {number}" for name, number in sorted(counts.items()))
        print(f"{make.__name__}: {count} cases in {time.perf_counter() - started:.0f} s; {told}")
        print("".join(f"  {line}\n" for line in bad), end="")
        failed |= bool(bad)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"peak memory of this process: {peak:.0f} MB")
    return int(failed or peak > MEGABYTES)


if __name__ == "__main__":
    sys.exit(run())
