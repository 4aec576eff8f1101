"""What the driver makes of jobs that end well, crash, are cancelled or refused: SLURM is pretended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sfrbench.files.atomic import write_atomic
from sfrbench.machine.needs import Machine
from sfrbench.plan.build import Plan
from sfrbench.plan.graph import Node
from sfrbench.run.executors.slurm import ask, drive, notes
from sfrbench.run.executors.slurm.ask import Seen
from sfrbench.run.executors.slurm.drive import Driver
from sfrbench.run.executors.slurm.run import cancel_jobs
from sfrbench.run.executors.slurm.sbatch import Refused
from sfrbench.run.executors.slurm.settings import Shape, SlurmSettings
from sfrbench.run.executors.slurm.submit import Submitter, Wanted
from sfrbench.run.outcomes import DONE, Book, Outcome, Outcomes
from sfrbench.run.signs import Sign
from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store
from tests.deploy.conftest import Quiet
from tests.support.specs import plan_of

SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2}
protocol: strict
base: {stitch: grid, foundation: sam_toy, finetune: lora, backbone: vnet, ssl: mean_teacher}
arms:
  - {name: mt}
  - {name: sfr, pseudo: offline}
"""


@dataclass
class Cluster:
    """Jobs as SLURM would show them. ``plays`` says what a job does when its turn comes."""

    workspace: Path
    seen: dict[str, Seen] = field(default_factory=dict)
    carried: dict[str, list[Link]] = field(default_factory=dict)
    after: dict[str, set[str]] = field(default_factory=dict)
    reports: dict[str, Path] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    refuses: Callable[[Sequence[Wanted]], bool] = lambda wanted: False
    plays: Callable[[str], str] = lambda job: "COMPLETED"

    @property
    def store(self) -> Store:
        return Store(self.workspace / "store")

    def accept(self, submission: notes.Submission, wanted: Sequence[Wanted], after: Collection[str]) -> None:
        submission.id = str(100 + len(self.seen))
        for at, each in enumerate(wanted):
            job = submission.job(at)
            self.seen[job] = Seen("PENDING", "", notes.comment(self.workspace, submission.token))
            self.carried[job] = [(node.stage, node.key) for node in each.nodes]
            self.after[job] = set(after)
            self.reports[job] = notes.report_path(self.workspace, submission.token, job)

    def make(self, job: str, *, but: Link | None = None) -> None:
        """Publish what a job carries, up to a node that fails."""
        report = notes.Report(host="n1", over=True)
        for stage, key in self.carried[job]:
            if (stage, key) == but:
                report.nodes.append(
                    notes.Ending(stage=stage, key=key, status="failed", reason="its own fault")
                )
                break
            if not self.store.has(stage, key):  # by a job of which no note tells
                self.store.publish(stage, key, self.store.new_folder(), {"seconds": 2.0})
            report.nodes.append(notes.Ending(stage=stage, key=key, status="ran", seconds=2.0))
        notes.write_atomic(self.reports[job], report.model_dump_json())

    def turn(self) -> dict[str, Seen]:
        """The next job whose turn it is runs; those that can never run are dropped."""
        for job, seen in self.seen.items():
            before = [self.seen[each].fate for each in self.after[job] if each in self.seen]
            if seen.fate == "live" and all(fate == "ended" for fate in before):
                self.seen[job] = Seen(self.plays(job), "", seen.comment)
                break
            if seen.fate == "live" and set(before) - {"live", "ended"}:
                self.seen[job] = Seen("CANCELLED", "DependencyNeverSatisfied", seen.comment)
                break
        return dict(self.seen)

    def cancel(self, jobs: Sequence[str]) -> None:
        self.cancelled += jobs
        for job in jobs:
            self.seen[job] = Seen("CANCELLED", "", self.seen[job].comment)

    def job_of(self, stage: str) -> str:
        """The last job that carries a node of a stage."""
        return [job for job, links in self.carried.items() if stage in dict(links)][-1]


