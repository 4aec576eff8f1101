"""Reading ``dataset.json`` and NIfTI files of the Decathlon's and nnU-Net's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sfrbench.components.base import Case
from sfrbench.components.dataset._checks import Place, check_lists, checked_image, checked_label, finish
from sfrbench.components.dataset._nifti import geometry_of, read_nifti, same_grid
from sfrbench.errors import DataError

SPLITS = "splits_final.json"


@dataclass(frozen=True)
class Manifest:
    """What is used of ``dataset.json``."""

    classes: tuple[str, ...]
    channels: int
    ending: str
    training: tuple[str, ...] | None  # label paths as listed; none: the files of labelsTr count


def read_manifest(root: Path) -> Manifest:
    """Read and check ``dataset.json``. Raises ``DataError``."""
    path = root / "dataset.json"
    if not path.is_file():
        hint = "the data folder holds dataset.json, imagesTr and labelsTr (Decathlon's and nnU-Net's layout)"
        raise DataError("dataset.json is missing", where=str(path), hint=hint)
    raw = _json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("labels"), dict) or not raw["labels"]:
        hint = 'add "labels": {"0": "background", "1": …} (Decathlon) or {"background": 0, …} (nnU-Net)'
        raise DataError("the key 'labels' is missing or is not a mapping", where=str(path), hint=hint)
    channels = raw.get("channel_names", raw.get("modality", {"0": "image"}))
    if not isinstance(channels, dict) or not channels:
        hint = '"modality" or "channel_names" maps channel numbers to names: {"0": "MRI"}'
        raise DataError("the channels are not a mapping", where=str(path), hint=hint)
    ending = raw.get("file_ending", ".nii.gz")
    if ending not in (".nii", ".nii.gz"):
        raise DataError(f"file_ending '{ending}' is not read", where=str(path), hint="convert to .nii.gz")
    return Manifest(_classes(raw["labels"], path), len(channels), ending, _training(raw, path))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise DataError(f"this is not valid JSON: {error.msg}", where=place, hint="mend the file") from error
    except UnicodeDecodeError as error:
        hint = "save the file as UTF-8"
        raise DataError(f"this is not UTF-8 text: {error.reason}", where=str(path), hint=hint) from error


def _classes(labels: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names by number, from ``{"1": "liver"}`` (Decathlon) or ``{"liver": 1}`` (nnU-Net)."""
    inverted = not all(str(key).isdigit() for key in labels)
    by_number: dict[int, str] = {}
    for key, value in labels.items():
        number, name = (value, key) if inverted else (key, value)
        if isinstance(number, bool) or not str(number).isdigit() or key == "ignore":
            hint = "each class has one number; regions (lists of numbers) and an 'ignore' class are not read"
            raise DataError(f"labels: '{key}: {value}' is not a class", where=str(path), hint=hint)
        if int(number) in by_number:
            hint = "give each class a number of its own"
            raise DataError(f"labels: the number {number} stands twice", where=str(path), hint=hint)
        by_number[int(number)] = str(name)
    if sorted(by_number) != list(range(len(by_number))) or not 2 <= len(by_number) <= 255:
        hint = "number the classes 0 (background), 1, 2, … without gaps, here and in the label maps"
        raise DataError(f"labels: the numbers are {sorted(by_number)}", where=str(path), hint=hint)
    return tuple(by_number[number] for number in range(len(by_number)))


def _training(raw: Mapping[str, Any], path: Path) -> tuple[str, ...] | None:
    entries = raw.get("training")
    if entries is None:
        return None
    listed: list[str] = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        named = entry.get("label", entry.get("image")) if isinstance(entry, dict) else entry
        if not isinstance(named, str) or ".." in Path(named).parts or Path(named).is_absolute():
            hint = 'each entry is {"image": "./imagesTr/CASE.nii.gz", "label": "./labelsTr/CASE.nii.gz"}'
            where = f"{path}, training, entry {number}"
            raise DataError(f"{named!r} is not a file in labelsTr", where=where, hint=hint)
        listed.append(named)
    return tuple(listed)


def ids_in(folder: Path, ending: str) -> list[str]:
    """Sorted ids of the label files in ``folder``, without hidden files (``._x`` in some archives)."""
    names = [path.name for path in folder.glob(f"*{ending}") if not path.name.startswith(".")]
    return sorted(name.removesuffix(ending) for name in names)


