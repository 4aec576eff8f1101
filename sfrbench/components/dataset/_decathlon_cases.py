"""The cases of a folder in the Decathlon's or nnU-Net's layout: which are there, with a label or without."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sfrbench.components.dataset._decathlon_unread import (
    check_endings,
    maybe_volume,
    no_image,
    some,
    unread_remarks,
)
from sfrbench.components.dataset._manifest import Entry, Manifest, read_manifest
from sfrbench.components.dataset._names import ENDINGS, composed, spelled, stem, without_channel
from sfrbench.errors import DataError


@dataclass(frozen=True)
class Files:
    """The files of a case. ``image`` holds the channel that is used ``alone``, or all of them."""

    image: Path
    label: Path | None
    alone: bool


@dataclass(frozen=True)
class Folder:
    """The cases of a data folder. Ids are in the order of the list, or sorted where the folders count."""

    reader: Reader
    labelled: dict[str, Entry]  # the training list
    bare: dict[str, Entry]  # training cases without a label
    apart: dict[str, Entry]  # test cases that the folder sets apart, all with a label
    lists: dict[str, tuple[Path, list[str]]]  # for ``check_lists``
    places: dict[str, str]  # the file that gives a case its id, where no list does
    remarks: tuple[str, ...] = ()  # what users should know of the lists

    def files(self, case: str) -> Files:
        """Those of one case; raises ``DataError`` where there is no such case."""
        return self.reader.files(self._entry(case))

    def check_image(self, case: str) -> None:
        """Raises ``DataError`` where the folders hold a label and no image of its name. What a list names is
        for the reading of the file to say."""
        found = self._entry(case)
        if found.label is None or case not in self.places or self.reader.files(found).image.is_file():
            return
        free = {name: entry.images[0] for name, entry in self.bare.items()}
        inside = self.reader.inside(found.images[0].partition("/")[0])
        what, hint = no_image(found.label, free, inside, self.reader.manifest.endings[0])
        raise DataError(what, where=f"case {case}, {self.places[case]}", hint=hint)

    def _entry(self, case: str) -> Entry:
        entry = self.labelled.get(case) or self.apart.get(case) or self.bare.get(case)
        if entry is None:
            raise DataError("the folder has no such case", where=f"case {case}", hint="look at dataset.json")
        return entry


def look(root: Path, channel: int, *, apart: bool, unlisted: str | None = None) -> Folder:
    """What the folder holds. Test cases are set ``apart`` by a labelled ``test`` or by ``validation`` in
    ``dataset.json``, or by ``labelsTs``; else validation cases are training cases like the others, and
    ``labelsTs`` is not looked at. ``unlisted`` as ``Decathlon.unlisted``. Raises ``DataError``."""
    manifest = read_manifest(root)
    reader = Reader(root, manifest, channel)
    where = root / ("labelsTr" if manifest.training is None else "dataset.json")
    listed = list(reader.pairs() if manifest.training is None else manifest.training)
    if not apart:
        listed += [entry for entry in manifest.validation if entry.label is not None]
    other, unused = reader.unlisted(listed)
    strange = reader.unread(listed)
    check_endings(root, {folder: strange[folder] for folder in ("imagesTr", "labelsTr")})
    off = [entry.case for entry in other] if manifest.training is not None else []
    if off and (unlisted or _usual(manifest)) == "left_out":
        other = []
    test, source = reader.set_apart() if apart else ([], where)
    found = Folder(
        reader,
        {entry.case: entry for entry in listed if entry.label is not None},
        {entry.case: entry for entry in (*listed, *other) if entry.label is None},
        {entry.case: entry for entry in test},
        {"train": (where, [entry.case for entry in (*listed, *other)])}
        | ({"test": (source, [entry.case for entry in test])} if test else {}),
        _places(root, manifest, listed, other, test if source.name == "labelsTs" else []),
    )
    if not found.labelled and (found.bare or manifest.training is None):
        raise reader.without_labels(len(found.bare))
    said = (*_remarks(found, unused, source), *_off_list(off, used=bool(other)))
    return replace(found, remarks=(*said, *unread_remarks(root, strange, manifest.endings)))


def _usual(manifest: Manifest) -> str:
    """What becomes of images that no list names. A list that names images without a label means to be whole;
    one of labelled cases alone, as the Decathlon's, says nothing of the others."""
    whole = any(entry.label is None for entry in manifest.training or ())
    return "left_out" if whole else "unlabelled"


