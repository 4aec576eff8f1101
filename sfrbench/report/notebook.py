"""The notebook of a report: made from a template, executed, written beside the page."""

from __future__ import annotations

import importlib.util
import os
import pprint
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfrbench.errors import InputError, NotReadyError
from sfrbench.files.atomic import write_atomic
from sfrbench.files.private import without_places
from sfrbench.files.roots import BESIDE, shipped
from sfrbench.files.urls import has_password, masked
from sfrbench.report.facts.assemble import entries_of
from sfrbench.report.items import item_of
from sfrbench.report.render.style import stamp
from sfrbench.report.render.tables import markdown
from sfrbench.run.experiment import Experiment

PACKAGES = ("ipykernel", "nbclient", "nbformat")
NAME = "report.ipynb"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CELL = re.compile(r"# %%(?P<each> each)?(?P<text> \[markdown\])?\s*")


@dataclass(frozen=True)
class Cell:
    """A cell of a template; ``each``: once for every item."""

    source: str
    text: bool
    each: bool


def check_storage(storage: str | None) -> None:
    """Raises ``InputError`` where a notebook would hold the password of a database."""
    if storage is not None and has_password(storage):
        hint = "leave it out of the URL: PostgreSQL, for example, reads ~/.pgpass and PGPASSWORD"
        raise InputError(
            "a notebook would hold this password", where=f"--storage {masked(storage)}", hint=hint
        )


