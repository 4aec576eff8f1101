"""How the nodes of a run stand, and what those wait for that wait: pure functions of links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sfrbench.plan.graph import Link

State = Literal["done", "running", "ready", "waiting", "failed", "blocked"]
STATES: tuple[State, ...] = ("done", "running", "ready", "waiting", "failed", "blocked")
APART = 3  # groups of one stage that are told from one another
LEFT: tuple[State, ...] = ("running", "ready", "waiting")


@dataclass(frozen=True)
class Named:
    """A node, and how it stands."""

    stage: str
    key: str
    title: str
    state: State


@dataclass(frozen=True)
class Group:
    """Nodes of one stage, and the nodes that all of them wait for in the end, or that failed for them."""

    stage: str
    count: int
    sources: Sequence[Named]


def states_of(
    inputs: Mapping[Link, Iterable[Link]],
    there: Mapping[Link, object],
    working: Mapping[Link, object],
    faults: Mapping[Link, object],
) -> dict[Link, State]:
    """How each node stands; ``inputs`` has every node after those that it follows."""
    states: dict[Link, State] = {}
    for link, sources in inputs.items():
        missing = {states[source] for source in sources} - {"done"}
        if link in there:
            states[link] = "done"
        elif link in working:
            states[link] = "running"
        elif link in faults:
            states[link] = "failed"
        elif missing & {"failed", "blocked"}:
            states[link] = "blocked"
        else:
            states[link] = "waiting" if missing else "ready"
    return states


def groups_of(
    state: Literal["waiting", "blocked"],
    states: Mapping[Link, State],
    inputs: Mapping[Link, Iterable[Link]],
    titles: Mapping[Link, str],
) -> list[Group]:
    """The nodes that wait (or are blocked), by their stage and by what they wait for in the end; by the
    stages of that alone, where there is much of it. ``inputs`` is in the order of the plan."""
    ends: tuple[State, ...] = ("failed",) if state == "blocked" else ("running", "ready")
    roots: dict[Link, frozenset[Link]] = {}
    kinds: dict[tuple[str, frozenset[str]], Counter[frozenset[Link]]] = {}
    for link, sources in inputs.items():
        if states[link] != state:
            continue
        direct = frozenset(source for source in sources if states[source] in ends)
        roots[link] = direct.union(*(roots[source] for source in sources if source in roots))
        kind = (link[0], frozenset(stage for stage, _ in roots[link]))
        kinds.setdefault(kind, Counter())[roots[link]] += 1
    order = {link: at for at, link in enumerate(inputs)}
    found = []
    for (stage, _), counts in kinds.items():
        if len(counts) > APART:
            counts = Counter({frozenset().union(*counts): counts.total()})
        for links, count in counts.items():
            named = [
                Named(*link, titles[link], states[link]) for link in sorted(links, key=order.__getitem__)
            ]
            found.append(Group(stage, count, named))
    return found