@dataclass
class Telling(Quiet):
    """Keeps what is said of starts and of interruptions of a finetuning."""

    told: list[str]

    def node_starts(self, node: Node, reason: str, index: int, total: int) -> None:
        self.told += [reason] if node.stage == "finetune" else []

    def node_again(self, node: Node, reason: str, index: int, total: int) -> None:
        self.told.append(reason)


@dataclass(frozen=True)
class Pretended(Submitter):
    cluster: Cluster = field(kw_only=True)

    def submit(self, shape: Shape, wanted: Sequence[Wanted], after: Collection[str]) -> notes.Submission:
        if self.cluster.refuses(wanted):
            raise Refused("sbatch: no")
        carried = [
            notes.Carried(links=[(node.stage, node.key) for node in each.nodes], crashed=each.crashed)
            for each in wanted
        ]
        submission = notes.new(self.experiment, self.profile, carried)
        self.cluster.accept(submission, wanted, after)
        notes.note(self.machine.workspace, submission)
        return submission


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    pretended = Cluster(tmp_path / "ws")
    pretended.store.open()
    monkeypatch.setattr(drive, "LOOK_S", 0.0)
    monkeypatch.setattr(drive, "PATIENCE_S", 0.0)
    monkeypatch.setattr(ask, "queue", pretended.turn)
    monkeypatch.setattr(ask, "past", lambda jobs: {})
    monkeypatch.setattr(ask, "cancel", pretended.cancel)
    return pretended


def driver(cluster: Cluster, tmp_path: Path, **settings: int) -> Driver:
    plan: Plan = plan_of(tmp_path, SPEC)
    site = SlurmSettings(poll=0.2, **settings)  # type: ignore[arg-type]
    object.__setattr__(site, "poll", 0.0)
    submitter = Pretended(
        machine=Machine(cluster.workspace),
        store=cluster.store.root,
        experiment="small",
        profile="smoke",
        run="run",
        settings=site,
        wants_gpu=False,
        cluster=cluster,
    )
    book = Book(plan, Quiet(), Outcomes())
    return Driver(plan, Store(cluster.store.root), submitter, book, dict.fromkeys(plan.nodes, 1.0))


def statuses(each: Driver) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for (stage, _), outcome in each.book.outcomes.by_link.items():
        found.setdefault(stage, set()).add(outcome.status)
    return found


def finish(each: Driver) -> dict[str, set[str]]:
    each.submit()
    each.watch(lambda cell: None)
    assert set(each.book.outcomes.by_link) == set(each.plan.nodes)
    return statuses(each)


def assert_noted(store: Store, failed: Outcome, end: str) -> None:
    """That what others read of a failure is what the run says of it, with the end of the job's log."""
    link = failed.node.stage, failed.node.key
    assert store.failure(*link) == failed.reason
    assert (store.failure_folder(*link) / "log.txt").read_text() == f"{failed.log}:\n{end}"


def test_jobs_that_end_well_make_all_nodes_and_are_forgotten(cluster: Cluster, tmp_path: Path) -> None:
    def play(job: str) -> str:
        cluster.make(job)
        return "COMPLETED"

    cluster.plays = play
    each = driver(cluster, tmp_path)
    found = finish(each)
    assert all(status == {"ran"} for status in found.values())
    assert {outcome.job for outcome in each.book.outcomes.by_link.values()} <= set(cluster.seen)
    assert {outcome.host for outcome in each.book.outcomes.by_link.values()} == {"n1"}
    assert notes.submissions(cluster.workspace) == []
    assert cluster.cancelled == []
    assert statuses(driver(cluster, tmp_path)) == {stage: {"reused"} for stage in found}


