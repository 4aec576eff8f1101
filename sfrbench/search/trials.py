"""A search: trials of one arm, each planned and run like any cell, scored on validation cases.

A trial is a plan against the store, so trials share nodes with each other and with the experiment's own
cells. Workers share nothing but Optuna's storage (and, on one file system, the store); each runs ``work``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from sfrbench.components.base import Ssl
from sfrbench.files.databases import Turn, cut_off
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.graph import Node
from sfrbench.plan.space import Space, grid_size
from sfrbench.plan.study import Study
from sfrbench.run.executors.drive import drive
from sfrbench.run.executors.inline import InlinePool
from sfrbench.run.experiment import Experiment, board_of, claim, default_tracking_uri, weights_of
from sfrbench.run.outcomes import Book, Listener, Outcomes
from sfrbench.run.signs import Signs, shown
from sfrbench.run.tracking.mlflow_log import Tracker
from sfrbench.search.score import flattering, score_of
from sfrbench.search.storage import faults_of, open_storage, retry, storage_url, turn_of
from sfrbench.search.studies import (
    make_pruner,
    make_sampler,
    search_of,
    study_name,
    suggest,
    trial_plan,
    view,
)
from sfrbench.spec.model import Search
from sfrbench.store.removal import gate

if TYPE_CHECKING:
    import optuna
    from filelock import BaseFileLock

    from sfrbench.run.executors.node import Worker

HEARTBEAT = 20  # seconds between signs of life of a running trial


class TrialFailed(Exception):
    """A node of the trial failed, or nothing was scored."""


class _Unheard(BaseException):
    """A training could not report, for ``__cause__``. No fault of its node: like Ctrl-C, it ends the plan."""


@dataclass(frozen=True)
class Options:
    """How a search is run; nothing here changes what the study is."""

    storage: str | None = None
    tracking_uri: str | None = None
    heartbeat: int = HEARTBEAT
    trials: int | None = None  # instead of the specification's budget
    hours: float | None = None


@dataclass(frozen=True)
class Budget:
    """Finished trials, and hours in finished trials, of the whole study."""

    trials: int | None
    hours: float | None

    @classmethod
    def of(cls, search: Search, space: Space, options: Options) -> Budget:
        given = options.trials is not None or options.hours is not None
        trials = options.trials if given else search.trials
        if search.sampler == "grid":
            trials = min(grid_size(space), trials or grid_size(space))
        return cls(trials, options.hours if given else search.hours)

    def next_step(self, study: Study) -> Literal["go", "wait", "done"]:
        """``wait``: what is left runs elsewhere, and is this worker's to run if its worker dies."""
        running = len(study.of("running"))
        if self.hours is not None and study.hours >= self.hours:
            return "wait" if running else "done"
        if self.trials is None or len(study.finished) + running < self.trials:
            return "go"
        return "wait" if running else "done"


def work(
    experiment: Experiment, options: Options, listen: Callable[[int], Listener], say: Callable[[str], None]
) -> Study:
    """Run trials until the budget of the study is spent, with any number of other workers beside.

    ``listen`` gives the listener of a trial by its number; the experiment is one that is ``ready``.
    """
    from filelock import FileLock

    from sfrbench.run.executors.node import Worker

    search, store = search_of(experiment), experiment.store
    name = study_name(experiment)
    claim(experiment)
    store.open()
    lock, url = (
        FileLock(store.root / "locks" / f"search-{name}.lock"),
        storage_url(experiment, options.storage),
    )
    with lock, faults_of(url, reading=True):
        storage = open_storage(url, options.heartbeat)
        study = _open(experiment, name, storage)
        view(experiment, study)  # what was there before can be read
    uri = options.tracking_uri or default_tracking_uri(experiment.machine.workspace)
    tracker = Tracker(uri, experiment.machine.workspace) if uri != "none" else None
    budget = Budget.of(search, experiment.plan.space, options)
    worker = Worker.of(store, experiment.machine, experiment.profile)
    turn = turn_of(storage, name) or lock
    runner = _Runner(experiment, study, worker, turn, listen, say)
    with faults_of(url):
        while True:
            try:
                with turn:  # one worker asks at a time: no two get the same point or overspend the budget
                    _sweep(study, 3 * options.heartbeat)
                    step = budget.next_step(view(experiment, study))
                    if step == "go":
                        runner.one()
                now = view(experiment, study)
            except Exception as error:
                if not cut_off(error):
                    raise
                runner.cut_off()
                continue
            if tracker and step != "wait":
                tracker.log_study(experiment.plan, now)
            if step == "done":
                return now
            if step == "wait":
                time.sleep(min(options.heartbeat, 2))


def _open(experiment: Experiment, name: str, storage: optuna.storages.RDBStorage) -> optuna.Study:
    import optuna

    search = search_of(experiment)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize" if search.larger else "minimize",
        load_if_exists=True,
        pruner=make_pruner(experiment),
    )
    if "experiment" not in study.user_attrs:
        spec = experiment.plan.spec
        facts = {"experiment": spec.name, "profile": spec.profile.name, "metric": f"val.{search.metric}"}
        for key, value in {**facts, "arm": search.arm.name, "seeds": list(search.seeds)}.items():
            study.set_user_attr(key, value)
    return study


