"""Nodes as jobs: each once, in order, nobody waits for more than is needed; no SLURM is asked."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.tools.pages import read
from sfrbench.errors import InputError
from sfrbench.plan.build import Plan
from sfrbench.run.executors.slurm.jobs import Job, arrays, grouped
from sfrbench.run.executors.slurm.settings import SlurmSettings, read_settings, shape_of
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.recipe import Link
from tests.support.places import ROOT
from tests.support.specs import GOOD, plan_of

Graph = Mapping[Link, Collection[Link]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, set[Link]]:
    """A graph of up to 14 nodes in an order that follows its edges, and which of them are light."""
    links: list[Link] = [(f"s{at % 3}", str(at)) for at in range(draw(st.integers(1, 14)))]
    inputs = {
        link: draw(st.sets(st.sampled_from(links[:at]), max_size=3)) if at else set()
        for at, link in enumerate(links)
    }
    return inputs, draw(st.sets(st.sampled_from(links)))


def all_before(jobs: list[Job]) -> list[set[int]]:
    """The jobs that must have ended before each, at any distance."""
    before: list[set[int]] = []
    for job in jobs:
        before.append(set(job.after).union(*(before[at] for at in job.after)))
    return before


def ancestors(inputs: Graph, link: Link) -> set[Link]:
    return set(inputs[link]).union(*(ancestors(inputs, source) for source in inputs[link]))


@given(graphs())
def test_each_node_has_its_inputs_before_it_in_its_job_or_in_jobs_that_it_waits_for(
    graph: tuple[Graph, set[Link]],
) -> None:
    inputs, light = graph
    jobs = grouped(inputs, light)
    order = [link for job in jobs for link in job.links]
    assert sorted(order) == sorted(inputs)
    assert len(set(order)) == len(order)
    assert all(at > max(job.after, default=-1) for at, job in enumerate(jobs))
    before = all_before(jobs)
    for at, job in enumerate(jobs):
        for place, link in enumerate(job.links):
            for source in inputs[link]:
                if source in job.links:
                    assert job.links.index(source) < place
                else:
                    assert any(source in jobs[other].links for other in before[at])
        assert not any(other in before[third] for other in job.after for third in job.after), "named twice"


@given(graphs())
def test_no_job_waits_for_a_node_that_ends_a_cell(graph: tuple[Graph, set[Link]]) -> None:
    inputs, light = graph
    jobs = grouped(inputs, light)
    heavy = set(inputs) - light
    needed = heavy.union(*(ancestors(inputs, link) for link in heavy))
    for job in jobs:
        assert sum(link in heavy for link in job.links) <= 1
        assert not set(job.links[1:]) & heavy
        if heavy & set(job.links):
            waited = {link for at in job.after for link in jobs[at].links}
            assert waited <= needed


def test_a_training_takes_what_it_feeds_with_it_and_scores_beside_it_keep_nobody_waiting() -> None:
    prepare, sam, train = ("prepare", "p"), ("finetune", "f"), ("retrain", "r")
    labels, scores = ("pseudolabel", "l"), ("evaluate", "of labels")
    predict, result = ("predict", "s"), ("evaluate", "s")
    inputs: Graph = {
        prepare: [],
        sam: [prepare],
        labels: [prepare, sam],
        scores: [prepare, labels],
        train: [prepare, labels],
        predict: [prepare, train],
        result: [prepare, predict],
    }
    jobs = grouped(inputs, {prepare, labels, scores, predict, result})
    assert [job.links for job in jobs] == [(prepare,), (sam, labels), (scores,), (train, predict, result)]
    assert [sorted(job.after) for job in jobs] == [[], [0], [1], [1]]
    assert [
        job.links for job in grouped({predict: [prepare, train], result: [prepare, predict]}, inputs)
    ] == [(predict, result)]


@given(graphs(), st.integers(1, 5))
def test_arrays_hold_jobs_of_one_shape_that_wait_for_the_same(
    graph: tuple[Graph, set[Link]], most: int
) -> None:
    inputs, light = graph
    jobs = grouped(inputs, light)
    shapes = [job.links[0][0] for job in jobs]
    seen: set[int] = set()
    for group in arrays(jobs, shapes, most):
        assert 1 <= len(group) <= most
        assert len({(shapes[at], jobs[at].after) for at in group}) == 1
        assert jobs[group[0]].after <= seen, "submitted before what it waits for"
        seen.update(group)
    assert seen == set(range(len(jobs)))


def inputs_of(plan: Plan) -> Graph:
    return {link: list(node.inputs.values()) for link, node in plan.nodes.items()}


def test_ten_thousand_nodes_are_grouped_in_a_second() -> None:
    inputs: dict[Link, list[Link]] = {("prepare", "p"): []}
    for cell in range(2500):
        source = ("finetune", str(cell % 500))
        inputs.setdefault(source, [("prepare", "p")])
        train, predict = ("retrain", str(cell)), ("predict", str(cell))
        inputs |= {train: [source], predict: [train, ("prepare", "p")], ("evaluate", str(cell)): [predict]}
        inputs[("canvases", str(cell))] = [source]
    started = time.perf_counter()
    jobs = grouped(inputs, [link for link in inputs if link[0] not in ("finetune", "retrain")])
    assert len(inputs) > 10_000
    assert len(jobs) == 1 + 500 + 500 + 2500
    assert len(arrays(jobs, [job.links[0][0] for job in jobs], 1000)) == 1 + 1 + 500 + 500
    TopologicalSorter({at: job.after for at, job in enumerate(jobs)}).prepare()
    assert time.perf_counter() - started < 3  # 0.1 s on one core


def test_the_jobs_of_a_plan_ask_for_what_its_stages_need(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD)
    light = {link for link in plan.nodes if recipe_of(link[0]).needs.duration != "hours"}
    jobs = grouped(inputs_of(plan), light)
    heads = [job.links[0][0] for job in jobs]
    assert set(heads) == {"prepare", "finetune", "retrain", "evaluate"}
    shapes = {
        head: shape_of([stage for stage, _ in job.links], SlurmSettings(), gpu=True)
        for head, job in zip(heads, jobs, strict=True)
    }
    assert (shapes["prepare"].gres, shapes["retrain"].gres, shapes["evaluate"].gres) == (None, "gpu:1", None)
    assert (shapes["retrain"].cpus, shapes["retrain"].memory, shapes["retrain"].hours) == (4, 16, 24)
    assert shape_of(["retrain"], SlurmSettings(), gpu=False).gres is None


def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> SlurmSettings:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "sfrbench").mkdir(exist_ok=True)
    (tmp_path / "sfrbench" / "config.yaml").write_text(text)
    return read_settings()


def test_a_site_says_what_jobs_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """\
executors:
  slurm:
    partition: gpu
    gres: gpu:a100:1
    memory: 24
    options: {constraint: fast, mail-type: FAIL}
    stages:
      finetune: {hours: 6, gres: "gpu:h100:1", options: {constraint: faster}}
      predict: {hours: 30, memory: 40, partition: other}
