"""``extends`` in a specification: the file that it goes on from, which may itself extend one.

The name of a shipped experiment, or a path (it ends in ``.yaml`` or ``.yml``) from the folder of the file
that says it. What one file says is laid over the other: see ``overlay``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sfrbench.errors import InputError, did_you_mean, shown
from sfrbench.files.yamlio import Document, load
from sfrbench.spec.overlay import Told, document_of, laid_over, told
from sfrbench.spec.shipped import ENDINGS, experiments
from sfrbench.spec.written import one_line, written

KEY = "extends"


def locate(spec: str) -> Path:
    """The file of a specification: a path, or the name of a shipped one, whatever folder has that name."""
    path = Path(spec)
    if path.suffix in ENDINGS or (path.exists() and not path.is_dir()):
        return path
    if path.is_dir() and spec not in experiments():
        hint = "name a file in it, which ends in .yaml, or a shipped experiment: sfrbench list experiment"
        raise InputError("a folder is no specification", where=spec, hint=hint)
    return _shipped(spec)


def _shipped(name: str, where: str = "", hint: str = "") -> Path:
    """The file of a shipped experiment. Raises ``InputError`` with the known names."""
    known = experiments()
    if name not in known:
        raise InputError(f"no experiment {shown(name)}", where=where, hint=did_you_mean(name, known) + hint)
    return known[name]


def load_spec(path: Path) -> Document:
    """A specification with all that it inherits, each value with the place that says it.

    Raises ``InputError`` where a file cannot be read, is missing, or extends itself.
    """
    chain, seen = [load(path)], {path.resolve()}
    while KEY in chain[-1].data:
        base = _base(chain[-1])
        if base.resolve() in seen:
            names = " -> ".join([*(document.path.name for document in chain), base.name])
            what = f"a specification cannot extend itself: {names}"
            raise InputError(what, where=chain[-1].where(KEY), hint="leave out one 'extends' of these")
        chain.append(load(base))
        seen.add(base.resolve())
    if len(chain) == 1:
        return chain[0]
    whole = _own(chain[-1], path)
    for document in chain[-2::-1]:
        whole = laid_over(whole, _own(document, path))
    said = ", ".join(document.path.name for document in chain[1:])
    head = f"# {one_line(path.name)} with what it inherits from {one_line(said)}\n"
    return document_of(whole, path, (head + written(whole)).encode())


def _base(document: Document) -> Path:
    """The file that a specification extends."""
    given, where = document.data[KEY], document.where(KEY)
    if not isinstance(given, str) or not given:
        what = f"{KEY}: a shipped experiment or the path of a file is needed, got {shown(given)}"
        raise InputError(what, where=where, hint=f"as in {KEY}: quickstart, or {KEY}: ../mine.yaml")
    if not given.endswith(ENDINGS):
        return _shipped(given, where, "   a file of yours is named by its path, which ends in .yaml")
    file = document.path.parent / given
    tidy = Path(os.path.normpath(file))
    if not os.path.exists(file):
        hint = f"the path goes from the folder of {document.path.name}"
        raise InputError(f"{KEY}: there is no file {tidy}", where=where, hint=hint)
    return tidy if tidy.resolve() == file.resolve() else file  # a link may lead elsewhere


def _own(document: Document, path: Path) -> Told:
    """What a file says itself; the folders that it names are seen from the folder of ``path``."""
    whole = told(document)
    here, there = os.path.abspath(path.parent), os.path.abspath(document.path.parent)
    said: dict[str, Told] = {key: item for key, item in whole.value.items() if key != KEY}
    listed = said.get("arms")
    if listed is not None and isinstance(listed.value, list) and here != there:
        arms = [_seen_from(arm, here, there) for arm in listed.value]
        said["arms"] = replace(listed, value=arms)
    return replace(whole, value=said)


def _seen_from(arm: Told, here: str, there: str) -> Told:
    """An arm whose ``predictions`` lie in a folder relative to ``there``, as ``here`` names it."""
    given = arm.value.get("predictions") if isinstance(arm.value, dict) else None
    if given is None:
        return arm
    folder = given.value.get("folder") if isinstance(given.value, dict) else given
    if folder is None or not isinstance(folder.value, str) or folder.value[:1] in ("", "~"):
        return arm
    moved = replace(folder, value=os.path.relpath(os.path.join(there, folder.value), here))
    if isinstance(given.value, dict):
        moved = replace(given, value={**given.value, "folder": moved})
    return replace(arm, value={**arm.value, "predictions": moved})


def fingerprint(path: Path) -> str:
    """The hash of all that the specification at a path says; empty where it cannot be read."""
    try:
        return load_spec(path).sha256
    except InputError:
        return ""
