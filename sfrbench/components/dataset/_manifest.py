"""``dataset.json``: classes, channels, and the cases that it names, in the ways of the Decathlon, nnU-Net and
MONAI."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sfrbench.components.dataset._names import ENDINGS, composed, spelled, stem
from sfrbench.errors import DataError

_NUMBER = re.compile(r"[0-9]{1,9}")
#: How people call what is no class: the name of number 0, in lower case.
_BACKGROUND = re.compile(
    r".*(back ?ground|clear|un-?label|nothing|ignore|outside|exterior|hintergrund|fondo?\b).*"
    r"|bg|bkg|none|null|empty|others?|rest|void|air|zero|0|(no|non|not|normal|healthy)\b.*|"
)
_LIST = 'it is a list: [{"image": "./imagesTr/CASE.nii.gz", "label": "./labelsTr/CASE.nii.gz"}, …]'
_ENTRY = 'each entry is {"image": "./imagesTr/CASE.nii.gz", "label": "./labelsTr/CASE.nii.gz"}'


@dataclass(frozen=True)
class Entry:
    """A case as a list names it. Paths are below the data folder; an image per channel, or one of all."""

    case: str
    images: tuple[str, ...]
    label: str | None  # none: the case has no label
    fold: int | None = None  # MONAI's
    where: str = ""  # its place in dataset.json


@dataclass(frozen=True)
class Manifest:
    """What is used of ``dataset.json``. A list that is none is not there; the folders count then."""

    classes: tuple[str, ...]
    channels: int
    endings: tuple[str, ...]  # of the files in the folders
    training: tuple[Entry, ...] | None = None
    validation: tuple[Entry, ...] = ()
    test: tuple[Entry, ...] = ()
    said: int | None = None  # numTraining
    nnunet: bool = False  # its keys are nnU-Net's


def read_manifest(root: Path) -> Manifest:
    """Read and check ``dataset.json``. Raises ``DataError``."""
    path = root / "dataset.json"
    if not path.is_file():
        hint = "the data folder holds dataset.json, imagesTr and labelsTr (Decathlon's and nnU-Net's layout)"
        others = sorted(file.name for file in root.glob("*.json") if file.name != "splits_final.json")
        hint += f"; here is {others[0]}: is that it? Then rename it" if len(others) == 1 else ""
        raise DataError("dataset.json is missing", where=str(path), hint=hint)
    raw = read_json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("labels"), dict) or not raw["labels"]:
        hint = 'add "labels": {"0": "background", "1": …} (Decathlon) or {"background": 0, …} (nnU-Net)'
        raise DataError("the key 'labels' is missing or is not a mapping", where=str(path), hint=hint)
    channels = raw.get("channel_names", raw.get("modality", {"0": "image"}))
    if not isinstance(channels, dict) or not channels:
        hint = '"modality" or "channel_names" maps channel numbers to names: {"0": "MRI"}'
        raise DataError("the channels are not a mapping", where=str(path), hint=hint)
    said = raw.get("numTraining")
    lists = _Lists(root, path)
    return Manifest(
        _classes(raw["labels"], path),
        len(channels),
        _endings(raw.get("file_ending"), path),
        lists.training(raw),
        lists.held_out(raw, "validation", "val"),
        lists.held_out(raw, "test", "testing"),
        said if isinstance(said, int) and not isinstance(said, bool) else None,
        "channel_names" in raw or "file_ending" in raw,
    )


def read_json(path: Path) -> Any:
    """The value in a file. Raises ``DataError``; a key that stands twice is a mistake, as in YAML."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=lambda p: _once(p, path))
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise DataError(f"this is not valid JSON: {error.msg}", where=place, hint="mend the file") from error
    except UnicodeDecodeError as error:
        hint = "save the file as UTF-8"
        raise DataError(f"this is not UTF-8 text: {error.reason}", where=str(path), hint=hint) from error
    except (ValueError, RecursionError) as error:
        what = "this is not sound JSON: a number is too long, or lists are nested too deeply"
        raise DataError(what, where=str(path), hint="mend the file") from error
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise DataError(f"the key '{twice[0]}' stands twice", where=str(path), hint="keep one of them")
    return dict(pairs)