def test_a_job_that_crashes_is_submitted_again_and_so_are_those_that_waited_for_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    crashes = []

    def play(job: str) -> str:
        if cluster.carried[job][0][0] == "finetune" and len(crashes) < 2:
            crashes.append(job)
            return "OUT_OF_MEMORY"
        cluster.make(job)
        return "COMPLETED"

    cluster.plays = play
    assert all(status == {"ran"} for status in finish(driver(cluster, tmp_path)).values())
    assert len(crashes) == 2


def test_a_job_that_crashes_too_often_fails_its_first_node_and_blocks_what_needs_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    tried = []

    def play(job: str) -> str:
        if "finetune" in dict(cluster.carried[job]):
            tried.append(job)
            token = cluster.reports[job].parent.name
            notes.write_atomic(notes.log_path(cluster.workspace, token, job), f"job {job} began")
            return "TIMEOUT"
        cluster.make(job)
        return "COMPLETED"

    cluster.plays = play
    each = driver(cluster, tmp_path, retries=1)
    found = finish(each)
    assert len(tried) == 2
    assert found["finetune"] == {"failed"}
    assert found["pseudolabel"] == {"blocked"}
    assert found["retrain"] == {"ran", "blocked"}, "the arm that needs no SAM is done"
    failed = next(o for o in each.book.outcomes.by_link.values() if o.status == "failed")
    assert failed.reason == f"its job {tried[1]} ended as TIMEOUT, 2 times"
    assert_noted(each.store, failed, f"job {tried[1]} began")


def test_a_fault_of_a_node_is_not_tried_again_and_frees_what_only_waited_for_its_job(
    cluster: Cluster, tmp_path: Path
) -> None:
    def play(job: str) -> str:
        labels = [link for link in cluster.carried[job] if link[0] == "pseudolabel"]
        cluster.make(job, but=labels[0] if labels else None)
        return "FAILED" if labels else "COMPLETED"

    cluster.plays = play
    each = driver(cluster, tmp_path)
    found = finish(each)
    assert found["pseudolabel"] == {"failed"}
    assert found["finetune"] == {"ran"}
    assert found["evaluate"] == {"ran", "blocked"}
    assert len([job for job, links in cluster.carried.items() if "pseudolabel" in dict(links)]) == 1


def test_a_job_that_somebody_cancels_is_not_submitted_again(cluster: Cluster, tmp_path: Path) -> None:
    cluster.plays = lambda job: "CANCELLED by 1000"
    each = driver(cluster, tmp_path)
    found = finish(each)
    assert found["prepare"] == {"failed"}
    assert found["retrain"] == found["finetune"] == {"blocked"}
    failed = next(o for o in each.book.outcomes.by_link.values() if o.status == "failed")
    assert_noted(each.store, failed, "")


def test_a_driver_comes_back_to_jobs_also_those_whose_id_it_had_no_time_to_note(
    cluster: Cluster, tmp_path: Path
) -> None:
    driver(cluster, tmp_path).submit()
    first = set(cluster.seen)
    known = notes.submissions(cluster.workspace)
    carries = [{stage for job in each.jobs for stage, _ in job.links} for each in known]
    cut = next(each for each, stages in zip(known, carries, strict=True) if "finetune" in stages)
    lost = next(each for each, stages in zip(known, carries, strict=True) if stages == {"evaluate"})
    lost.id = ""
    notes.note(cluster.workspace, lost)
    (notes.folder(cluster.workspace) / f"{cut.token}.json").write_text('{"token": "')

    def play(job: str) -> str:
        cluster.make(job)
        return "COMPLETED"

    cluster.plays = play
    assert all(status <= set(DONE) for status in finish(driver(cluster, tmp_path)).values())
    again = {link for job in set(cluster.seen) - first for link in cluster.carried[job]}
    assert again == {link for job in cut.jobs for link in job.links}, "only what no note tells of"