def _places(
    root: Path, manifest: Manifest, listed: Sequence[Entry], *others: Sequence[Entry]
) -> dict[str, str]:
    """The file behind the id of each case that no list names."""
    entries = [*(listed if manifest.training is None else ()), *(entry for part in others for entry in part)]
    return {entry.case: str(root / (entry.label or entry.images[0])) for entry in entries}


def _off_list(cases: Sequence[str], *, used: bool) -> Iterable[str]:
    if not cases:
        return
    said = f"{len(cases)} images without a label stand on no list of dataset.json and"
    if used:
        yield f"{said} train unlabelled: {some(cases)}; 'unlisted: left_out' keeps them out"
    else:
        yield f"{said} are left out: {some(cases)}; 'unlisted: unlabelled' trains on them"


@dataclass(frozen=True)
class Reader:
    """Looks into the folders."""

    root: Path
    manifest: Manifest
    channel: int

    def pairs(self) -> list[Entry]:
        """A case for each file of ``labelsTr``, where there is no list."""
        images, labels = self.names("imagesTr"), self.names("labelsTr")
        return [self._named(case, "Tr", images, label) for case, label in sorted(labels.items())]

    def set_apart(self) -> tuple[list[Entry], Path]:
        """The labelled test cases, and the place that names them."""
        for entries in (self.manifest.test, self.manifest.validation):
            labelled = [entry for entry in entries if entry.label is not None]
            if labelled:
                return labelled, self.root / "dataset.json"
        images, labels = self.names("imagesTs"), self.names("labelsTs")
        found = [self._named(case, "Ts", images, label) for case, label in sorted(labels.items())]
        return (found if (self.root / "imagesTs").is_dir() else []), self.root / "labelsTs"

    def unlisted(self, listed: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
        """Cases of ``imagesTr`` that no list names: those without a label in ``labelsTr``, and ids of those
        with one. Names end with nnU-Net's channel where those of the listed cases do."""
        manifest, images, labels = self.manifest, self.names("imagesTr"), self.names("labelsTr")
        known = {entry.case for entry in listed}
        by_channel = any(f"{case}_0000" in images and case not in images for case in known)
        telling = known & images.keys() if manifest.training is None else known
        by_channel = by_channel or (manifest.nnunet and not telling)
        named = self._listed(listed)
        taken: set[str] = set(known)
        free: dict[str, str] = {}
        for name, path in images.items():
            case = without_channel(name) if by_channel else name
            free.setdefault(case, path)
            if path in named:
                taken.add(case)
        with_label = free.keys() & labels.keys()
        bare = [
            Entry(case, (free[case],), None) for case in free if case not in taken and case not in with_label
        ]
        return bare, sorted(with_label - taken)

    def _named(self, case: str, part: str, images: dict[str, str], label: str) -> Entry:
        """A case by the name of its label; where it has no image, the plain name is looked for and missed."""
        plain = f"images{part}/{case}{self.manifest.endings[0]}"
        return Entry(case, (images.get(case) or images.get(f"{case}_0000") or plain,), label)

    def unread(self, listed: Sequence[Entry]) -> dict[str, list[str]]:
        """By folder, what may be a volume and is not read."""
        manifest, named = self.manifest, self._listed(listed)
        folders = (f"{kind}{part}" for part in ("Tr", "Ts") for kind in ("images", "labels"))
        return {
            folder: [
                name
                for name in self.inside(folder)
                if maybe_volume(name)
                and not name.endswith(manifest.endings)
                and f"{folder}/{name}" not in named
            ]
            for folder in folders
        }

    def _listed(self, listed: Sequence[Entry]) -> set[str | None]:
        """The paths that any list names."""
        entries = (*listed, *self.manifest.validation, *self.manifest.test)
        return {path for entry in entries for path in (*entry.images, entry.label)}

    def names(self, folder: str) -> dict[str, str]:
        """Paths below the root by name, sorted, without hidden files (``._x`` in some archives)."""
        paths: dict[str, str] = {}
        for name in self.inside(folder):
            if not name.endswith(self.manifest.endings):
                continue
            if stem(name) in paths:
                other = PurePosixPath(paths[stem(name)]).name
                same = composed(other) == composed(name)
                ways = "in two spellings of the same letters (NFC, NFD)" if same else "as .nii and as .nii.gz"
                what = f"'{stem(name)}' is there twice, {ways}"
                raise DataError(what, where=str(self.root / folder), hint="delete one of the two files")
            paths[stem(name)] = f"{folder}/{name}"
        return paths

    def inside(self, folder: str) -> list[str]:
        """Every name in a folder that is not hidden, sorted."""
        try:
            return sorted(name for name in os.listdir(self.root / folder) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            what, where = f"the folder cannot be read: {error.strerror}", str(self.root / folder)
            raise DataError(what, where=where, hint="see who may read it") from error

    def files(self, entry: Entry) -> Files:
        """The files of a case, the image in its channel's own file where there is one."""
        images = entry.images
        image = self.root / (images[self.channel] if self.channel < len(images) else images[0])
        if len(images) == 1:
            image = self._own_channel(image)
        alone = len(images) > 1 or stem(image.name) == f"{entry.case}_{self.channel:04d}"
        return Files(image, None if entry.label is None else self.root / entry.label, alone)

    def _own_channel(self, image: Path) -> Path:
        """``CASE_0001.nii.gz`` for ``CASE.nii.gz`` or ``CASE_0000.nii.gz``, where there are such files."""
        ending = next((end for end in ENDINGS if image.name.endswith(end)), "")
        name = image.name.removesuffix(ending)
        own, first = (self._beside(image, f"{name}_{number:04d}{ending}") for number in (self.channel, 0))
        if own.is_file() or (first.is_file() and not image.is_file()):
            return own
        several = self.manifest.channels > 1 or self.manifest.nnunet
        if self.channel and name.endswith("_0000") and several:
            return self._beside(image, f"{name[:-4]}{self.channel:04d}{ending}")
        return image

    def _beside(self, image: Path, name: str) -> Path:
        return self.root / spelled(self.root, str(image.with_name(name).relative_to(self.root)))

    def without_labels(self, images: int) -> DataError:
        """The error that no training case has a label, with what the folder holds instead."""
        folder = self.root / "labelsTr"
        endings = " or ".join(self.manifest.endings)
        if self.manifest.training is not None:
            what = f"none of the {images} training cases of dataset.json has a label"
            return DataError(
                what, where=str(self.root / "dataset.json"), hint="name the labels that there are"
            )
        others = Counter("".join(Path(name).suffixes) for name in self.inside("labelsTr"))
        here = ", ".join(f"{count} of {ending or 'no ending'}" for ending, count in others.most_common(3))
        hint = f"it holds {here}; " if here else ""
        fits = any(ending in ENDINGS for ending in others)
        hint += "set file_ending in dataset.json" if fits else f"bring the labels as {endings}"
        return DataError(f"the folder holds no label that ends with {endings}", where=str(folder), hint=hint)


def _remarks(folder: Folder, unlisted: Sequence[str], source: Path) -> Iterable[str]:
    """What users should know of the lists."""
    said, bare, labelled = folder.reader.manifest.said, len(folder.bare), len(folder.labelled)
    if bare:
        named = f"{bare} of {labelled + bare} cases"
        yield f"{named} have no label and train unlabelled, never test or validate: {some(folder.bare)}"
    if said is not None and said != labelled:
        yield f"numTraining in dataset.json is {said}; {labelled} cases have a label"
    if unlisted:
        yield (
            f"{len(unlisted)} cases of imagesTr have a label, stand on no list of dataset.json and are not "
            f"used: {some(unlisted)}"
        )
    if folder.apart:
        yield f"the test cases are those of {source}"
    owners = {case: stem(entry.label or "") for case, entry in folder.labelled.items()}
    crossed = [case for case, label in owners.items() if label != case and label in owners]
    if crossed:
        yield f"dataset.json gives {len(crossed)} cases the label of another case's name: {some(crossed)}"
    images = {without_channel(name) for name in folder.reader.names("imagesTs")}
    unused = images - {without_channel(stem(entry.images[0])) for entry in folder.apart.values()}
    if unused:
        yield f"{len(unused)} images of imagesTs are not used"
