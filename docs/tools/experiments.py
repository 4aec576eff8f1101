"""The experiments that ship: a line, and a section, of each."""

from __future__ import annotations

from collections.abc import Iterator

from docs.tools.words import code, plain, table, value
from sfrbench.errors import InputError
from sfrbench.report.items import kinds
from sfrbench.spec.model import Spec
from sfrbench.spec.reader import read_spec
from sfrbench.spec.shipped import experiments


def tables() -> dict[str, str]:
    specs = read()
    rows = [(f"[`{spec.name}`](#{spec.name})", plain(spec.paper), plain(spec.title)) for spec in specs]
    listed = table(("experiment", "of the paper", "title"), rows)
    return {"experiments": "\n\n".join([listed, *map(_section, specs)])}


def read() -> list[Spec]:
    """The shipped specifications in profile paper. Raises ``InputError`` where one has a fault."""
    specs = [read_spec(path, "paper", items=kinds()) for path in experiments().values()]
    faults = [problem for spec in specs for problem in spec.problems]
    if faults:
        raise InputError.of(faults)
    return specs


def _section(spec: Spec) -> str:
    parts = [f"## {spec.name} {{#{spec.name}}}", f"**{plain(spec.title)}**", plain(spec.description)]
    return "\n\n".join(filter(None, [*parts, table(("", ""), _facts(spec))]))


def _facts(spec: Spec) -> Iterator[tuple[str, str]]:
    if spec.paper:
        yield "of the paper", plain(spec.paper)
    for head in ("dataset", "protocol"):
        if head in spec.base.choices:
            yield head, code(str(spec.base.choices[head]))
    labels = [plain(arm.label) for arm in spec.arms]
    yield "arms", f"{len(labels)}: " + ", ".join(labels)
    for axis in spec.axes:
        shown = [value(list(row)) if len(row) > 1 else value(row[0]) for row in axis.values]
        yield "axis " + ", ".join(map(code, axis.paths)), ", ".join(shown)
    yield "seeds", ", ".join(map(str, spec.seeds))
    if spec.search is not None:
        yield "search", ", ".join(code(param.path) for param in spec.search.params)
    items = dict.fromkeys(item.kind for item in spec.report)
    yield "report", ", ".join(f"[{kind}](report-items.md#{kind})" for kind in items)