def training_ids(root: Path, manifest: Manifest) -> tuple[list[str], Path]:
    """Case ids and the place that names them: ``dataset.json``, or the files of ``labelsTr``."""
    if manifest.training is None:
        return ids_in(root / "labelsTr", manifest.ending), root / "labelsTr"
    names = [Path(named).name for named in manifest.training]
    return [name.removesuffix(manifest.ending) for name in names], root / "dataset.json"


def read_fold(root: Path, fold: int, known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Training and validation ids of a fold of ``splits_final.json``. Raises ``DataError``."""
    path = root / SPLITS
    if not path.is_file():
        hint = "copy it from nnUNet_preprocessed into the data folder, or leave dataset.fold out"
        raise DataError(f"{SPLITS} is missing", where=str(path), hint=hint)
    folds = _json(path)
    hint = 'the file is a list of folds, each {"train": [ids], "val": [ids]}'
    if not isinstance(folds, list) or not all(_is_fold(each) for each in folds):
        raise DataError("these are not folds of nnU-Net", where=str(path), hint=hint)
    if fold >= len(folds):
        what = f"there is no fold {fold}: the file holds {len(folds)}, the first is 0"
        raise DataError(what, where=str(path), hint="lower dataset.fold")
    train, test = list(folds[fold]["train"]), list(folds[fold]["val"])
    check_lists({f"train (fold {fold})": (path, train), f"val (fold {fold})": (path, test)})
    strange = sorted({*train, *test} - set(known))
    if strange:
        shown = ", ".join(strange[:4]) + (", …" if len(strange) > 4 else "")
        what = f"fold {fold} names {len(strange)} cases that are no training cases: {shown}"
        raise DataError(what, where=str(path), hint="is this the file of this dataset?")
    return train, test


def _is_fold(each: Any) -> bool:
    lists = [each.get("train"), each.get("val")] if isinstance(each, dict) else []
    return bool(lists) and all(
        isinstance(ids, list) and all(isinstance(case, str) for case in ids) for ids in lists
    )


def case_files(root: Path, manifest: Manifest, part: str, case: str, channel: int) -> tuple[Path, Path]:
    """Image and label file; nnU-Net's name with the channel where such a file is there."""
    folder = root / f"images{part}"
    plain = folder / f"{case}{manifest.ending}"
    first, own = (folder / f"{case}_{number:04d}{manifest.ending}" for number in (0, channel))
    image = own if own.is_file() or (first.is_file() and not plain.is_file()) else plain
    return image, root / f"labels{part}" / f"{case}{manifest.ending}"


def read(root: Path, part: str, case: str, channel: int, downsample: int) -> Case:
    """Read one case of ``imagesTr`` (part "Tr") or ``imagesTs`` ("Ts"). Raises ``DataError``."""
    manifest = read_manifest(root)
    image_file, label_file = case_files(root, manifest, part, case, channel)
    place, label_place = Place(case, image_file), Place(case, label_file)
    array, affine = read_nifti(place, as_stored=False)
    channelled = image_file.name == f"{case}_{channel:04d}{manifest.ending}"
    image = checked_image(_pick(array, 1 if channelled else manifest.channels, channel, place), place)
    raw_label, label_affine = read_nifti(label_place, as_stored=True)
    if raw_label.ndim == 4 and raw_label.shape[3] == 1:
        raw_label = raw_label[..., 0]
    label = checked_label(raw_label, image.shape, manifest.classes, label_place)
    geometry = geometry_of(affine, same_grid(affine, label_affine, label_place))
    files = {"file": str(image_file.relative_to(root)), "label_file": str(label_file.relative_to(root))}
    classes = len(manifest.classes)
    return finish(image, label, geometry, classes=classes, downsample=downsample, place=place, files=files)


def _pick(array: NDArray[Any], channels: int, channel: int, place: Place) -> NDArray[Any]:
    """The channel of a 4D image, where ``dataset.json`` names as many as there are; 3D as it is."""
    if array.ndim == 4 and array.shape[3] == channels and channel < channels:
        picked: NDArray[Any] = array[..., channel]
        return picked
    if array.ndim == 3 and channel > 0 and channels > 1:
        hint = "set dataset.channel to 0, or bring the channel's file"
        raise place.error(f"there is no channel {channel} in a 3D image", hint)
    if array.ndim == 4:
        hint = f"{channels} channels are named and dataset.channel is {channel}; make the three agree"
        raise place.error(f"the image has 4 dimensions, shape {array.shape}", hint)
    return array
