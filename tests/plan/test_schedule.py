"""The ready-queue: order, what is lost, and how close a schedule comes to the least time there is."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfrbench.machine.needs import Machine
from sfrbench.plan.schedule import Queue, inputs_of, makespan, paths
from sfrbench.report.items import kinds
from sfrbench.run.experiment import open_experiment
from sfrbench.stages.recipe import Link

#: Seconds of stages as they are on a GPU, pretended.
SECONDS = {
    "prepare": 60,
    "finetune": 9000,
    "pseudolabel": 1200,
    "retrain": 5000,
    "predict": 90,
    "evaluate": 40,
}


def link(name: str) -> Link:
    return ("stage", name)


@st.composite
def graphs(draw: st.DrawFn) -> dict[Link, tuple[Link, ...]]:
    count = draw(st.integers(1, 30))
    found: dict[Link, tuple[Link, ...]] = {}
    for number in range(count):
        before = list(found)
        sources = draw(st.lists(st.sampled_from(before), max_size=3, unique=True)) if before else []
        found[link(str(number))] = tuple(sources)
    return found


@given(graphs(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_nodes_come_after_their_inputs_and_once(
    inputs: dict[Link, tuple[Link, ...]], draw: random.Random, workers: int
) -> None:
    queue = Queue(inputs, dict.fromkeys(inputs, 1.0))
    running: list[Link] = []
    ended: list[Link] = []
    while len(queue):
        while len(running) < workers and (taken := queue.take()) is not None:
            assert set(inputs[taken]) <= set(ended)
            running.append(taken)
        assert running
        now = running.pop(draw.randrange(len(running)))
        queue.done(now)
        ended.append(now)
    assert sorted(ended) == sorted(inputs)


@given(graphs(), st.data())
def test_what_needs_a_lost_node_is_lost_and_nothing_else(
    inputs: dict[Link, tuple[Link, ...]], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(list(inputs)))
    queue = Queue(inputs, dict.fromkeys(inputs, 1.0))
    ended, lost = set(), set()
    while (taken := queue.take()) is not None:
        if taken == gone:
            lost = set(queue.lost(taken))
        else:
            queue.done(taken)
            ended.add(taken)
    needs = {gone}
    for each, sources in inputs.items():
        if needs & set(sources):
            needs.add(each)
    assert lost == needs - {gone}
    assert ended == set(inputs) - needs
    assert len(queue) == 0


def test_the_longest_path_goes_first_and_the_end_of_a_cell_before_it() -> None:
    inputs = {link("a"): (), link("b"): (), link("c"): (link("b"),), link("score"): ()}
    seconds = {link("a"): 50.0, link("b"): 40.0, link("c"): 60.0, link("score"): 1.0}
    assert paths(inputs, seconds)[link("b")] == 100.0
    queue = Queue(inputs, seconds)
    assert [queue.take() for _ in range(3)] == [link("score"), link("b"), link("a")]
    assert queue.take() is None
    queue.done(link("b"))
    assert queue.take() == link("c")


def test_lanes() -> None:
    inputs = {link("gpu"): (), link("host"): ()}
    lanes = {link("gpu"): "accelerated", link("host"): "host"}
    queue = Queue(inputs, dict.fromkeys(inputs, 1.0), lanes=lanes)
    assert queue.take(["host"]) == link("host")
    assert queue.take(["host"]) is None
    assert queue.take(["host", "accelerated"]) == link("gpu")


def test_what_is_there_is_not_taken() -> None:
    inputs = {link("a"): (), link("b"): (link("a"),)}
    queue = Queue(inputs, dict.fromkeys(inputs, 1.0), done=[link("a")])
    assert len(queue) == 1
    assert queue.take() == link("b")


@given(graphs(), st.integers(1, 6))
def test_bounds_of_a_schedule(inputs: dict[Link, tuple[Link, ...]], workers: int) -> None:
    """Graham's bound of any list schedule, and the bound from below."""
    seconds = {each: 1.0 + number % 7 for number, each in enumerate(inputs)}
    least = max(max(paths(inputs, seconds).values()), sum(seconds.values()) / workers)
    took = makespan(inputs, seconds, workers)
    assert least - 1e-9 <= took <= (2 - 1 / workers) * least + 1e-9


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 64])
def test_table_one_on_several_workers(workers: int) -> None:
    """At most 1.15 times what no schedule can beat."""
    experiment = open_experiment("table01_la", "paper", Machine(Path("nowhere")), items=kinds())
    inputs, draw = inputs_of(experiment.plan.nodes), random.Random(0)
    seconds = {each: SECONDS.get(each[0], 30) * draw.uniform(0.5, 1.5) for each in inputs}
    least = max(max(paths(inputs, seconds).values()), sum(seconds.values()) / workers)
    assert makespan(inputs, seconds, workers) <= 1.15 * least


def test_a_hundred_thousand_nodes() -> None:
    """A chain of a hundred layers, each node after three of the layer before; far from a minute."""
    draw = random.Random(1)
    layers = [[link(f"{layer}-{each}") for each in range(1000)] for layer in range(100)]
    inputs: dict[Link, tuple[Link, ...]] = dict.fromkeys(layers[0], ())
    for before, layer in pairwise(layers):
        inputs |= {each: tuple(draw.sample(before, 3)) for each in layer}
    began = time.process_time()
    took = makespan(inputs, dict.fromkeys(inputs, 1.0), 64)
    assert took == pytest.approx(100_000 / 64, rel=0.02)
    assert time.process_time() - began < 60
