"""Weight files that users bring: looked into, taken into the folder of weights, taken out of it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sfrbench.errors import InputError, NotReadyError, did_you_mean
from sfrbench.files.atomic import sha256_of
from sfrbench.files.yamlio import read_value
from sfrbench.places import added, weights
from sfrbench.places.weight_files import CATALOGUE, LAYOUTS


def add(name: str, source: Path, *, link: bool = False) -> list[str]:
    """Take a file as ``name`` into the first folder of weights; returns what to say of it.

    The same file under the same name again changes nothing. Raises ``InputError`` for a name that cannot be
    had, and ``NotReadyError`` for a file that is of no network here; then nothing is left behind.
    """
    added.check_name(name)
    if not isinstance(read_value(name, "NAME"), str):  # 'null' would mean the published weights
        what = f"'{name}' is no text in a specification"
        raise InputError(what, where="NAME", hint=f"choose another name, such as my_{name}")
    if name in CATALOGUE:
        file, folder = CATALOGUE[name].file, weights.weights_folders()[0]
        hint = f"choose another name; or, if it is that file, copy it to {folder / file}"
        raise InputError(f"'{name}' is the name of a published file, {file}", where="NAME", hint=hint)
    if not source.is_file():
        what = "is no file" if source.exists() else "there is no such file"
        raise InputError(what, where=str(source), hint="give the file with the weights")
    folders = weights.weights_folders()
    known = added.entries(folders).get(name)
    if known is not None:
        return _again(name, source, *known)
    from sfrbench.components.foundation import _fit

    try:
        entry = added.put(name, source, folders[0], _fit.look, link=link)
    except NotReadyError as error:  # of the copy, which is gone
        raise InputError.of([replace(each, where=str(source)) for each in error.problems]) from error
    place = folders[0] / added.FOLDER / name / entry.file
    weights.remember(place, entry.sha256)
    return [f"{name}: {place}", *told(name, entry)]


def told(name: str, entry: added.Entry) -> list[str]:
    """What is in an added file, and how it is used."""
    facts, card = entry.facts, entry.facts.fits
    said = [
        f"  fits {LAYOUTS[card]}: {facts.tensors} tensors, {facts.values:,} values, sha256 {entry.sha256}",
        *(f"  {remark}" for remark in facts.remarks),
    ]
    same = [one.name for one in CATALOGUE.values() if one.sha256 == entry.sha256]
    said += [f"  it is the published file '{same[0]}'"] if same else []
    return [*said, f"  foundation: {{name: {card}, checkpoint: {name}}}"]


def unpublished(name: str) -> str:
    """What is known of a file here whose publisher tells no hash. Raises ``NotReadyError`` where it is not
    here, is no weight file, or holds other tensors than the published one."""
    from sfrbench.components.foundation import _fit

    weight, path = weights.entry(name), weights.check(name)
    facts = _fit.look(path)
    if (facts.tensors, facts.values) != weight.holds or facts.fits != weight.fits:
        tensors, values = weight.holds
        what = f"holds {facts.tensors} tensors with {facts.values:,} values, not {tensors} with {values:,}"
        raise NotReadyError(what, where=str(path), hint=weights.remedy(weight))
    said = f"{facts.tensors} tensors of {LAYOUTS[facts.fits]}, {facts.values:,} values"
    return f"{said}; no hash is published, sha256 {weights.hash_of(name)}, {path}"


def _again(name: str, source: Path, place: Path, entry: added.Entry) -> list[str]:
    found = sha256_of(source)
    if found != entry.sha256:
        what = f"'{name}' is another file: sha256 {entry.sha256[:16]}… there, {found[:16]}… here"
        hint = f"choose another name, or: sfrbench weights remove {name}"
        raise InputError(what, where=str(place), hint=hint)
    weights.check(name)
    return [f"{name}: this file is there already, {place / entry.file}", *told(name, entry)]


def remove(name: str) -> str:
    """Take an added file out again; returns where it was. Raises ``InputError`` for any other name."""
    if name in CATALOGUE:
        hint = f"delete {CATALOGUE[name].file} yourself: 'sfrbench weights list' says where it is"
        raise InputError(f"'{name}' is a published file, none that was added", where="NAME", hint=hint)
    added.check_name(name)
    folders = weights.weights_folders()
    places = [folder / added.FOLDER / name for folder in folders]
    there = [place for place in places if place.is_dir()]  # whether its entry can be read or not
    if not there:
        own = list(added.entries(folders))
        hint = did_you_mean(name, own) if own else "none was added"
        raise InputError(f"no weight file '{name}' was added", where="NAME", hint=hint)
    added.drop(there[0])
    return str(there[0])
