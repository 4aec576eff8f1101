"""One experiment for a terminal: in short, or whole with where each value stands."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sfrbench.files.yamlio import Document
from sfrbench.spec.model import Arm, Spec
from sfrbench.spec.overlay import Told, told
from sfrbench.spec.written import flow, one_line, written

_WIDTH = 100
_HARD = "\u00a0"  # a space where no line ends
_WHOLE = 60  # characters of a choice that stays on one line


def resolved_page(document: Document) -> str:
    """The whole specification as YAML, every value with the file and line that say it."""
    places = {}

    def origin(item: Told) -> str:
        if item.file not in places:
            places[item.file] = one_line(_near(item.file))
        return f"{places[item.file]}:{item.place[0]}"

    return written(told(document), origin)


def _near(file: Path) -> str:
    """A path from here where the file lies below, else whole."""
    path, here = os.path.abspath(file), os.getcwd()
    return os.path.relpath(path, here) if path.startswith(here + os.sep) else path


def spec_page(spec: Spec) -> str:
    """Title, description, arms, axes, seeds and report of a specification under its profile."""
    document = spec.document
    files = dict.fromkeys(file for file in document.files.values() if file != document.path)
    facts = {
        "file": str(document.path),
        "extends": ", ".join(map(str, files)),
        "paper": spec.paper,
        "profile": spec.profile.name,
        "base": _choices(spec.base.choices),
        "also": _choices(spec.overlay.choices),
    }
    lines = [f"experiment/{spec.name}   {spec.title}"]
    lines += _wrapped(spec.description, "  ")
    for name, said in facts.items():
        lines += _wrapped(said, f"  {name:<9}", 11)
    lines += ["  arms", *_arms(spec.arms)]
    if spec.axes:
        lines.append("  axes")
    for axis in spec.axes:
        values = ", ".join(flow(list(row) if len(row) > 1 else row[0]) for row in axis.values)
        lines += _wrapped(values, f"    {', '.join(axis.paths)}: ", 6)
    lines += _points("left out", ((one.when, one.reason) for one in spec.exclude))
    lines += _points("points", ((one.when, _choices(one.layer.choices)) for one in spec.points))
    lines += _wrapped(", ".join(map(str, spec.seeds)), "  seeds    ", 11)
    if spec.search is not None:
        fields = ", ".join(param.path for param in spec.search.params)
        lines += _wrapped(
            f"{fields} of arm {spec.search.arm.name} by val.{spec.search.metric}", "  search   ", 11
        )
    lines.append("  report")
    for item in spec.report:
        shown = item.model_dump(mode="json", exclude_unset=True)
        lines += _wrapped(_choices({item.kind: shown.pop(item.kind), **shown}), "    ", 6)
    return "\n".join(lines)


def _arms(arms: Sequence[Arm]) -> Iterator[str]:
    """A line for each arm: name, label, choices, and stages where most have others."""
    wide = max(len(arm.name) for arm in arms)
    labels = max(len(arm.label) for arm in arms)
    usual = Counter(arm.stages for arm in arms).most_common(1)[0][0]
    for arm in arms:
        said = [_choices(arm.layer.choices)]
        said += [f"stages {', '.join(arm.stages)}"] if arm.stages != usual else []
        said += [f"without {', '.join(arm.without)}"] if arm.without else []
        said += [f"predictions {arm.predictions.folder}"] if arm.predictions else []
        head = f"    {arm.name:<{min(wide, 24)}}  {arm.label:<{min(labels, 32)}}  "
        yield from _wrapped("; ".join(filter(None, said)), head, 8) or [head.rstrip()]


def _points(title: str, entries: Iterable[tuple[Mapping[str, Any], str]]) -> Iterator[str]:
    for number, (when, said) in enumerate(entries):
        if not number:
            yield f"  {title}"
        yield from _wrapped(f"{_choices(when)}: {said}", "    ", 6)


def _choices(values: Mapping[str, Any]) -> str:
    """Paths and values; a line ends inside of one only where that is long."""
    said = [f"{path} {flow(value)}" for path, value in values.items()]
    return ", ".join(one.replace(" ", _HARD) if len(one) <= _WHOLE else one for one in said)


def _wrapped(text: str, head: str, indent: int | None = None) -> list[str]:
    """Lines of a text behind ``head``; none where it is empty."""
    rest = " " * (len(head) if indent is None else indent)
    wide = max(40, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))
    options: Any = {"initial_indent": head, "subsequent_indent": rest}
    options |= {"break_on_hyphens": False, "break_long_words": False}
    return [line.replace(_HARD, " ").rstrip() for line in textwrap.wrap(text, wide, **options)]