def check_packages() -> None:
    """Raises ``NotReadyError`` where a package of the extra 'notebook' is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise NotReadyError(f"notebooks need {', '.join(missing)}", hint="pip install 'sfrbench[notebook]'")


def read_template(path: Path | None) -> list[Cell]:
    """The cells of a template in the percent format; none: of the shipped one. Raises ``InputError``."""
    file = shipped("reports") / "notebook.py" if path is None else path
    if not file.is_file():
        raise InputError("no such template", where=str(file), hint="see reports/notebook.py")
    blocks: list[tuple[re.Match[str], list[str]]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        head = _CELL.fullmatch(line)
        if head is None and line.startswith("# %%"):
            hint = "'# %%', '# %% [markdown]', '# %% each' or '# %% each [markdown]'"
            raise InputError("this begins no cell", where=f"{file}:{number}", hint=hint)
        if head is not None:
            blocks.append((head, []))
        elif blocks:
            blocks[-1][1].append(line)
    if not blocks:
        raise InputError("the template has no cell", where=str(file), hint="begin each with '# %%'")
    return [_cell(head, lines) for head, lines in blocks]


def _cell(head: re.Match[str], lines: Sequence[str]) -> Cell:
    text = head["text"] is not None
    kept = [line.removeprefix("#").removeprefix(" ") for line in lines] if text else lines
    return Cell("\n".join(kept).strip("\n"), text, head["each"] is not None)


def fill(
    template: Sequence[Cell], values: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
) -> list[Cell]:
    """Cells of a notebook. ``values`` are what words stand for; neighbouring cells 'each' stay together."""
    made: list[Cell] = []
    block: list[Cell] = []
    for cell in [*template, None]:
        if cell is not None and cell.each:
            block.append(cell)
            continue
        for item in items if block else ():
            known = {**values, "ITEM": dict(item), "HEADING": item_of(item).over}
            made += [_filled(each, known) for each in block]
        block = []
        made += [] if cell is None else [_filled(cell, values)]
    return made


def _filled(cell: Cell, values: Mapping[str, Any]) -> Cell:
    words = "|".join(values)
    if cell.text:
        source = re.sub(rf"\b({words})\b", lambda found: markdown(str(values[found[1]])), cell.source)
    else:
        source = re.sub(rf'"({words})"', lambda found: _literal(values[found[1]], found), cell.source)
    return Cell(source, cell.text, False)


def _literal(value: Any, place: re.Match[str]) -> str:
    """A value as Python, over several lines where it is long; they line up with the first."""
    column = place.start() - (place.string.rfind("\n", 0, place.start()) + 1)
    text = pprint.pformat(value, width=max(100 - column, 20), sort_dicts=False)
    return text.replace("\n", "\n" + " " * column)


def write_notebook(
    experiment: Experiment,
    out: Path,
    *,
    sets: Sequence[str] = (),
    storage: str | None = None,
    template: Path | None = None,
) -> Path:
    """Fill the template, execute it in ``out`` and write it there; returns the path.

    A cell that fails ends it: the notebook is written as far as it got, and ``InputError`` says why.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError

    v4: Any = nbformat.v4
    writes: Any = nbformat.writes
    cells = fill(read_template(template), _values(experiment, sets), entries_of(experiment.plan.spec))
    notebook = v4.new_notebook(
        cells=[
            # ids are the same in every run
            (v4.new_markdown_cell if cell.text else v4.new_code_cell)(cell.source, id=f"cell-{number}")
            for number, cell in enumerate(cells)
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    path = out / NAME
    _put_spec(experiment, out)
    try:
        _execute(notebook, out, _environment(experiment, storage))
    except CellExecutionError as error:
        what = f"a cell of the notebook failed: {error.ename}: {error.evalue}"
        raise InputError(what, where=str(path), hint="the notebook says where; see its template") from error
    finally:
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                without_machine(output)
        write_atomic(path, writes(notebook) + "\n")
    return path


def _execute(notebook: Any, folder: Path, environment: Mapping[str, str]) -> None:
    """Run all cells in ``folder``.

    The kernel is reached through sockets in a folder that is the user's alone; by TCP, the default, others
    on the same machine could read along. Windows has no such sockets.
    """
    from nbclient import NotebookClient
    from traitlets.config import Config

    with tempfile.TemporaryDirectory() as own:
        sockets = {"transport": "ipc", "connection_file": str(Path(own) / "kernel.json")}
        client = NotebookClient(
            notebook,
            timeout=None,
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
            config=Config() if os.name == "nt" else Config(KernelManager=sockets),
        )
        client.execute(env=environment)


def without_machine(output: Any) -> None:
    """Take folders, user and host out of what a cell printed, and out of its traceback."""
    kind = output.output_type
    if kind == "stream":
        output.text = without_places(output.text)
    elif kind == "error":
        output.traceback = [without_places(_COLOUR.sub("", line)) for line in output.traceback]
        output.evalue = without_places(output.evalue)
    else:
        for name, text in output.get("data", {}).items():
            if name == "text/plain":
                output.data[name] = without_places(text)


def _values(experiment: Experiment, sets: Sequence[str]) -> dict[str, Any]:
    """What words stand for. No path is among them: workspace, data and registry are the reader's own."""
    spec = experiment.plan.spec
    options = {"profile": experiment.profile, "sets": list(sets)}
    return {
        "TITLE": spec.title,
        "DESCRIPTION": spec.description or "",
        "STAMP": stamp(experiment.profile),
        "EXPERIMENT": spec.name if _ships(experiment) else spec.document.path.name,
        "OPTIONS": {name: value for name, value in options.items() if value},
    }


def _ships(experiment: Experiment) -> bool:
    return experiment.plan.spec.document.path.parent.resolve() == shipped("experiments").resolve()


def _put_spec(experiment: Experiment, out: Path) -> None:
    """A copy of the specification beside the notebook, where it is no shipped one."""
    document = experiment.plan.spec.document
    copy = out / document.path.name
    if not _ships(experiment) and document.path.resolve() != copy.resolve():
        write_atomic(copy, document.text)


def _database(storage: str | None) -> str | None:
    """The address of a database that holds from any folder."""
    prefix, file = "sqlite:///", (storage or "").removeprefix("sqlite:///")
    return f"{prefix}{Path(file).resolve()}" if storage and storage.startswith(prefix) else storage


def _environment(experiment: Experiment, storage: str | None) -> dict[str, str]:
    """This process's environment, in which the kernel finds the same packages, workspace, data and cards from
    another folder."""
    machine, join = experiment.machine, os.pathsep.join
    data = [f"{name}={folder.resolve()}" for name, folder in machine.data.items()]
    places = {
        "SFRBENCH_WORKSPACE": str(machine.workspace.resolve()),
        "SFRBENCH_DATA": join([*data, *filter(None, [os.environ.get("SFRBENCH_DATA")])]),
        "SFRBENCH_REGISTRY": join(str(root.resolve()) for root in experiment.catalog.roots[1:]),
        "SFRBENCH_STORAGE": _database(storage) or "",
    }
    given = [str(Path(part).resolve()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {**os.environ, **places, "PYTHONPATH": os.pathsep.join(dict.fromkeys([*given, str(BESIDE)]))}
