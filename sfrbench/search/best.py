"""The specification with a study's best values, and where they came from."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from sfrbench.files.atomic import write_atomic
from sfrbench.files.units import counted
from sfrbench.plan.study import Study, Trial
from sfrbench.run.experiment import Experiment
from sfrbench.spec.model import Search

Section = MutableMapping[str, Any]


def write_best_spec(experiment: Experiment, study: Study, out: Path) -> Path:
    """Write the specification to ``out``: the searched arm has the best trial's values, the search is gone.

    Comments of the specification stay; what the values come from stands above it. There must be a best trial.
    """
    from ruamel.yaml import YAML

    spec, best = experiment.plan.spec, study.best
    if spec.search is None or best is None:
        raise ValueError("there is no best trial to write")
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    whole: Section = yaml.load(spec.document.text)
    whole.pop("search")
    profiles = whole.get("profiles") or {}
    for section in profiles.values():
        section.pop("search", None)
    arm = _arm(whole, spec.search)
    scaled = (profiles.get(spec.profile.name) or {}).get("arms", {}).get(spec.search.arm.name, {})
    for path, value in best.values.items():
        if not _put(scaled, path, value, add=False):  # what a profile says of an arm is stronger than the arm
            _put(arm, path, value, add=True)
    text = StringIO()
    yaml.dump(whole, text)
    write_atomic(out, "\n".join(_origin(experiment, study, best, spec.search)) + "\n" + text.getvalue())
    return out


def _arm(whole: Section, search: Search) -> Section:
    """The searched arm's own section; a specification without arms gets the one that it means."""
    for arm in whole.get("arms") or []:
        if arm["name"] == search.arm.name:
            found: Section = arm
            return found
    whole["arms"] = [{"name": search.arm.name}]
    made: Section = whole["arms"][0]
    return made


def _put(section: Section, path: str, value: Any, *, add: bool) -> bool:
    """Set one choice where the section gives it already, in whichever form, or else (``add``) anew."""
    if path in section:
        old = section[path]
        if isinstance(old, MutableMapping):  # a component with fields: what is chosen is its name
            old["name"] = value
        else:
            section[path] = value
        return True
    for key, inner in section.items():
        if path.startswith(f"{key}.") and isinstance(inner, MutableMapping):
            return _put(inner, path[len(key) + 1 :], value, add=add)
    if add:
        section[path] = value
    return add


def _origin(experiment: Experiment, study: Study, best: Trial, search: Search) -> list[str]:
    """Where the values come from, as comments."""
    spec = experiment.plan.spec
    cases, seeds = best.facts.get("cases", 0), ", ".join(map(str, search.seeds))
    today = datetime.now(UTC).date().isoformat()
    told = [
        f"Values of arm '{search.arm.name}' found by a search in profile {spec.profile.name}:",
        *(f"  {path}: {value!r}" for path, value in best.values.items()),
        f"study {study.name}, sampler {study.sampler}",
        f"trial {best.number} of {best.started}, the best of {len(study.finished)}",
        f"{study.metric} {best.value:.4f} {study.unit} on {counted(cases, 'validation case')}, seeds {seeds}",
        f"from {spec.document.path.name}, written {today}",
    ]
    if spec.sets.choices:
        sets = ", ".join(f"{path}={value}" for path, value in spec.sets.choices.items())
        told.append(f"the search ran with --set {sets}, which this file does not hold")
    return [f"# {line}" for line in told]
