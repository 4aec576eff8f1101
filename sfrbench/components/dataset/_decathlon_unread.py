"""What lies in the folders of own data and is not read, and labels whose image is not there: in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sfrbench.components.dataset._names import ENDINGS, stem, without_channel
from sfrbench.errors import DataError, Problem, few

#: Files that stand beside volumes and are none: nobody misses them.
_ASIDE = (
    *(".json", ".txt", ".csv", ".tsv", ".xlsx", ".md", ".rst", ".xml", ".yaml", ".yml", ".pdf"),
    *(".log", ".ini", ".db", ".bval", ".bvec", ".py"),
)


def some(cases: Iterable[str]) -> str:
    """A few ids."""
    return few(sorted(cases))


def maybe_volume(name: str) -> bool:
    """Whether a file or folder beside the volumes may be meant as one."""
    return not name.lower().endswith(_ASIDE)


def check_endings(root: Path, found: Mapping[str, Sequence[str]]) -> None:
    """Raises ``DataError`` for volumes in capitals (``x.NII.GZ``): the same file to a user, another to us.
    ``found`` holds what is not read, by folder."""
    problems = []
    for folder, names in found.items():
        odd = [name for name in names if name.lower().endswith(ENDINGS) and not name.endswith(ENDINGS)]
        what = f"{len(odd)} names end in capitals and are not read: {some(odd)}"
        hint = "let them end with .nii.gz or .nii, in small letters"
        problems += [Problem(str(root / folder), what, hint)] if odd else []
    if problems:
        raise DataError.of(problems)


def unread_remarks(root: Path, found: Mapping[str, Sequence[str]], endings: Sequence[str]) -> Iterator[str]:
    """A sentence for each folder that holds what is not read."""
    for folder, names in found.items():
        folders = [name for name in names if (root / folder / name).is_dir()]
        other = [name for name in names if name not in folders and name.endswith(ENDINGS)]
        remedies = []
        if folders:
            remedies.append("a folder is no volume; convert a DICOM series to NIfTI (dcm2niix)")
        if other:
            remedies.append(f"dataset.json says file_ending '{endings[0]}': convert them, or change it")
        if len(folders) + len(other) < len(names):
            remedies.append(f"what is read ends with {' or '.join(endings)}: convert them")
        if names:
            said = f"{folder} holds {len(names)} things that are not read: {some(names)}"
            yield f"{said} ({'; '.join(remedies)})"


def no_image(label: str, images: Mapping[str, str], inside: Iterable[str], ending: str) -> tuple[str, str]:
    """What to say of a ``label`` (a path below the data folder) without an image, and how to mend it.

    ``images`` are the paths by name of images without a label, ``inside`` all names in the images' folder.
    """
    case, folder = stem(label), label.partition("/")[0].replace("labels", "images")
    wanted = f"{case}_0000{ending} or {case}{ending}"
    what = f"the label has no image of its name: {folder} holds no {wanted}"
    same = [name for name in inside if re.fullmatch(rf"{re.escape(case)}(_\d{{4}})?(\..*)?", name)]
    if same:
        return what, f"there is {same[0]}, which is not read: convert it to NIfTI, as {wanted}"
    for name, path in images.items():
        plain = without_channel(name)
        if _within(plain, case) or _within(case, plain):
            return what, f"a label bears its image's name: rename it {plain}{ending}, if {path} is its image"
    return what, f"bring the image, or take {label} away"


def _within(name: str, other: str) -> bool:
    """Whether a name is the other with something before or behind it, such as ``_seg``."""
    return re.fullmatch(rf"(.*[\W_])?{re.escape(name)}([\W_].*)?", other) is not None
