"""Mutated specifications: what the JSON Schema for editors says of each, and what ``validate`` says.

    python benchmarks/schema_verdicts.py [--specs 300] [--seed 0]

Each case is a sound specification with one thing mutated by a fixed seed (see ``broken_specs.py``). Wanted:
the schema never refuses what ``validate`` takes in every profile. How much of what ``validate`` refuses the
schema sees is printed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from benchmarks.broken_specs import SPEC, mutated, written
from sfrbench.catalog.cards import Catalog
from sfrbench.cli.schema import schema_of
from sfrbench.errors import InputError, SfrbenchError
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import load
from sfrbench.plan.build import build_plan
from sfrbench.report.items import kinds
from sfrbench.spec.model import PROFILES
from sfrbench.spec.reader import read_spec

SHORT = 2500  # characters of the shipped experiments that are mutated, too


def refused(path: Path, catalog: Catalog) -> bool:
    """Whether ``validate`` refuses a specification in one of the profiles."""
    for profile in PROFILES[::-1]:
        try:
            build_plan(read_spec(path, profile, items=kinds()), catalog, lambda dataset: "none")
        except SfrbenchError:
            return True
    return False


def campaign(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How many cases came to what, and what the schema alone refuses."""
    schema = Draft202012Validator(json.loads(json.dumps(schema_of("spec"))))
    catalog, counts, bad = Catalog.read(), Counter[str](), list[str]()
    texts = [path.read_text(encoding="utf-8") for path in sorted(shipped("experiments").glob("*.yaml"))]
    sources = [*[SPEC] * 4, *(text for text in texts if len(text) < SHORT)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.yaml"
        for number in range(count):
            rng = random.Random(f"{seed}/{number}")
            tree = YAML(typ="safe", pure=True).load(rng.choice(sources))
            told = mutated(tree, rng)
            path.write_bytes(written(tree).encode("utf-8", "surrogatepass"))
            try:
                data = load(path).data
            except InputError:
                counts["no YAML"] += 1
                continue
            faults, no = list(schema.iter_errors(data)), refused(path, catalog)
            counts[
                f"schema {'refuses' if faults else 'passes'}, validate {'refuses' if no else 'takes'}"
            ] += 1
            if faults and not no:
                at = ".".join(map(str, faults[0].absolute_path))
                bad.append(f"{number} {told!a}: {at}: {faults[0].message[:200]!a}")
    return counts, bad


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--specs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts, bad = campaign(given.specs, given.seed)
    print(", ".join(f"{name}: {number}" for name, number in sorted(counts.items())))
    print("".join(f"  {line}\n" for line in bad), end="")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(run())
