"""Label maps that another tool made: which file is of which case, and what they hold, as one hash.

Nothing here opens a volume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sfrbench.components.dataset._names import composed, spelled
from sfrbench.files.atomic import sha256_of

#: Endings of files that are read.
READ = (".nii.gz", ".nii", ".nrrd")
#: Endings that other tools write, too, and that are not read.
UNREAD = (".mha", ".mhd", ".hdr", ".img", ".npz", ".npy", ".tif", ".tiff", ".h5", ".mgz", ".dcm", ".seg.nrrd")
CASE = "{case}"
Missing = Literal["refuse", "empty"]


@dataclass(frozen=True)
class Predictions:
    """A folder of label maps, one file a case.

    ``files`` is a case's file below the folder, with ``{case}`` for its id; empty: the id and an ending of
    ``READ``. ``labels`` map values in the files to classes, and all that they do not name to ``other``; none:
    values are the classes' own numbers, and a value that is no class is refused. A case without a file is
    refused, or counts as an empty label map.
    """

    folder: Path
    files: str = ""
    labels: tuple[tuple[int, int], ...] | None = None
    other: int | None = None
    missing: Missing = "refuse"
    where: str = field(default="", compare=False)  # in the specification


@dataclass(frozen=True)
class Found:
    """The files of some cases: ``of`` has one for each case that has one, ``twice`` those that have several;
    ``unread`` are files of cases in a format that is not read. ``surplus`` belong to no case."""

    of: Mapping[str, Path]
    missing: tuple[str, ...]
    twice: Mapping[str, tuple[Path, ...]]
    unread: Mapping[str, Path]
    surplus: tuple[str, ...]


def find(folder: Path, files: str, cases: Sequence[str]) -> Found:
    """The files of ``cases``. Raises ``OSError`` where the folder cannot be listed."""
    names = sorted(path.name for path in folder.iterdir())
    if files:
        paths = {case: folder / spelled(folder, files.replace(CASE, case)) for case in cases}
        one = {case: path for case, path in paths.items() if path.is_file()}
        return Found(one, tuple(case for case in cases if case not in one), {}, {}, ())
    by_case: dict[str, list[Path]] = {}
    strange: dict[str, Path] = {}
    for name in names:
        stem, ending = _parted(name)
        if ending in READ and (folder / name).is_file():
            by_case.setdefault(stem, []).append(folder / name)
        elif ending:
            strange.setdefault(stem, folder / name)
    several = {case: tuple(by_case[case]) for case in cases if len(by_case.get(case, ())) > 1}
    one = {case: by_case[case][0] for case in cases if case in by_case and case not in several}
    missing = tuple(case for case in cases if case not in by_case)
    unread = {case: strange[case] for case in missing if case in strange}
    wanted = set(cases)
    surplus = tuple(path.name for stem, paths in by_case.items() if stem not in wanted for path in paths)
    return Found(one, missing, several, unread, surplus)


def _parted(name: str) -> tuple[str, str]:
    """The id that a file's name gives (NFC), and its ending; none where it is no volume's."""
    text = composed(name)
    ending = next((each for each in sorted((*READ, *UNREAD), key=len)[::-1] if text.endswith(each)), "")
    return text.removesuffix(ending), ending


def fingerprint(files: Mapping[str, Path], hash_of: Callable[[Path], str] = sha256_of) -> str:
    """One hash of which case has what: names of files and of folders are not in it."""
    digest = hashlib.sha256()
    for case in sorted(files):
        digest.update(f"{case}\0{hash_of(files[case])}\n".encode())
    return digest.hexdigest()
