"""The jobs of one run: which there are, which nodes they carry, and how more are submitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfrbench.errors import few
from sfrbench.files.units import counted
from sfrbench.plan.graph import Node
from sfrbench.plan.schedule import inputs_of
from sfrbench.run.executors.slurm import ask, notes
from sfrbench.run.executors.slurm.jobs import Job, arrays, grouped
from sfrbench.run.executors.slurm.settings import shape_of
from sfrbench.run.executors.slurm.submit import Submitter, Wanted
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.recipe import Link


@dataclass
class Live:
    """A job that waits or runs."""

    id: str
    carried: notes.Carried
    submission: notes.Submission
    log: Path
    report: Path
    host: str = ""
    gone: float | None = None  # when SLURM first said that it has ended
    read: tuple[int, int] = (0, 0)  # time and size of the report that was read

    @property
    def where(self) -> str:
        """For people: `` on node07``; empty where it has not said it."""
        return f" on {self.host}" if self.host else ""


def still_there(
    workspace: Path, known: Collection[notes.Submission]
) -> list[tuple[notes.Submission, list[int]]]:
    """The submissions with jobs that wait or run, with their places; the others are forgotten."""
    seen = ask.queue() if known else {}
    start = notes.comment_start(workspace)
    ids = {
        each.comment.removeprefix(start): job.partition("_")[0]
        for job, each in seen.items()
        if each.comment.startswith(start)
    }
    found = []
    for submission in known:
        submission.id = submission.id or ids.get(submission.token, "")
        jobs = {submission.job(at): at for at in range(len(submission.jobs)) if submission.id}
        live = [at for job, at in jobs.items() if job in seen and seen[job].fate == "live"]
        if live:
            found.append((submission, live))
        else:
            notes.forget(workspace, submission)
    return found


@dataclass
class Fleet:
    """``carrier``: the job that is to make a node. ``crashed``: how often jobs have died of a node."""

    nodes: Mapping[Link, Node]
    submitter: Submitter
    jobs: dict[str, Live] = field(default_factory=dict)
    carrier: dict[Link, str] = field(default_factory=dict)
    crashed: Counter[Link] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.inputs = inputs_of(self.nodes)

    @property
    def workspace(self) -> Path:
        return self.submitter.machine.workspace

    @property
    def room(self) -> int:
        """How many jobs more there may be."""
        return self.submitter.settings.most - len(self.jobs)

    def come_back(self, wanted: Container[Link]) -> list[str]:
        """Take up the jobs of drivers before this one that carry some of these nodes; forget those that have
        ended."""
        back: list[str] = []
        for submission, there in still_there(self.workspace, notes.submissions(self.workspace)):
            back += [
                self._take(submission, at, wanted)
                for at in there
                if any(link in wanted for link in submission.jobs[at].links)
            ]
        return back

    def _take(self, submission: notes.Submission, at: int, wanted: Container[Link]) -> str:
        job, carried = submission.job(at), submission.jobs[at]
        log = notes.log_path(self.workspace, submission.token, job)
        report = notes.report_path(self.workspace, submission.token, job)
        self.jobs[job] = Live(job, carried, submission, log, report)
        for link in carried.links:
            if link in wanted:
                self.carrier[link] = job
                self.crashed[link] = max(self.crashed[link], carried.crashed)
        return job

    def submit(self, todo: Collection[Link]) -> tuple[list[str], int]:
        """Submit jobs for these nodes, as far as there is room; returns their ids, and how many jobs there is
        no room for. Raises ``Refused``; what was submitted before is in ``jobs``."""
        jobs = self._grouped(todo)
        gpu = self.submitter.machine.device != "cpu"
        settings = self.submitter.settings
        shapes = [shape_of([stage for stage, _ in job.links], settings, gpu=gpu) for job in jobs]
        others = [self._carriers(job.links) for job in jobs]
        waited = self._waited(todo)
        ids: dict[int, str] = {}
        room = self.room
        for group in arrays(jobs, list(zip(shapes, others, strict=True)), settings.array):
            chosen = group[: room - len(ids)]
            if not chosen or not jobs[chosen[0]].after <= ids.keys():
                continue
            after = {ids[at] for at in jobs[chosen[0]].after} | others[chosen[0]]
            wanted = [self._wanted(jobs[at].links, waited) for at in chosen]
            submission = self.submitter.submit(shapes[chosen[0]], wanted, after)
            ids |= {at: self._take(submission, place, todo) for place, at in enumerate(chosen)}
        return list(ids.values()), len(jobs) - len(ids)

    def _grouped(self, todo: Collection[Link]) -> Sequence[Job]:
        own = [link for link in self.inputs if link in todo]
        inputs = {link: [each for each in self.inputs[link] if each in todo] for link in own}
        return grouped(inputs, [link for link in own if recipe_of(link[0]).needs.duration != "hours"])

    def _carriers(self, links: Collection[Link]) -> frozenset[str]:
        """The jobs, submitted before, that make inputs of these nodes."""
        sources = {source for link in links for source in self.inputs[link]}
        return frozenset(self.carrier[each] for each in sources if each in self.carrier)

    def _waited(self, todo: Collection[Link]) -> dict[Link, set[Link]]:
        """Node -> those of ``todo`` that need it."""
        found: dict[Link, set[Link]] = {}
        for link in todo:
            for source in self.inputs[link]:
                found.setdefault(source, set()).add(link)
        return found

    def _wanted(self, links: Sequence[Link], waited: Mapping[Link, set[Link]]) -> Wanted:
        own = set(links)
        return Wanted(
            nodes=[self.nodes[link] for link in links],
            waited={link for link in links if waited.get(link, set()) - own},
            crashed=max(self.crashed[link] for link in links),
        )

    def release(self, job: str) -> Live:
        """A job has ended: nobody makes its nodes now."""
        live = self.jobs.pop(job)
        for link in live.carried.links:
            if self.carrier.get(link) == job:
                del self.carrier[link]
        submission = live.submission
        if not any(submission.job(at) in self.jobs for at in range(len(submission.jobs))):
            notes.forget(self.workspace, submission)
        return live

    def cancel(self, jobs: Iterable[str]) -> None:
        mine = [job for job in jobs if job in self.jobs]
        ask.cancel(mine)
        for job in mine:
            self.release(job)


def named(ids: Collection[str]) -> str:
    """Jobs, for people: ``3 jobs (17, 18)``; an array is named once."""
    mains = list(dict.fromkeys(job.partition("_")[0] for job in ids))
    return f"{counted(len(ids), 'job')} ({few(mains)})"
