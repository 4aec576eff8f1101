"""An experiment in its workspace: opened, forecast, run, and what its last run did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel

from sfrbench.catalog.cards import Catalog
from sfrbench.errors import InputError, NotReadyError, problem_of
from sfrbench.files.atomic import read_state, write_atomic
from sfrbench.files.formats import FORMATS, check_replaced, readable
from sfrbench.files.units import now
from sfrbench.files.urls import sqlite_url
from sfrbench.machine.needs import Machine
from sfrbench.machine.speed import Target
from sfrbench.plan.build import Cell, Plan, build_plan
from sfrbench.plan.graph import Node
from sfrbench.run.begun import begun
from sfrbench.run.boards import board_of, shown
from sfrbench.run.executors.choice import Chosen as Executor
from sfrbench.run.executors.choice import How, choose, open_pool
from sfrbench.run.executors.drive import drive
from sfrbench.run.executors.precision import Settler, uncompiled
from sfrbench.run.forecast import Forecast, target_of
from sfrbench.run.outcomes import Book, Listener, Outcome, Outcomes
from sfrbench.run.past import Past
from sfrbench.run.signs import Signs, sweep
from sfrbench.spec.extends import fingerprint, locate
from sfrbench.spec.model import ItemKinds
from sfrbench.spec.reader import read_spec
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store

log = logging.getLogger(__name__)

DEFAULT = How()
_ROUGHLY_S = {"seconds": 5.0, "minutes": 120.0, "hours": 7200.0}


class Entry(BaseModel):
    """What became of a node in the last run."""

    stage: str
    key: str
    status: str
    reason: str
    seconds: float
    log: str
    host: str = ""
    job: str = ""


class Journal(BaseModel):
    """The file that says what the last run of an experiment did."""

    format: Annotated[int, AfterValidator(readable("journal"))] = 1
    started: str
    ended: str
    tracking_fault: str | None
    nodes: list[Entry]

    def write(self, path: Path) -> bool:
        """Whether it could be written; a warning says why not. The work itself is in the store."""
        try:
            write_atomic(path, self.model_dump_json(indent=1))
        except OSError as error:
            log.warning("what this run did cannot be noted: %s", problem_of(error))
            return False
        return True


@dataclass(frozen=True)
class Experiment:
    """A plan, and the workspace that it runs in."""

    plan: Plan
    catalog: Catalog
    machine: Machine
    store: Store
    _forecasts: dict[Target, Forecast] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.plan.spec.name

    @property
    def profile(self) -> str:
        return self.plan.spec.profile.name

    @property
    def report_folder(self) -> Path:
        return self.machine.workspace / "reports" / self.name / self.profile

    @property
    def journal_path(self) -> Path:
        return self.machine.workspace / "journal" / f"{self.name}-{self.profile}.json"

    def forecast(self, on: str = "", workers: int = 1) -> Forecast:
        """What its nodes will take on what each of so many workers has here, or on a card; by the records
        that there were when this was first asked."""
        at = target_of(self.plan, self.machine, on, workers)
        if at not in self._forecasts:
            self._forecasts[at] = Forecast(self.plan, self.store, self.machine, Past(self.store, at))
        return self._forecasts[at]

    def left(self) -> dict[Link, Node]:
        """The nodes that are still to be made."""
        return {link: node for link, node in self.plan.nodes.items() if not self.store.has(*link)}

    def needing(self) -> str:
        """The profile, where it needs an accelerator and nodes are to be made that use one; else nothing."""
        profile = self.plan.spec.profile
        stages = {stage for stage, _ in self.left()} if profile.needs_gpu else set()
        return profile.name if any(recipe_of(stage).needs.accelerator for stage in stages) else ""

    def journal(self) -> list[Entry]:
        """What the last run did, node by node; empty where there was none."""
        entries = read_state(self.journal_path, Journal)
        return [] if entries is None else entries.nodes


def open_experiment(
    spec: str,
    profile: str,
    machine: Machine,
    *,
    items: ItemKinds,
    sets: Sequence[str] = (),
    registry: Sequence[Path] = (),
) -> Experiment:
    """Read and plan a specification; ``items`` are the kinds that its report may have.

    Raises ``InputError`` with everything that is wrong.
    """
    catalog = Catalog.read(registry)
    read = read_spec(locate(spec), profile, sets, items=items)
    plan = build_plan(read, catalog, machine.fingerprint, look=machine.predicted)
    return Experiment(plan, catalog, machine, Store(machine.workspace / "store"))


class _Claim(BaseModel):
    """Which specification the report, the journal and the tracking of a name are of."""

    path: str
    sha256: str


def claim(experiment: Experiment) -> None:
    """Raises ``InputError`` where another specification of this name uses the workspace: one would replace
    the other's report. A file that was moved, or a copy of the same content, is not another. Also where the
    journal or the report there is of a later format."""
    check_replaced(experiment.journal_path, "journal")
    check_replaced(experiment.report_folder / "provenance.json", "provenance.json")
    document = experiment.plan.spec.document
    path = document.path.resolve()
    place = experiment.journal_path.with_suffix(".spec")
    mine, known = _Claim(path=str(path), sha256=document.sha256), read_state(place, _Claim)
    if known == mine:
        return
    if known is not None and known.path != mine.path:
        other = Path(known.path)
        if other.is_file() and fingerprint(other) != mine.sha256:
            raise InputError(
                f"another specification called '{experiment.name}' has its report here: {other}",
                where=str(path),
                hint="rename one of the two files, or give this one a --workspace of its own",
            )
    write_atomic(place, mine.model_dump_json())


def execute(
    experiment: Experiment, listener: Listener, tracking_uri: str | None, how: How = DEFAULT
) -> Outcomes:
    """Run what is missing and log finished cells.

    Raises ``NotReadyError``, and ``OSError`` where the workspace cannot be written to, before the first node.
    """
    plan, store = experiment.plan, experiment.store
    chosen = _ready(experiment, how)
    claim(experiment)
    from sfrbench.run.tracking.mlflow_log import Tracker

    uri = tracking_uri or default_tracking_uri(experiment.machine.workspace)
    tracker = Tracker(uri, experiment.machine.workspace) if uri != "none" else None
    finished: list[Cell] = []

    def on_cell(cell: Cell) -> None:
        finished.append(cell)
        if tracker and outcomes.count("ran", "elsewhere"):
            tracker.log_cells(plan, store, [cell])

    outcomes, over = Outcomes(), False
    started = now()
    with begun(experiment.machine.workspace, store, experiment.journal_path.stem, plan.nodes) as ended:
        try:
            if chosen is None:
                Book(plan, listener, outcomes).reuses(store)  # torch is not imported
                finished = list(plan.cells)
            else:
                store.open()
                for note in filter(None, chosen.notes):
                    listener.says(f"note: {note}")
                _make(experiment, Book(plan, listener, outcomes), on_cell, chosen, detach=how.detach)
            if tracker:
                tracker.log_cells(plan, store, finished)
            over = True
        finally:
            if outcomes.by_link:
                nodes = [_entry(node, outcomes.by_link.get(link)) for link, node in plan.nodes.items()]
                fault = tracker.broken if tracker else None
                journal = Journal(
                    format=FORMATS["journal"],
                    started=started,
                    ended=now(),
                    tracking_fault=fault,
                    nodes=nodes,
                )
                if journal.write(experiment.journal_path) and over:
                    ended()
    return outcomes


def _ready(experiment: Experiment, how: How) -> Executor | None:
    """The executor of what is to be made; none: nothing is. Raises ``NotReadyError`` with all that is missing
    for it here."""
    machine, left = experiment.machine, experiment.left()
    missing, chosen = machine.lacks(experiment.plan), None
    if left:
        missing += machine.lacks_place()
        try:
            chosen = choose(how, machine, experiment.needing())
        except NotReadyError as error:
            missing += error.problems
    if not missing and chosen is not None and chosen.gpu:
        missing = Settler(chosen.gpu).refused(left.values())
    if chosen is not None and chosen.executor in ("inline", "local"):
        missing += uncompiled(left.values(), chosen.gpu or "cpu")
    if missing:
        raise NotReadyError.of(missing)
    return chosen


def _make(
    experiment: Experiment, book: Book, on_cell: Callable[[Cell], None], chosen: Executor, *, detach: bool
) -> None:
    """Run what is missing, by the jobs of a cluster or by processes that this one drives."""
    if chosen.executor != "slurm":
        _drive(experiment, book, on_cell, chosen)
        return
    from sfrbench.run.executors.slurm.run import run_jobs

    plan, store, machine = experiment.plan, experiment.store, experiment.machine
    board = board_of(plan, "slurm", weights_of(experiment.forecast()))
    run_jobs(board, plan, store, machine, book, on_cell, detach=detach)


def _drive(experiment: Experiment, book: Book, on_cell: Callable[[Cell], None], chosen: Executor) -> None:
    """Run the plan on the chosen executor, and let others see it."""
    workspace, store = experiment.machine.workspace, experiment.store
    sweep(workspace)
    seconds = weights_of(experiment.forecast(workers=chosen.workers or 1))
    board = board_of(experiment.plan, chosen.executor, seconds)
    with Signs(workspace, board.run) as signs, shown(workspace, board):
        pool = open_pool(chosen, store, experiment.profile, signs)
        drive(experiment.plan, store, pool, book, on_cell, seconds)
    sweep(workspace)  # of workers that died


def weights_of(forecast: Forecast) -> dict[Link, float]:
    """How long nodes may take, for their order: as forecast, or roughly by what their stage says."""
    found = {}
    for link, node in forecast.plan.nodes.items():
        seconds = forecast.seconds(link)
        found[link] = _ROUGHLY_S[recipe_of(node.stage).needs.duration] if seconds is None else seconds
    return found


def default_tracking_uri(workspace: Path) -> str:
    return sqlite_url(workspace / "mlflow.db")


def _entry(node: Node, outcome: Outcome | None) -> Entry:
    if outcome is None:
        return Entry(stage=node.stage, key=node.key, status="not run", reason="", seconds=0.0, log="")
    return Entry(
        stage=node.stage,
        key=node.key,
        status=outcome.status,
        reason=outcome.reason,
        seconds=outcome.seconds,
        log=outcome.log,
        host=outcome.host,
        job=outcome.job,
    )