def _endings(given: Any, path: Path) -> tuple[str, ...]:
    if given is None:
        return ENDINGS
    ending = given if str(given).startswith(".") else f".{given}"
    if ending not in ENDINGS:
        raise DataError(f"file_ending '{given}' is not read", where=str(path), hint="convert to .nii.gz")
    return (ending,)


def _classes(labels: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names by number, from ``{"1": "liver"}`` (Decathlon) or ``{"liver": 1}`` (nnU-Net)."""
    inverted = not all(_NUMBER.fullmatch(key) for key in labels)
    by_number: dict[int, str] = {}
    for key, value in labels.items():
        number, name = (value, key) if inverted else (key, value)
        sound = isinstance(name, (str, int)) and str(name).strip() and str(name).isprintable()
        if isinstance(number, bool) or not _NUMBER.fullmatch(str(number)) or name == "ignore" or not sound:
            hint = "each class has one number; regions (lists of numbers) and an 'ignore' class are not read"
            raise DataError(f"labels: '{key}: {value}' is not a class", where=str(path), hint=hint)
        if int(number) in by_number:
            hint = "give each class a number of its own"
            raise DataError(f"labels: the number {number} stands twice", where=str(path), hint=hint)
        by_number[int(number)] = str(name).strip()
    if sorted(by_number) != list(range(len(by_number))) or not 2 <= len(by_number) <= 255:
        hint = "number the classes 0 (background), 1, 2, … without gaps, here and in the label maps"
        raise DataError(f"labels: the numbers are {sorted(by_number)}", where=str(path), hint=hint)
    names = tuple(by_number[number] for number in range(len(by_number)))
    _check_names(names, path)
    return names


def _check_names(names: Sequence[str], path: Path) -> None:
    """No name twice, and number 0 is the background and no other."""
    seen = Counter(map(composed, names))
    twice = next((name for name in names if seen[composed(name)] > 1), None)
    if twice is not None:
        numbers = " and ".join(
            str(number) for number, name in enumerate(names) if composed(name) == composed(twice)
        )
        hint = (
            "every result stands under its class's name: give each a name of its own, such as 'left kidney'"
        )
        raise DataError(f"labels: '{twice}' names the classes {numbers}", where=str(path), hint=hint)
    others = [number for number, name in enumerate(names) if number and name.lower() in ("background", "bg")]
    if others or not _BACKGROUND.fullmatch(names[0].lower()):
        what = f"labels: the background is number {others[0]}, not 0" if others else ""
        what = what or f"labels: number 0 is '{names[0]}', and 0 is the background"
        hint = "number the background 0, here and in the label maps, and the classes from 1 on"
        raise DataError(what, where=str(path), hint=hint)


@dataclass(frozen=True)
class _Lists:
    """Reads the lists of cases in ``dataset.json``, which lies at ``path``."""

    root: Path
    path: Path

    def training(self, raw: Mapping[str, Any]) -> tuple[Entry, ...] | None:
        """The list ``training``, or nnU-Net's ``dataset``, a mapping of ids to ``images`` and ``label``."""
        named = raw.get("dataset")
        if named is None:
            return self.of(raw, "training", "train")
        hint = 'it maps ids to files: {"CASE": {"images": ["…_0000.nii.gz"], "label": "….nii.gz"}}'
        where = f"{self.path}, dataset"
        if not isinstance(named, dict):
            raise DataError("the key 'dataset' is not a mapping", where=where, hint=hint)
        entries = []
        for case, files in named.items():
            if not isinstance(files, dict) or not files.get("images"):
                raise DataError(f"'{case}' has no images", where=where, hint=hint)
            entries.append(replace(self._entry(files, f"{where}, {case}"), case=composed(case)))
        return tuple(entries)

    def of(self, raw: Mapping[str, Any], *names: str) -> tuple[Entry, ...] | None:
        """The list under the first of ``names`` that is there. A text in it names both files of a case, which
        share a name."""
        name = next((name for name in names if raw.get(name) is not None), None)
        if name is None:
            return None
        listed = [raw[name]] if isinstance(raw[name], str) or _is_entry(raw[name]) else raw[name]
        if not isinstance(listed, list):
            raise _no_list(name, listed, self.path)
        where = f"{self.path}, {name}, entry "
        return _told_apart(
            [
                self._entry(self._both(each) if isinstance(each, str) else each, f"{where}{number}")
                for number, each in enumerate(listed, 1)
            ]
        )

    def held_out(self, raw: Mapping[str, Any], *names: str) -> tuple[Entry, ...]:
        """Cases that do not train. Only what has a label is used, so of the others nothing is asked."""
        mapping = next((name for name in names if isinstance(raw.get(name), dict) and raw[name]), None)
        if mapping is not None:
            raise _no_list(mapping, raw[mapping], self.path)
        name = next((name for name in names if isinstance(raw.get(name), list)), None)
        entries = []
        for number, each in enumerate(raw[name] if name else (), 1):
            entry = {"image": each} if isinstance(each, str) else each
            if isinstance(entry, dict) and entry.get("label"):
                entries.append(self._entry(entry, f"{self.path}, {name}, entry {number}"))
            elif isinstance(entry, dict) and isinstance(entry.get("image"), str):
                plain = spelled(self.root, os.path.normpath(entry["image"]))
                entries.append(Entry(stem(plain), (plain,), None))
        return _told_apart(entries)

    def _both(self, named: str) -> dict[str, Any]:
        name = PurePosixPath(named).name
        folder = str(PurePosixPath(named).parent)
        label = f"labelsTr/{name}"
        labelled = folder.endswith("labelsTr") or (self.root / spelled(self.root, label)).is_file()
        inside = folder.removeprefix("./") in (".", "", "imagesTr", "labelsTr")
        return {"image": f"imagesTr/{name}" if inside else named, "label": label if labelled else None}

    def _entry(self, entry: Any, where: str) -> Entry:
        if not isinstance(entry, dict):
            raise DataError(f"{_short(entry)} is no entry of a case", where=where, hint=_ENTRY)
        images = entry.get("images", entry.get("image"))
        if images is None:
            keys = ", ".join(f"'{key}'" for key in entry) or "nothing"
            raise DataError(f"the entry names no image; it holds {keys}", where=where, hint=_ENTRY)
        paths = [self._path(each, where) for each in (images if isinstance(images, list) else [images])]
        if not paths:
            raise DataError("the entry names no image", where=where, hint=_ENTRY)
        label = entry.get("label")
        label = None if label in (None, "", []) else self._path(label, where)
        fold = entry.get("fold")
        own = fold if isinstance(fold, int) and not isinstance(fold, bool) else None
        return Entry(_name_of(paths[0], label), tuple(paths), label, own, where)

    def _path(self, named: Any, where: str) -> str:
        """A path below the data folder, as the disk spells it."""
        if isinstance(named, str) and named.strip() and "\0" not in named:
            plain = os.path.normpath(os.path.relpath(named, self.root) if os.path.isabs(named) else named)
            if plain.split(os.sep)[0] not in ("..", "."):
                return spelled(self.root, plain)
        hint = f"{_ENTRY}; files lie below the folder of dataset.json"
        raise DataError(f"{_short(named)} is not a file in the data folder", where=where, hint=hint)


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and ("image" in value or "images" in value)


def _no_list(name: str, value: Any, path: Path) -> DataError:
    what = "a mapping" if isinstance(value, dict) else _short(value)
    return DataError(
        f"the key '{name}' is {what}, not a list of entries", where=f"{path}, {name}", hint=_LIST
    )


def _short(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _name_of(image: str, label: str | None) -> str:
    """The id: the name that both files share, without nnU-Net's channel; else the image's."""
    name, own = stem(image), stem(label or "")
    shared = own and name.startswith(own) and re.fullmatch(r"(_\d{4})?", name.removeprefix(own))
    return own if shared else name


def _told_apart(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Files of one name in folders of their own get the folder's name as well."""
    images: dict[str, set[str]] = {}
    for entry in entries:
        images.setdefault(entry.case, set()).add(composed(entry.images[0]))
    return tuple(
        replace(entry, case=f"{composed(PurePosixPath(entry.images[0]).parent.name)}_{entry.case}")
        if len(images[entry.case]) > 1
        else entry
        for entry in entries
    )
