"""The section ``search`` of a specification: which fields are searched, on what, for how long.

::

    search:
      arm: sfr_mt                         # default: the only arm
      params:
        ssl.lambda_cons: card             # the range of the card's own 'search' entry
        ssl.w_pl: {low: 0.1, high: 10, log: true}
        finetune.rank: [1, 16]
        stitch.scale: {choices: [2, 4, 6]}
      metric: dice                        # on the validation cases of dataset.val
      trials: 20                          # and, or instead, hours: time in trials, over all workers
      sampler: tpe                        # tpe, random, grid, gp
      pruner: median                      # none, median, hyperband
      seeds: [0, 1]                       # averaged in each trial; default: the specification's first
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field, ValidationError

from sfrbench.catalog.faults import describe, hint
from sfrbench.components.base import KINDS, Dataset, Settings
from sfrbench.errors import Problem, did_you_mean, shown
from sfrbench.files.yamlio import Where
from sfrbench.maths.metric_names import METRICS
from sfrbench.spec.model import SWITCHES, Arm, Param, Range, Search
from sfrbench.spec.sections import Reader
from sfrbench.stages.evaluate import recipe as evaluate
from sfrbench.stages.interact import recipe as interact
from sfrbench.stages.predict import recipe as predict
from sfrbench.stages.retrain import recipe as retrain

#: What a sampler needs beside Optuna itself.
NEEDS: Mapping[str, tuple[str, ...]] = {"gp": ("torch", "scipy")}
_FORMS = "give 'card', [low, high], {low, high, log, step} or {choices: [...]}"
_BOOLS = (True, False)
_WHY_NOT_TEST = (
    "what is tuned on test cases is no test any more; a search scores validation cases, "
    "carved from the training side by dataset.val"
)
_DATASET = Dataset.late_fields - {"val", "max_test", "folder"}
_PROTOCOL = {"checkpoint", "stride", "sam_stride", "largest_component"}


class Section(Settings):
    params: dict[str, Any] = Field(min_length=1)
    arm: str | None = None
    metric: str = "dice"
    score: str = "val"
    trials: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0)
    sampler: Literal["tpe", "random", "grid", "gp"] = "tpe"
    pruner: Literal["none", "median", "hyperband"] = "none"
    seeds: Any = None


def read_search(
    reader: Reader,
    section: Any,
    own: Any,
    own_at: Where,
    arms: Sequence[Arm],
    seeds: Sequence[int],
) -> Search | None:
    """The search of a specification; a profile's ``own`` keys replace those of the section.

    Faults go to the reader; None if there is no search or no use in going on.
    """
    if section is not None and not isinstance(section, Mapping):
        what = f"search: must be a mapping, got {shown(section)}"
        reader.fault(("search",), what, "as in {params: {ssl.w_pl: [0.5, 2]}, trials: 20}")
        return None
    if own is not None and (section is None or not isinstance(own, Mapping)):
        what = "search: " + ("must be a mapping" if section is not None else "there is no section 'search'")
        reader.fault(own_at, what, "a profile's section replaces single keys of it")
        own = None
    if section is None:
        return None
    given = {**section, **(own or {})}

    def place(*loc: str | int) -> Where:
        return (*own_at, *loc) if loc and loc[0] in (own or {}) else ("search", *loc)

    try:
        form = Section.model_validate(given)
    except ValidationError as error:
        for fault in error.errors():
            where = reader.document.where(*place(*fault["loc"]))
            reader.problems.append(Problem(where, f"search: {describe(fault)}", hint(fault, Section)))
        return None
    before = len(reader.problems)
    own_seeds = reader.seeds(form.seeds, place("seeds"))
    for loc, what, remedy in [*_arm_faults(form, arms), *_faults(form)]:
        reader.fault(place(*loc), f"search: {what}", remedy)
    arm = _arm(form, arms)
    if len(reader.problems) > before or arm is None:
        return None
    spot = reader.document.where
    return Search(
        params=tuple(
            Param(
                path,
                None if value == "card" else to_range(value),
                spot(*place("params", path)),
                {name: spot(*place("params", path, *rest)) for name, rest in _parts(value).items()},
            )
            for path, value in form.params.items()
        ),
        arm=arm,
        metric=form.metric.removeprefix("val."),
        trials=form.trials,
        hours=form.hours,
        sampler=form.sampler,
        pruner=form.pruner,
        seeds=own_seeds or tuple(seeds[:1]),
        where=spot("search"),
    )


_Fault = tuple[Where, str, str]


def _arm(form: Section, arms: Sequence[Arm]) -> Arm | None:
    by_name = {arm.name: arm for arm in arms}
    return by_name.get(form.arm) if form.arm is not None else (arms[0] if len(arms) == 1 else None)


def _arm_faults(form: Section, arms: Sequence[Arm]) -> Iterator[_Fault]:
    names = [arm.name for arm in arms]
    arm = _arm(form, arms)
    if arm is None:
        if form.arm is not None:
            yield ("arm",), f"no arm '{form.arm}'", did_you_mean(form.arm, names)
        else:
            yield (), "one arm is searched, and there are several", f"add 'arm: NAME'; {', '.join(names)}"
        return
    results = {predict.STAGE, interact.STAGE}
    if arm.predictions is not None:
        yield (
            ("arm",),
            f"arm '{arm.name}' has another tool's results: nothing can be searched",
            "name another",
        )
        return
    if evaluate.STAGE not in arm.stages or not results & set(arm.stages):
        remedy = f"its stages need {predict.STAGE} or {interact.STAGE}, and {evaluate.STAGE}"
        yield ("arm",), f"arm '{arm.name}' is not scored", remedy
    if form.pruner != "none" and retrain.STAGE not in arm.stages:
        what = f"pruner {form.pruner}: arm '{arm.name}' has no stage {retrain.STAGE}, which alone validates"
        yield ("pruner",), what, "set pruner: none"


def _faults(form: Section) -> Iterator[_Fault]:
    """What is wrong with the form of the section, each with its place in it."""
    metric = form.metric.removeprefix("val.")
    if "test" in form.metric.split("."):
        remedy = f"write 'metric: {metric.removeprefix('test.')}'"
        yield ("metric",), f"metric {form.metric}: {_WHY_NOT_TEST}", remedy
    elif metric not in METRICS:
        yield ("metric",), f"no metric '{form.metric}'", did_you_mean(form.metric, METRICS)
    if form.score != "val":
        yield ("score",), f"score {form.score}: {_WHY_NOT_TEST}", "delete this line"
    if form.trials is None and form.hours is None and form.sampler != "grid":
        yield (), "there is no budget", "add 'trials: 20', or 'hours: 2' of time in trials, or both"
    missing = [name for name in NEEDS.get(form.sampler, ()) if find_spec(name) is None]
    if missing:
        what = f"sampler {form.sampler} needs {' and '.join(missing)}, which is not installed here"
        yield ("sampler",), what, f"pip install {' '.join(missing)}, or take sampler: tpe"
    for path, value in form.params.items():
        at: Where = ("params", path)
        yield from ((at, f"{path}: {what}", remedy) for what, remedy in _path_faults(path, value))
        if value != "card":
            for rest, what, remedy in range_faults(value):
                yield (*at, *rest), f"{path}: {what}", remedy


def _path_faults(path: str, value: Any) -> Iterator[tuple[str, str]]:
    head, _, field = path.partition(".")
    if head not in (*KINDS, *SWITCHES):
        yield f"'{head}' is no kind of component and no switch", did_you_mean(head, (*KINDS, *SWITCHES))
    elif path == "pseudo" and isinstance(value, Mapping) and isinstance(value.get("choices"), list):
        for choice in value["choices"]:
            if choice not in SWITCHES["pseudo"]:
                yield f"no choice {shown(choice)}", did_you_mean(str(choice), SWITCHES["pseudo"])
    elif head == "score":
        yield _WHY_NOT_TEST, "delete this line"
    elif (head == "dataset" and field not in _DATASET) or (head == "protocol" and field not in _PROTOCOL):
        known = sorted(_DATASET if head == "dataset" else _PROTOCOL)
        yield (
            "it decides which cases are scored, or how: trials could not be compared",
            (f"of {head}, these can be searched: {', '.join(known)}"),
        )
    elif not field and not (isinstance(value, Mapping) and "choices" in value):
        yield "is no field", f"give {{choices: [NAME, NAME]}}, or the path of a field such as {head}.FIELD"


def range_faults(value: Any) -> Iterator[_Fault]:
    """The faults of a range in a specification or a card, with their places relative to the range."""
    if isinstance(value, Mapping) and "choices" in value:
        choices = value["choices"]
        scalar = isinstance(choices, list) and all(_is_scalar(choice) for choice in choices)
        if not scalar or len(choices) < 2 or len(set(map(repr, choices))) < len(choices):
            what = (
                f"two or more different values are needed (text, numbers, true, false), got {shown(choices)}"
            )
            yield ("choices",), what, _FORMS
        for name in value.keys() - {"choices"}:
            yield (name,), f"choices stand alone, got '{name}' too", "delete it"
        return
    if isinstance(value, list) and len(value) == 2:
        value = {"low": value[0], "high": value[1]}
    known = {"low", "high", "log", "step"}
    if not isinstance(value, Mapping) or not {"low", "high"} <= value.keys() <= known:
        yield (), f"is no range: {shown(value)}", _FORMS
        return
    low, high, log, step = value["low"], value["high"], value.get("log", False), value.get("step")
    if not (_is_number(low) and _is_number(high) and (step is None or _is_number(step)) and log in _BOOLS):
        yield (), f"is no range: {shown(value)}", _FORMS
        return
    if low >= high:
        yield (), f"low {low} is not below high {high}", "swap them, or search another field"
    elif log and low <= 0:
        yield ("low",), f"a logarithmic range starts above 0, got {low}", "raise low, or leave out log"
    elif log and step is not None:
        yield ("step",), "a logarithmic range has no step", "leave out one of the two, or give choices"
    elif step is not None and not 0 < step <= high - low:
        yield ("step",), f"step {step} is not in (0, {high - low:g}]", "lower it"


def to_range(value: Any) -> Range:
    """A range without faults."""
    if isinstance(value, Mapping) and "choices" in value:
        return Range(choices=tuple(value["choices"]))
    if isinstance(value, Mapping):
        return Range(value["low"], value["high"], bool(value.get("log")), value.get("step"))
    return Range(value[0], value[1])


def _parts(value: Any) -> dict[str, tuple[str | int, ...]]:
    """Where the parts of a range stand below it."""
    if isinstance(value, Mapping) and "choices" in value:
        return {f"choices.{index}": ("choices", index) for index in range(len(value["choices"]))}
    if isinstance(value, Mapping):
        return {str(name): (str(name),) for name in value}
    return {"low": (0,), "high": (1,)} if isinstance(value, list) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
