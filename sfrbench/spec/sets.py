"""What is laid over a specification: its own section for a profile, and the ``--set`` options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfrbench.errors import InputError, Problem, did_you_mean, shorter, shown
from sfrbench.files.yamlio import read_value
from sfrbench.spec.model import PROFILES, Flat, Layer
from sfrbench.spec.sections import Reader


def read_section(reader: Reader, profiles: Any, name: str) -> dict[str, Any]:
    """The section for the profile ``name``; all names of profiles are checked."""
    if not isinstance(profiles, Mapping):
        what = f"profiles: must be a mapping, got {shown(profiles)}"
        reader.fault(("profiles",), what, "as in {cpu: {ssl.steps: 100}}")
        return {}
    for each, section in profiles.items():
        if each not in PROFILES:
            reader.fault(("profiles", each), f"profiles: no profile '{each}'", did_you_mean(each, PROFILES))
        elif not isinstance(section, Mapping):
            what = f"profiles.{each}: must be a mapping, got {shown(section)}"
            reader.fault(("profiles", each), what, f"as in {{{each}: {{ssl.steps: 100}}}}")
    section = profiles.get(name, {})
    return dict(section) if isinstance(section, Mapping) else {}


def read_sets(reader: Reader, sets: Sequence[str]) -> tuple[tuple[int, ...], Layer]:
    """``--set PATH=VALUE`` options, the strongest layer."""
    seeds: tuple[int, ...] = ()
    choices: Flat = {}
    for text in sets:
        place = f"--set {shorter(text)}"
        path, equals, raw = text.partition("=")
        if not equals:
            reader.problems.append(Problem(place, "has no '='", "write --set PATH=VALUE"))
            continue
        try:
            value = read_value(raw, place)
        except InputError as error:
            reader.problems += error.problems
            continue
        before = len(reader.problems)
        if path == "seeds":
            seeds = reader.seeds(value if isinstance(value, list) else [value], ("seeds",))
        else:
            choices.update(reader.flat(path, value, ()))
        for index in range(before, len(reader.problems)):
            old = reader.problems[index]
            reader.problems[index] = Problem(place, old.what, old.hint)
    return seeds, Layer(choices, {path: f"--set {path}" for path in choices}, soft=True)
