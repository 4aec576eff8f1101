"""Images and labels of a folder are different files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sfrbench.errors import DataError, Problem

if TYPE_CHECKING:
    from sfrbench.components.dataset._decathlon_cases import Folder


def check_apart(folder: Folder) -> None:
    """No image is the label of its own or of another case: one file under two names and links count as the
    same. Raises ``DataError``, all faults at once."""
    entries = [*folder.labelled.values(), *folder.apart.values(), *folder.bare.values()]
    reader, owners = folder.reader, {}
    for entry in entries:
        if entry.label is not None:
            owners[_identity(reader.root / entry.label)] = entry
    problems = []
    for entry in entries:
        images = {*(reader.root / image for image in entry.images), reader.files(entry).image}
        owner = next((owners[key] for key in map(_identity, sorted(images)) if key in owners), None)
        if owner is not None:
            whose = (
                "its own label" if owner.case == entry.case else f"the label of another case, {owner.label}"
            )
            what = f"the image of case '{entry.case}' is the same file as {whose}"
            where = entry.where or str(reader.root / entry.images[0])
            problems.append(Problem(where, what, "name an image and a label map, which are two files"))
    if problems:
        raise DataError.of(problems)


def _identity(path: Path) -> object:
    """The same for all names and links of a file that is there."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # missed where it is read
        return os.path.normpath(path)
    return (found.st_dev, found.st_ino)
