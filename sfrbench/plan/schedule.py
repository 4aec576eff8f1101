"""Which node is next, and how long a graph takes: pure functions of links and seconds.

List scheduling by the longest path that is left (Graham 1969): with N workers it ends within (2 - 1/N) of the
best there is, and in practice close to max(longest path, total / N).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Protocol, TypeVar

from sfrbench.stages.recipe import Link

T = TypeVar("T", bound=Hashable)

#: A path to the end that is shorter than this part of the longest one goes first: it ends a cell soon, and
#: keeps nobody waiting for long.
SOON = 0.02


class Inputs(Protocol):
    """Anything that a node is, as far as its order matters."""

    @property
    def inputs(self) -> Mapping[str, Link]: ...


def inputs_of(nodes: Mapping[Link, Inputs]) -> dict[Link, tuple[Link, ...]]:
    """The inputs of every node, each once, but for those that are no nodes of the graph."""
    return {
        link: tuple({each: None for each in node.inputs.values() if each in nodes})
        for link, node in nodes.items()
    }


def paths(inputs: Mapping[Link, Iterable[Link]], seconds: Mapping[Link, float]) -> dict[Link, float]:
    """The longest path from each node to an end of the graph, itself counted, in seconds.

    ``inputs`` holds every node after those that it follows, as a plan does.
    """
    rest = {link: seconds[link] for link in inputs}
    for link in reversed(list(inputs)):
        for source in inputs[link]:
            rest[source] = max(rest[source], seconds[source] + rest[link])
    return rest


def behind(ends: Iterable[T], inputs: Callable[[T], Iterable[T]]) -> set[T]:
    """These nodes and all that they are made from."""
    found: set[T] = set()
    todo = list(ends)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += inputs(node)
    return found


class Queue:
    """The nodes of a graph that are still to be made, in the order in which a free worker takes them.

    A node is ready when its inputs are there. Of those that are, the one with the longest path to the end
    goes first, and before it what ends a cell at once. Each node is in one lane (``lanes``); a worker may be
    for some lanes alone.
    """

    def __init__(
        self,
        inputs: Mapping[Link, Collection[Link]],
        seconds: Mapping[Link, float],
        done: Collection[Link] = (),
        lanes: Mapping[Link, str] | None = None,
    ) -> None:
        there = set(done)
        rest = paths(inputs, seconds)
        soon = SOON * max(rest.values(), default=0.0)
        self._order = {link: (value > soon, -value, at) for at, (link, value) in enumerate(rest.items())}
        self._lanes = lanes or {}
        self._left = {link: sum(source not in there for source in inputs[link]) for link in inputs}
        self._followers: dict[Link, list[Link]] = defaultdict(list)
        for link, sources in inputs.items():
            for source in sources:
                self._followers[source].append(link)
        self._ready: dict[str, list[tuple[tuple[bool, float, int], Link]]] = defaultdict(list)
        self._open = {link for link in inputs if link not in there}
        for link in self._open:
            if not self._left[link]:
                self.put(link)

    def __len__(self) -> int:
        """How many nodes are neither done nor lost."""
        return len(self._open)

    def __contains__(self, link: object) -> bool:
        return link in self._open

    def put(self, link: Link) -> None:
        """A node whose inputs are there may be taken (again)."""
        heapq.heappush(self._ready[self._lanes.get(link, "")], (self._order[link], link))

    def take(self, lanes: Collection[str] | None = None) -> Link | None:
        """The next node of these lanes, or of any; none where none is ready."""
        heaps = [heap for lane, heap in self._ready.items() if heap and (lanes is None or lane in lanes)]
        return heapq.heappop(min(heaps, key=lambda heap: heap[0]))[1] if heaps else None

    def done(self, link: Link) -> None:
        """A node is there: what waited for it alone is ready."""
        if link not in self._open:
            return
        self._open.discard(link)
        for follower in self._followers[link]:
            self._left[follower] -= 1
            if not self._left[follower] and follower in self._open:
                self.put(follower)

    def lost(self, link: Link) -> list[Link]:
        """A node cannot be made; returns those that need it and cannot be made either, in order."""
        self._open.discard(link)
        found: dict[Link, None] = {}
        todo = [link]
        while todo:
            for follower in self._followers[todo.pop()]:
                if follower in self._open:
                    self._open.discard(follower)
                    found[follower] = None
                    todo.append(follower)
        return sorted(found, key=lambda each: self._order[each][2])


def makespan(inputs: Mapping[Link, Collection[Link]], seconds: Mapping[Link, float], workers: int) -> float:
    """How long a graph takes on this many equal workers, in seconds, scheduled as ``Queue`` does."""
    queue = Queue(inputs, seconds)
    running: list[tuple[float, int, Link]] = []
    now, started = 0.0, 0
    while len(queue):
        while len(running) < workers and (link := queue.take()) is not None:
            started += 1
            heapq.heappush(running, (now + seconds[link], started, link))
        now, _, ended = heapq.heappop(running)
        queue.done(ended)
    return now