def _sweep(study: optuna.Study, grace: float) -> None:
    """Put trials of dead workers in line again."""
    from datetime import datetime, timedelta

    import optuna

    optuna.storages.fail_stale_trials(study)
    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    for trial in running:  # killed before its first sign of life: nothing else would ever end it
        old = trial.datetime_start and datetime.now() - trial.datetime_start > timedelta(seconds=2 * grace)
        if old and not trial.params:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


@dataclass
class _Runner:
    """Runs one trial after the other in this process."""

    experiment: Experiment
    study: optuna.Study
    worker: Worker
    turn: BaseFileLock | Turn
    listen: Callable[[int], Listener]
    say: Callable[[str], None]
    number: int = -1

    def one(self) -> None:
        """One trial, from asking for it to telling its value."""
        import optuna

        self.number = -1
        self.study.sampler = make_sampler(self.experiment, self.study)
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(TrialFailed,))
        except KeyboardInterrupt:
            self._again()
            raise
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            if all(trial.number != self.number for trial in view(self.experiment, self.study).of("retried")):
                raise
            self.say(f"trial {self.number} was silent for too long and is another worker's now")

    def cut_off(self) -> None:
        """The server of the studies went away in the middle of a question, and may have come back."""
        self.say("the connection to the database of studies broke; on with a new one")
        self._again()

    def _again(self) -> None:
        """An interrupted trial is no failed one: it is put in line again."""
        if self.number >= 0 and self.study.trials[self.number].state.name == "FAIL":
            retry()(self.study, self.study.trials[self.number])

    def _objective(self, trial: optuna.Trial) -> float:
        import optuna

        self.number = trial.number
        space = self.experiment.plan.space
        values = {path: suggest(trial, path, found) for path, found in space.items()}
        self.turn.release(force=True)  # others may ask: this point is theirs to see
        plan = trial_plan(self.experiment, values)
        shown = ", ".join(f"{path} {_short(value)}" for path, value in values.items())
        self.say(f"trial {trial.number}: {shown}")
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        with gate(self.experiment.store):
            trial.set_user_attr("nodes", {str(cell.seed): dict(cell.nodes) for cell in plan.cells})
        outcomes = Outcomes()
        watching = replace(self.worker, watch=partial(self._watch, trial, plan))
        try:
            try:
                self._drive(plan, watching, Book(plan, self.listen(trial.number), outcomes), trial.number)
            except _Unheard as stop:
                raise cast(Exception, stop.__cause__) from None
            fault = _fault(plan, outcomes)
            if fault:
                trial.set_user_attr("fault", fault)
                pruned = bool(outcomes.count("pruned"))
                raise optuna.TrialPruned(fault) if pruned else TrialFailed(fault)
            return self._score(trial, plan)
        finally:
            counts = {"ran": outcomes.count("ran"), "reused": outcomes.count("reused", "elsewhere")}
            for key, count in counts.items():
                trial.set_user_attr(key, count)
            told = f"{counts['ran']} nodes ran, {counts['reused']} reused"
            self.say(f"trial {trial.number}: {told}")

    def _drive(self, plan: Plan, worker: Worker, book: Book, number: int) -> None:
        """Run the nodes of a trial, and let others see it."""
        workspace = self.experiment.machine.workspace
        seconds = weights_of(plan, worker.store, worker.machine)
        board = board_of(plan, "inline", seconds, number)
        with Signs(workspace, board.run, device=worker.device) as signs, shown(workspace, board):
            drive(plan, worker.store, InlinePool(worker, signs), book, _nothing, seconds)

    def _watch(self, trial: optuna.Trial, plan: Plan, node: Node, step: int, dice: float) -> bool:
        """Report a validation; true where the training is to stop. Trainings of one trial stand in a row."""
        trainings = [link for link in plan.nodes if link[0] == node.stage]
        steps = cast(Ssl, node.components["ssl"].component).steps
        place = trainings.index((node.stage, node.key)) * steps + step
        larger = search_of(self.experiment).larger
        try:
            trial.report(100 * dice if larger else 100 * (1 - dice), place)
            return step < steps and trial.should_prune()
        except Exception as error:  # of the storage
            raise _Unheard from error

    def _score(self, trial: optuna.Trial, plan: Plan) -> float:
        """The mean over seeds of what a table would show."""
        search, store = search_of(self.experiment), self.experiment.store
        scores = {str(cell.seed): score_of(store, cell, search) for cell in plan.cells}
        trial.set_user_attr("seeds", {seed: score for seed, (score, _) in scores.items()})
        trial.set_user_attr("cases", max(count for _, count in scores.values()))
        known = [score for score, _ in scores.values() if score is not None]
        empty = sum(flattering(store, cell, search) for cell in plan.cells)
        if empty or len(known) < len(scores):
            fault = f"{search.metric} is not scored on any validation case"
            if empty:
                fault = f"{empty} empty predictions, which the protocol counts as best or leaves out"
            trial.set_user_attr("fault", fault)
            raise TrialFailed(fault)
        value = sum(known) / len(known)
        self.say(f"trial {trial.number}: {search.metric} {value:.2f}")
        return value


def _fault(plan: Plan, outcomes: Outcomes) -> str:
    """Why the trial has no value; empty where it has one."""
    for outcome in outcomes.by_link.values():
        if outcome.status == "pruned":
            return f"pruned: {outcome.reason}"
    faults = [fault for cell in plan.cells if (fault := outcomes.cell_fault(cell)) is not None]
    return f"{faults[0].node.stage}: {faults[0].reason}" if faults else ""


def _nothing(cell: Cell) -> None:
    """Finished cells of a trial are logged with the trial."""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
