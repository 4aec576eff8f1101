"""The keys of the nodes of every shipped experiment in every profile, to be equal before and after a change.

    python benchmarks/keys.py                    how many they are, in some twenty seconds
    python benchmarks/keys.py --json > before.json
    python benchmarks/keys.py --compare before.json
    python benchmarks/keys.py --json --only quickstart --profile smoke

Data need not be here: every dataset has the same made-up fingerprint. Nothing imports torch. Status 1: some
differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sfrbench.catalog.cards import Catalog
from sfrbench.files.roots import shipped
from sfrbench.plan.build import build_plan
from sfrbench.report.items import kinds
from sfrbench.spec.extends import locate
from sfrbench.spec.model import PROFILES
from sfrbench.spec.reader import read_spec

#: Experiment and profile -> cell and role -> "stage/key".
Keys = Mapping[str, Mapping[str, str]]


def keys_of(experiments: Sequence[str], profiles: Sequence[str]) -> Keys:
    """The node of every role of every cell."""
    catalog = Catalog.read()
    found = {}
    for name in experiments:
        for profile in profiles:
            plan = build_plan(
                read_spec(locate(name), profile, items=kinds()), catalog, lambda dataset: "made-up"
            )
            found[f"{name} [{profile}]"] = {
                f"{cell.title} ({cell.id}), {role}": "/".join(link)
                for cell in plan.cells
                for role, link in cell.nodes.items()
            }
    return found


def counted(keys: Keys) -> str:
    plans = [plan for plan in keys.values() if plan]
    links = [link for plan in plans for link in plan.values()]
    return f"{len(set(links))} different nodes in {len(links)} places of {len(plans)} plans"


def differences(before: Keys, now: Keys) -> list[str]:
    """One line for each place whose node is another, is gone, or is new."""
    lines = []
    for plan in {**before, **now}:
        old, new = before.get(plan, {}), now.get(plan, {})
        lines += [
            f"{plan}: {place}: {old.get(place, 'none')} -> {new.get(place, 'none')}"
            for place in {**old, **new}
            if old.get(place) != new.get(place)
        ]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the node of every place")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="what --json printed before")
    parser.add_argument("--only", action="append", metavar="EXPERIMENT", help="instead of all")
    parser.add_argument("--profile", action="append", choices=PROFILES, help="instead of all")
    options = parser.parse_args()
    experiments = sorted(path.stem for path in shipped("experiments").glob("*.yaml"))
    now = keys_of(options.only or experiments, options.profile or PROFILES)
    print(counted(now), file=sys.stderr)
    if options.json:
        print(json.dumps(now, indent=1))
    if options.compare is None:
        return 0
    before = json.loads(options.compare.read_text(encoding="utf-8"))
    if options.only or options.profile:
        before = {plan: nodes for plan, nodes in before.items() if plan in now}
    lines = differences(before, now)
    print("\n".join([*lines[:50], f"{len(lines)} places differ"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
