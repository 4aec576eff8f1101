"""What is Optuna's: samplers, pruners, and a study read as plain data. Imports it when called."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ValidationError

from sfrbench.components.base import Protocol, Ssl
from sfrbench.errors import InputError
from sfrbench.plan.build import Plan, build_plan
from sfrbench.plan.resolve import digest
from sfrbench.plan.space import grid_values, probes, scored_arm
from sfrbench.plan.study import State, Study, Trial
from sfrbench.run.experiment import Experiment
from sfrbench.search.storage import faults_of, open_storage, storage_url
from sfrbench.spec.model import Axis, Range, Search

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


def search_of(experiment: Experiment) -> Search:
    """The search of an experiment. Raises ``InputError`` if there is none, or if an option fixes a searched
    field."""
    spec = experiment.plan.spec
    if spec.search is None:
        where = str(spec.document.path)
        hint = "for an example: sfrbench show experiment/search_tau_lambda"
        raise InputError("has no section 'search'", where=where, hint=hint)
    for path in spec.sets.choices:
        if path in experiment.plan.space or path == "score":
            what = "this field is searched" if path != "score" else "a search scores validation cases"
            raise InputError(what, where=f"--set {path}", hint="leave this option out")
    return spec.search


def trial_plan(experiment: Experiment, values: dict[str, Any]) -> Plan:
    """The searched arm at one point, scored on validation cases, for every seed of the search."""
    search = search_of(experiment)
    axes = tuple(Axis((path,), ((value,),), search.where) for path, value in values.items())
    spec = replace(
        experiment.plan.spec,
        arms=(scored_arm(search),),
        axes=axes,
        exclude=(),
        seeds=search.seeds,
        search=None,
        report=(),
    )
    return build_plan(spec, experiment.catalog, experiment.machine.fingerprint, whole=False)


def sample_plan(experiment: Experiment) -> Plan:
    """What a trial takes, at an end of every range."""
    space = experiment.plan.space
    return trial_plan(experiment, {path: next(probes(values))[1] for path, values in space.items()})


def study_name(experiment: Experiment) -> str:
    """Experiment, profile, and a digest of the search and of all that its trials depend on.

    The budget is no part of it. Other ranges, data, settings or versions are another study, so that values
    in one study can be compared.
    """
    search, space = search_of(experiment), experiment.plan.space
    about = {
        "space": {path: asdict(values) for path, values in space.items()},
        **{name: getattr(search, name) for name in ("metric", "sampler", "pruner", "seeds")},
        "reference": sorted(sample_plan(experiment).nodes),
    }
    return f"{experiment.name}-{experiment.profile}-{digest(about)[:10]}"


def make_sampler(experiment: Experiment, study: optuna.Study) -> optuna.samplers.BaseSampler:
    """A sampler for the next trial alone. Its seed is the number of points that were drawn before, so that
    workers do not draw the same ones, and a study whose trials were run again goes on as it would have."""
    from optuna import samplers

    search, space = search_of(experiment), experiment.plan.space
    drawn = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.params and "retry_history" not in trial.system_attrs
    ]
    seed = int(digest([study.study_name, len(drawn)])[:8], 16)
    if search.sampler == "grid":
        grid = {path: grid_values(values) for path, values in space.items()}
        return samplers.GridSampler(grid, seed=int(digest(study.study_name)[:8], 16))
    if search.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if search.sampler == "gp":
        return samplers.GPSampler(seed=seed)
    return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def make_pruner(experiment: Experiment) -> optuna.pruners.BasePruner:
    """The pruner of the search; resources of hyperband are steps of training, over all seeds."""
    from optuna import pruners

    search = search_of(experiment)
    if search.pruner == "median":
        return pruners.MedianPruner()
    if search.pruner == "hyperband":
        cell = next(cell for cell in experiment.plan.cells if cell.arm == search.arm.name)
        ssl = cast(Ssl, cell.components["ssl"].component)
        return pruners.HyperbandPruner(min(ssl.val_every, ssl.steps), ssl.steps * len(search.seeds))
    return pruners.NopPruner()


def suggest(trial: optuna.Trial, path: str, searched: Range) -> Any:
    """The value of one field in a trial."""
    if searched.choices:
        return trial.suggest_categorical(path, list(searched.choices))
    if searched.whole:
        step = int(searched.step or 1)
        return trial.suggest_int(path, int(searched.low), int(searched.high), step=step, log=searched.log)
    return trial.suggest_float(path, searched.low, searched.high, step=searched.step, log=searched.log)


def read_study(experiment: Experiment, storage: str | None = None) -> Study | None:
    """The study of an experiment as plain data; None if there is none yet."""
    if experiment.plan.spec.search is None:
        return None
    default = experiment.machine.workspace / "studies.db"
    if storage is None and not default.is_file():
        return None
    import optuna

    url = storage_url(experiment, storage)
    opened = open_storage(url)
    with faults_of(url, reading=True):
        try:
            study = optuna.load_study(study_name=study_name(experiment), storage=opened)
        except KeyError:
            return None
        return view(experiment, study)


def view(experiment: Experiment, study: optuna.Study) -> Study:
    """What a study holds now."""
    search = search_of(experiment)
    trials = study.get_trials(deepcopy=False)
    gone = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    protocol = cast(Protocol, experiment.plan.cells[0].components["protocol"].component)
    return Study(
        name=study.study_name,
        metric=search.metric,
        larger=search.larger,
        unit="%" if search.larger else protocol.spacing,
        seeds=search.seeds,
        space=experiment.plan.space,
        sampler=search.sampler,
        pruner=search.pruner,
        trials=[_trial(trial, trial.number in gone) for trial in trials],
        importances=_importances(study),
        optuna=version("optuna"),
    )


def _trial(trial: FrozenTrial, gone: bool) -> Trial:
    states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    states |= {"RUNNING": "running", "WAITING": "waiting"}
    state = states[trial.state.name]
    # one that ended before it had values did nothing: it was killed as it was asked for
    lost = state == "failed" and (gone or not trial.params)
    if state == "complete" and not (trial.params and isinstance(trial.value, float)):
        raise ValueError(f"trial {trial.number} is complete and has no values")
    history = trial.system_attrs.get("retry_history")
    return Trial(
        number=trial.number,
        state="retried" if lost else state,
        values=dict(trial.params),
        value=trial.value if state == "complete" else None,
        curve=dict(trial.intermediate_values),
        seconds=trial.duration.total_seconds() if trial.duration is not None else None,
        started=trial.datetime_start.isoformat(timespec="seconds") if trial.datetime_start else "",
        facts={**_facts(trial), **({"after": history[-1]} if history else {})},
    )


class _Facts(BaseModel):
    """What a trial notes of itself, each once it is known."""

    worker: str = ""
    nodes: dict[str, dict[str, tuple[str, str]]] = {}
    fault: str = ""
    ran: int = 0
    reused: int = 0
    seeds: dict[str, float | None] = {}
    cases: int = 0


def nodes_of(trial: FrozenTrial) -> set[tuple[str, str]]:
    """The nodes that a trial noted before it began with them."""
    cells = _facts(trial).get("nodes", {})
    return {(stage, key) for roles in cells.values() for stage, key in roles.values()}


def _facts(trial: FrozenTrial) -> dict[str, Any]:
    try:
        return _Facts.model_validate(trial.user_attrs).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        fault = error.errors()[0]
        at = ".".join(map(str, fault["loc"]))
        raise ValueError(f"trial {trial.number} says of its {at}: {fault['msg']}") from None


def _importances(study: optuna.Study) -> dict[str, float]:
    """PED-ANOVA; empty where there are too few trials to say anything."""
    import optuna

    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(done) < 4 or len({trial.value for trial in done}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(optuna.importance.get_param_importances(study))
