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
from typing import TYPE_CHECKING, Any, cast

from sfrbench.components.base import Ssl
from sfrbench.errors import StoreError
from sfrbench.files.databases import cut_off
from sfrbench.files.units import counted
from sfrbench.plan.build import Cell, Plan
from sfrbench.plan.graph import Node
from sfrbench.plan.study import Study
from sfrbench.run.boards import board_of, shown
from sfrbench.run.executors.drive import drive
from sfrbench.run.executors.inline import InlinePool
from sfrbench.run.experiment import Experiment, weights_of
from sfrbench.run.forecast import Forecast
from sfrbench.run.outcomes import Book, Listener, Outcomes
from sfrbench.run.past import Past
from sfrbench.run.signs import Signs
from sfrbench.search.ending import Ending
from sfrbench.search.opening import Opened, open_study, tracker_of
from sfrbench.search.options import Budget, Options
from sfrbench.search.score import flattering, score_of
from sfrbench.search.storage import faults_of, retry
from sfrbench.search.studies import make_sampler, search_of, suggest, trial_plan, view
from sfrbench.store.removal import gate

if TYPE_CHECKING:
    import optuna

    from sfrbench.run.executors.node import Worker


class TrialFailed(Exception):
    """A node of the trial failed, or nothing was scored."""


class NoRoom(StoreError):
    """A disk is full: every further trial would fail, and none for its values."""


class _Unheard(BaseException):
    """A training could not report, for ``__cause__``. No fault of its node: like Ctrl-C, it ends the plan."""


def work(
    experiment: Experiment,
    options: Options,
    listen: Callable[[int], Listener],
    say: Callable[[str], None],
    ending: Ending | None = None,
) -> Study:
    """Run trials until the budget of the study is spent, with any number of other workers beside.

    ``listen`` gives the listener of a trial by its number; the experiment is one that is ``ready``.
    """
    opened, ending = open_study(experiment, options), ending or Ending()
    tracker = tracker_of(experiment, options)
    budget = Budget.of(search_of(experiment), experiment.plan.space, options)
    runner = _Runner(experiment, opened, options, ending, listen, say)
    study, turn = opened.study, opened.turn
    with faults_of(opened.url):
        while True:
            ending.check()
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
    opened: Opened
    options: Options
    ending: Ending
    listen: Callable[[int], Listener]
    say: Callable[[str], None]
    number: int = -1
    past: Past | None = None  # what records told before the first trial: enough to order nodes by

    def __post_init__(self) -> None:
        from sfrbench.run.executors.node import Worker

        self.study = self.opened.study
        experiment, store = self.experiment, self.experiment.store
        needs_gpu = experiment.plan.spec.profile.needs_gpu
        worker = Worker.of(store, experiment.machine, experiment.profile, needs_gpu)
        self.worker = replace(worker, stopping=self.ending.is_near)

    def one(self) -> None:
        """One trial, from asking for it to telling its value."""
        import optuna

        self.number = -1
        self.study.sampler = make_sampler(self.experiment, self.study)
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(TrialFailed,))
        except (KeyboardInterrupt, NoRoom):
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
        self.opened.turn.release(force=True)  # others may ask: this point is theirs to see
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
            for outcome in outcomes.by_link.values():
                if outcome.no_room:
                    raise NoRoom(outcome.reason, where=f"trial {trial.number}, {outcome.node.stage}")
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
            told = f"{counted(counts['ran'], 'node')} ran, {counts['reused']} reused"
            self.say(f"trial {trial.number}: {told}")

    def _drive(self, plan: Plan, worker: Worker, book: Book, number: int) -> None:
        """Run the nodes of a trial, and let others see it."""
        workspace, (job, log) = self.experiment.machine.workspace, self.options.job
        forecast = Forecast(plan, worker.store, worker.machine, self.past)
        self.past, seconds = forecast.past, weights_of(forecast)
        board = board_of(plan, self.options.executor, seconds, number)
        with (
            Signs(workspace, board.run, device=worker.device, job=job, log=log) as signs,
            shown(workspace, board),
            self.ending.after_a_step(),
        ):
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