def test_a_job_whose_machine_fails_is_said_once_and_goes_on_where_it_is_started_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    """What the process of a machine without power worked on stays noted, for as long as its job waits."""
    each, told = driver(cluster, tmp_path), list[str]()
    each.book = Book(each.plan, Telling(told), Outcomes())

    def on(host: str, pid: int, job: str) -> None:
        stage, key = cluster.carried[job][0]
        sign = Sign(worker=f"{host}-{pid}", run="run", host=host, pid=pid, job=job, stage=stage, key=key)
        write_atomic(cluster.workspace / "working" / f"{sign.worker}.json", sign.model_dump_json())

    states = iter(["RUNNING"] * 2 + ["PENDING"] * 5 + ["RUNNING"] * 2 + ["COMPLETED"])

    def play(job: str) -> str:
        if cluster.carried[job][0][0] != "finetune":
            cluster.make(job)
            return "COMPLETED"
        state = next(states)
        if state == "RUNNING" and len(told) < 2:
            on("n1", 7, job)
        elif state == "RUNNING":
            scratch = cluster.store.scratch(*cluster.carried[job][0])
            scratch.mkdir(parents=True, exist_ok=True)
            (scratch / "checkpoint.pt").touch()
            on("n2", 8, job)
        elif state == "COMPLETED":
            cluster.make(job)
        return state

    cluster.plays = play
    assert all(status == {"ran"} for status in finish(each).values())
    assert len(told) == 3
    assert "on n1)" in told[0]
    assert "was stopped and is queued again" in told[1]
    assert told[2].startswith("resumes: it was interrupted before")
    assert "on n2)" in told[2]


def test_what_slurm_refuses_leaves_no_job_behind(cluster: Cluster, tmp_path: Path) -> None:
    cluster.refuses = lambda wanted: wanted[0].nodes[0].stage == "evaluate"
    with pytest.raises(Refused):
        driver(cluster, tmp_path).submit()
    assert sorted(cluster.cancelled) == sorted(cluster.seen)
    assert cluster.cancelled
    assert notes.submissions(cluster.workspace) == []


def test_no_more_jobs_than_allowed_are_in_the_queue(cluster: Cluster, tmp_path: Path) -> None:
    most = []

    def play(job: str) -> str:
        most.append(sum(seen.fate == "live" for seen in cluster.seen.values()))
        cluster.make(job)
        return "COMPLETED"

    cluster.plays = play
    assert all(status == {"ran"} for status in finish(driver(cluster, tmp_path, most=2)).values())
    assert max(most) == 2


def test_cancelling_ends_the_jobs_of_one_experiment_or_of_the_workspace(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.plays = lambda job: "PENDING"
    driver(cluster, tmp_path).submit()
    assert cancel_jobs(cluster.workspace, "other") == []
    for path in notes.folder(cluster.workspace).glob("*.json"):
        path.unlink()
    assert sorted(cancel_jobs(cluster.workspace)) == sorted(cluster.seen)
    assert cancel_jobs(cluster.workspace) == []


@pytest.mark.parametrize(
    ("state", "reason", "fate"),
    [
        ("RUNNING", "None", "live"),
        ("COMPLETING", "None", "live"),
        ("PENDING", "BeginTime", "live"),
        ("PENDING", "DependencyNeverSatisfied", "unmet"),
        ("CANCELLED", "DependencyNeverSatisfied", "unmet"),
        ("CANCELLED", "Dependency", "unmet"),
        ("CANCELLED by 1000", "Dependency", "cancelled"),
        ("CANCELLED", "None", "cancelled"),
        ("COMPLETED", "None", "ended"),
        ("PREEMPTED", "None", "preempted"),
        ("NODE_FAIL", "None", "crashed"),
        ("OUT_OF_MEMORY", "None", "crashed"),
        ("TIMEOUT", "TimeLimit", "crashed"),
        ("", "", "crashed"),
    ],
)
def test_the_words_of_slurm(state: str, reason: str, fate: str) -> None:
    assert Seen(state, reason).fate == fate
