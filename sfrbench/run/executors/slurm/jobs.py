"""Nodes as jobs of a cluster: which ones share a job, which jobs wait for which, and which make an array.

Pure functions of links. A heavy node heads a job of its own, so that it has its own place in the queue, its
own time and its own machine. A light one rides along where that makes nobody wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from sfrbench.stages.recipe import Link


@dataclass(frozen=True)
class Job:
    """Nodes that one job makes, in this order, and the jobs that must have ended well before it (by their
    place in the list)."""

    links: tuple[Link, ...]
    after: frozenset[int]


class _Jobs:
    """The jobs so far; a set of jobs is an integer, whose bit ``n`` stands for job ``n``."""

    def __init__(self) -> None:
        self.links: list[list[Link]] = []
        self.after: list[int] = []
        self.before: list[int] = []  # all that must have ended, at any distance
        self.of: dict[Link, int] = {}

    def new(self, link: Link, sources: Collection[int]) -> int:
        """A job of its own; of the jobs that it follows, those that no other of them follows are named."""
        far = 0
        for source in sources:
            far |= self.before[source]
        near = sum(1 << source for source in sources if not far >> source & 1)
        self.links.append([])
        self.after.append(near)
        self.before.append(far | near)
        self.join(link, len(self.links) - 1)
        return len(self.links) - 1

    def join(self, link: Link, job: int) -> None:
        self.links[job].append(link)
        self.of[link] = job

    def last(self, sources: Collection[int]) -> int | None:
        """The job that follows all the others, where there is one: who joins it waits for nothing more."""
        latest = max(sources)
        rest = sum(1 << source for source in sources if source != latest)
        return latest if rest & ~self.before[latest] == 0 else None


def grouped(inputs: Mapping[Link, Collection[Link]], light: Collection[Link]) -> list[Job]:
    """The jobs of a graph, each after those that it waits for.

    ``inputs`` holds the nodes that are still to be made, each after its inputs; inputs that are no keys are
    there already. A light node that leads to heavy ones joins the job of the node that feeds it, since what
    waits for that job waits for the node, too. One that ends a cell joins it only where no heavy node waits
    for that job, else a job beside it that takes all such nodes.
    """
    quick = set(light)
    leads = _leading(inputs, quick)
    jobs = _Jobs()
    beside: dict[int, int] = {}
    for link, sources in inputs.items():
        fed_by = {jobs.of[source] for source in sources if source in jobs.of}
        feeder = jobs.last(fed_by) if fed_by and link in quick else None
        if feeder is None:
            jobs.new(link, fed_by)
        elif link in leads or jobs.links[feeder][0] not in leads:
            jobs.join(link, feeder)
        elif feeder in beside:
            jobs.join(link, beside[feeder])
        else:
            beside[feeder] = jobs.new(link, fed_by)
    return [
        Job(tuple(links), frozenset(_bits(after)))
        for links, after in zip(jobs.links, jobs.after, strict=True)
    ]


def _leading(inputs: Mapping[Link, Collection[Link]], light: Collection[Link]) -> set[Link]:
    """The nodes that a heavy one needs, at any distance."""
    found: set[Link] = set()
    for link in reversed(list(inputs)):
        if link not in light or link in found:
            found.update(inputs[link])
    return found


def _bits(number: int) -> list[int]:
    found = []
    while number:
        lowest = number & -number
        found.append(lowest.bit_length() - 1)
        number ^= lowest
    return found


def arrays(jobs: Sequence[Job], shapes: Sequence[Hashable], most: int) -> list[list[int]]:
    """The places of jobs that are submitted together: they want the same (``shapes``) and wait for the same
    jobs. At most ``most`` in one; each after those that it waits for."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for at, (job, shape) in enumerate(zip(jobs, shapes, strict=True)):
        groups[shape, job.after].append(at)
    return sorted(
        group[start : start + most] for group in groups.values() for start in range(0, len(group), most)
    )
