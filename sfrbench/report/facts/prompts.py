"""What a simulated user said in the cells of prompted models, and how often it looked at labels for that."""

from __future__ import annotations

import logging
from typing import cast

from pydantic import BaseModel

from sfrbench.components.base import Foundation, Prompter
from sfrbench.errors import DataError
from sfrbench.plan.build import Cell
from sfrbench.report.facts.info import Prompted
from sfrbench.report.facts.said import Whole, file_of, said_until, seconds_until
from sfrbench.report.facts.volumes import artefact_of
from sfrbench.run.experiment import Experiment
from sfrbench.stages.interact import recipe as interact
from sfrbench.store.store import Artefact

log = logging.getLogger(__name__)


class _Ledger(BaseModel):
    prompts: dict[str, Whole]
    looks: dict[str, Whole]


class _Index(BaseModel):
    cases: list[str]


def prompted_of(experiment: Experiment) -> list[Prompted]:
    """The cells whose model was prompted, as far as they have run."""
    known: dict[tuple[str, int], tuple[int, float]] = {}  # of a run and a count, each read once
    found = []
    for cell in experiment.plan.cells:
        artefact = artefact_of(experiment, cell, interact.STAGE)
        if artefact is None:
            continue
        try:
            found.append(_prompted(cell, artefact, known))
        except DataError as error:
            log.warning("cell %s: what its prompts were is not told: %s", cell.title, error)
    return found


def _prompted(cell: Cell, artefact: Artefact, known: dict[tuple[str, int], tuple[int, float]]) -> Prompted:
    prompter = cast(Prompter, cell.components["prompter"].component)
    foundation = cast(Foundation, cell.components["foundation"].component)
    ledger = file_of(artefact, "ledger.json", _Ledger)
    cases = file_of(artefact, "index.json", _Index).cases
    if (artefact.key, prompter.after) not in known:
        known[artefact.key, prompter.after] = _used(artefact, cases, prompter.after)
    prompts, seconds = known[artefact.key, prompter.after]
    return Prompted(
        arm=cell.arm,
        axes=cell.axes,
        seed=cell.seed,
        cell=cell.id,
        key=artefact.key,
        cases=len(cases),
        count=prompter.after,
        rounds=prompter.rounds,
        best=prompter.scored == "best",
        prompts=prompts,
        prompts_of_run=sum(ledger.prompts.values()),
        looks=sum(ledger.looks.values()),
        seconds=seconds,
        shows=tuple(text for text in (prompter.shows, _given(foundation)) if text),
        from_guess=prompter.from_guess,
    )


def _given(foundation: Foundation) -> str:
    return "the model is shown where the box around the object's truth is" if foundation.given_extent else ""


def _used(artefact: Artefact, cases: list[str], count: int) -> tuple[int, float]:
    """Prompts of the first ``count`` rounds of all cases, and the seconds that the model took to answer."""
    prompts = sum(said.count for case in cases for said in said_until(artefact, case, count))
    return prompts, sum(seconds_until(artefact, case, count) for case in cases)
