"""Who needs which nodes: last runs, runs that have not ended, reports, studies. Nothing is guessed.

Each source is read whole or not at all: where one cannot be read, nobody can say what is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel

from sfrbench.errors import Problem, StoreError
from sfrbench.files.atomic import read_state
from sfrbench.files.formats import readable, unreadable_file
from sfrbench.run.begun import ENDING, PLACES, Place, name_of
from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store

Shape = TypeVar("Shape", bound=BaseModel)
What = Literal["run", "begun", "report", "study"]


@dataclass(frozen=True)
class User:
    """Something that needs nodes. ``goes_on``: those that it wants made, where they are not yet."""

    name: str  # experiment and profile
    what: What
    source: str  # the file; of a study, its name
    nodes: frozenset[Link]
    goes_on: frozenset[Link]


#: The studies of a workspace. Raises ``SfrbenchError`` where a database cannot be read.
Studies = Callable[[Path], Iterable[User]]


class _Entry(BaseModel):
    stage: str
    key: str


class _Nodes(BaseModel):
    """What journals, notes of begun runs and boards have in common."""

    format: Annotated[int, AfterValidator(readable("journal"))] = 1
    nodes: list[_Entry]

    @property
    def links(self) -> frozenset[Link]:
        return frozenset((entry.stage, entry.key) for entry in self.nodes)


class _Board(_Nodes):
    experiment: str
    profile: str


class _Behind(BaseModel):
    inputs: list[str]


class _Trial(BaseModel):
    nodes: dict[str, dict[str, list[str]]] = {}


class _Study(BaseModel):
    trials: list[_Trial]


class _Report(BaseModel):
    """The nodes in a report's provenance.json: of cells, behind those, of trials."""

    format: Annotated[int, AfterValidator(readable("provenance.json"))] = 1
    nodes: dict[str, dict[str, str]]
    records: dict[str, _Behind]
    study: _Study | None = None

    @property
    def links(self) -> frozenset[Link]:
        texts = {text for roles in self.nodes.values() for text in roles.values()} | self.records.keys()
        texts |= {text for behind in self.records.values() for text in behind.inputs}
        links = {_link(text) for text in texts}
        for trial in self.study.trials if self.study else ():
            links |= {(parts[0], parts[-1]) for roles in trial.nodes.values() for parts in roles.values()}
        return frozenset(links)


def _link(text: str) -> Link:
    stage, _, key = text.partition("/")
    return stage, key


def users_of(workspace: Path, store: Store, studies: Studies) -> list[User]:
    """Everyone who needs nodes of a store. Raises ``StoreError`` where that cannot be told for certain."""
    found: list[User] = []
    problems: list[Problem] = []
    for place in _workspaces(workspace, store, problems):
        found += _files(place, problems)
        found += studies(place)
    problems += _unknown(workspace, store, found)
    if problems:
        raise StoreError.of(problems)
    return found


def _files(workspace: Path, problems: list[Problem]) -> Iterator[User]:
    """Journals come last: a run that ends writes its journal, and then takes its note back."""
    journal, reports = workspace / "journal", workspace / "reports"
    for path in _listed(journal, f"*{ENDING}"):
        if (run := _read(path, _Nodes, _GOES_ON, problems)) is not None:
            yield User(name_of(path), "begun", str(path), run.links, run.links)
    for path in _listed(workspace / "running", "*.json"):
        if (board := _read(path, _Board, _GOES_ON, problems)) is not None:
            name = f"{board.experiment}-{board.profile}"
            yield User(name, "begun", str(path), board.links, board.links)
    for path in _listed(reports, "**/provenance.json"):
        if (report := _read(path, _Report, "report", problems)) is not None:
            name = "-".join(path.relative_to(reports).parts[:-1])
            yield User(name, "report", str(path), report.links, frozenset())
    for path in _listed(journal, "*.json"):
        if (run := _read(path, _Nodes, "journal", problems)) is not None:
            yield User(path.stem, "run", str(path), run.links, run.links)


def _listed(folder: Path, pattern: str) -> list[Path]:
    """Files, but for those that are just being written and have no name yet."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


_GOES_ON = "note of a run that has not ended"
_HINTS = {
    "journal": "run its experiment again, or move the file away if you have given that up",
    "report": "write it again with 'sfrbench report', or move its folder away",
}


def _read(path: Path, shape: type[Shape], what: str, problems: list[Problem]) -> Shape | None:
    found = read_state(path, shape)
    if found is None and path.exists():  # a run that ends takes its note back
        later = unreadable_file(path, "provenance.json" if shape is _Report else "journal")
        if later is not None:
            told = f"{later.what}: what its experiment needs is unknown, and nothing is removed"
            problems.append(replace(later, what=told))
            return None
        hint = _HINTS.get(what, "move it away if that run is over")
        told = f"this {what} cannot be read: what its experiment needs is unknown, and nothing is removed"
        problems.append(Problem(str(path), told, hint))
    return found


def _workspaces(workspace: Path, store: Store, problems: list[Problem]) -> list[Path]:
    """This workspace, and those that share its store by links."""
    here, root = workspace.resolve(), store.root.resolve()
    found = [here, *([root.parent] if (root.parent / "journal").is_dir() else [])]
    noted = {entry: read_state(entry, Place) for entry in _listed(root / PLACES, "*")}
    for entry, place in noted.items():
        if place is None or not Path(place.workspace).is_dir():
            who = place.workspace if place else "a workspace whose name cannot be read"
            told = f"{who} has this store by a link and is not to be seen here: what it needs is unknown"
            problems.append(Problem(str(entry), told, "remove this file if that workspace is no more"))
        elif (Path(place.workspace) / "store").resolve() == root:
            found.append(Path(place.workspace))
    if root.parent != here and here not in found[1:]:
        told = f"the store is a link to {root}, and which workspaces use that was not noted yet"
        problems.append(Problem(str(store.root), told, "run an experiment in each of them first"))
    return list(dict.fromkeys(found))


def _unknown(workspace: Path, store: Store, users: Sequence[User]) -> Iterator[Problem]:
    """What was done here of which no record says what it needs."""
    journals = _listed(workspace / "journal", "*.json")  # read or not
    names = {user.name for user in users} | {path.stem for path in journals}
    studies = {user.source for user in users if user.what == "study"}
    for path in _listed(store.root / "locks", "search-*.lock"):
        study = path.stem.removeprefix("search-")
        if study not in studies:
            names.add(study.rpartition("-")[0])
            told = f"study '{study}' was searched here and is not found: what its trials need is unknown"
            hint = "give its database with --storage, or remove this file if you have given the study up"
            yield Problem(str(path), told, hint)
    for path in _listed(workspace / "journal", "*.spec"):
        if path.stem not in names:
            told = f"'{path.stem}' was begun here and no run of it is recorded: what it needs is unknown"
            hint = "run it again first, or remove this file if you have given it up"
            yield Problem(str(path), told, hint)
    if not journals and all(user.what == "report" for user in users):
        told = "no run is recorded here: what is needed is unknown, and nothing is removed"
        yield Problem(str(workspace / "journal"), told, "run your experiments again: what is there is reused")