"""
    settings = configured(tmp_path, monkeypatch, text)
    tune = shape_of(["finetune", "predict"], settings, gpu=True)
    assert (tune.partition, tune.gres, tune.hours, tune.memory) == ("gpu", "gpu:h100:1", 30, 40)
    assert dict(tune.options) == {"constraint": "faster", "mail-type": "FAIL"}
    assert shape_of(["evaluate", "predict"], settings, gpu=True).gres == "gpu:a100:1"
    assert shape_of(["prepare"], settings, gpu=True).memory == 24
    plain = configured(tmp_path, monkeypatch, "executors: {slurm: {gres: ''}}\n")
    assert shape_of(["retrain"], plain, gpu=True).gres is None


@pytest.mark.parametrize(
    ("field", "place", "told"),
    [
        ("partitoin: gpu", "3:5", "no field 'partitoin'\n    did you mean 'partition'"),
        ("cpus: 0", "3:5", "greater than or equal to 1"),
        ("cpus: '8'", "3:5", "valid integer"),
        ("stages: {finetun: {hours: 1}}", "3:5", "no stage 'finetun': did you mean 'finetune'"),
        ("options: {dependency: x}", "3:5", "'dependency' is not free: it is set for every job"),
        ("options: {time: x}", "3:5", "'time' is not free: use 'hours'"),
        ("options: {--mail-user: x}", "3:5", "'--mail-user' is no option"),
        ("stages: {finetune: {hour: 1}}", "3:25", "no field 'hour'"),
        ("setup: module load cuda", "3:5", "valid list"),
    ],
)
def test_faults_of_a_site_are_told_with_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, place: str, told: str
) -> None:
    with pytest.raises(InputError) as caught:
        configured(tmp_path, monkeypatch, f"executors:\n  slurm:\n    {field}\n")
    assert f"config.yaml:{place} " in str(caught.value)
    assert told in str(caught.value)


def test_the_configuration_in_the_documentation_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = read(ROOT / "docs" / "how-to" / "run-on-slurm.md")
    (text,) = (block.text for block in page.blocks if block.file == "config.yaml")
    settings = configured(tmp_path, monkeypatch, text)
    assert shape_of(["retrain"], settings, gpu=True).memory == 48
    assert shape_of(["predict"], settings, gpu=True).hours == 2
