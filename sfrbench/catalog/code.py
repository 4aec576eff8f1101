"""The code behind a card: imported with care, since a module may raise, exit or print."""

from __future__ import annotations

import importlib
import io
import pkgutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout

from pydantic import ValidationError

from sfrbench.components.base import (
    Backbone,
    Component,
    Dataset,
    Finetune,
    Foundation,
    Prompter,
    Protocol,
    Selector,
    Ssl,
    Stitch,
)
from sfrbench.components.core import PACKAGE
from sfrbench.errors import InputError, SfrbenchError, did_you_mean, shorter
from sfrbench.files.terminal import echo

#: What the class behind a card must be, by the card's kind.
BASES: Mapping[str, type[Component]] = {
    base.kind: base
    for base in (Dataset, Stitch, Foundation, Finetune, Backbone, Ssl, Selector, Prompter, Protocol)
}


def class_of(target: str, kind: str, where: str) -> type[Component]:
    """The class ``module:Class``, imported now. Raises ``InputError`` where it is none of this kind."""
    module_name, name = target.split(":")

    def fault(what: str, hint: str) -> InputError:
        return InputError(f"target '{target}': {what}", where=where, hint=hint)

    try:
        with _output_kept_apart():
            module = importlib.import_module(module_name)
            wanted = getattr(module, name, None)
    except KeyboardInterrupt:
        raise
    except ImportError as error:
        missing = str(error.name or module_name)
        own = f"{module_name}.".startswith(f"{missing}.")
        absent = "is the module on PYTHONPATH?" if own else "install it"
        here = isinstance(error, ModuleNotFoundError) and (own or not _ours(missing))
        hint = absent if here else _line_of(error)
        raise fault(_told(error), hint) from error
    except BaseException as error:  # SystemExit, too
        raise fault(f"importing it ends in {_told(error)}", _line_of(error)) from error
    classes = {
        known: value
        for known, value in getattr(module, "__dict__", {}).items()
        if isinstance(value, type) and issubclass(value, Component)
    }
    if not (isinstance(wanted, type) and issubclass(wanted, Component)):
        what = f"no component class '{name}' in that module"
        raise fault(what, did_you_mean(name, classes) or "name a class made from one of components.base")
    base = BASES[kind]
    if not issubclass(wanted, base) or (wanted is base and wanted is not Protocol):
        fitting = [known for known, cls in classes.items() if issubclass(cls, base) and cls is not base]
        what = "is only what all are made from" if wanted is base else "is none"
        hint = did_you_mean(name, fitting) or f"name a class made from {base.__name__}"
        raise fault(f"a component of kind '{kind}' is needed, '{name}' {what}", hint)
    return wanted


def our_classes(kind: str) -> list[type[Component]]:
    """The classes of this package that are of a kind, found in its folder; their modules are imported."""
    folder = importlib.import_module(f"{PACKAGE}.components.{kind}")
    names = [entry.name for entry in pkgutil.walk_packages(folder.__path__, f"{folder.__name__}.")]
    modules = [importlib.import_module(name) for name in names if "._" not in name]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BASES[kind]) and value.__module__ == module.__name__
    ]


def class_known_as(identity: str, kind: str) -> type[Component]:
    """The class of a kind that keys, records and exports call so (``Component.identity``).

    ``sfrbench.MODULE:Name`` is one of ours as it was called when it was known by its module: its name finds
    it, wherever its file is now. Raises ``InputError`` where there is no such class, or of another kind.
    """
    ours, _, name = identity.rpartition("/")
    module_name, _, named = identity.partition(":")
    if _ours(module_name):
        ours, name = kind, named
    if ours:
        found = next((cls for cls in our_classes(kind) if cls.identity() == f"{ours}/{name}"), None)
        if found is None:
            known = [cls.identity() for cls in our_classes(kind)]
            raise InputError(f"no {kind} '{identity}' in this version", hint=did_you_mean(identity, known))
        return found
    try:
        value = getattr(importlib.import_module(module_name), named)
    except (ImportError, AttributeError, ValueError) as error:
        hint = f"the module of your own {kind} must be on PYTHONPATH"
        raise InputError(f"the class '{identity}' is not here: {error}", hint=hint) from error
    if not (isinstance(value, type) and issubclass(value, BASES[kind])):
        raise InputError(f"{identity} is no {kind}")
    return value


@contextmanager
def guarded(doing: str, where: str) -> Iterator[None]:
    """An error of a component's own code as ``InputError``; what it finds wrong with fields goes on."""
    try:
        yield
    except (ValidationError, SfrbenchError):
        raise
    except Exception as error:
        raise InputError(f"{doing} ends in {_told(error)}", where=where, hint=_line_of(error)) from error


@contextmanager
def _output_kept_apart() -> Iterator[None]:
    """What is printed goes to standard error: standard output is the command's."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        if said.getvalue():
            echo(said.getvalue().rstrip("\n"), err=True)


def _ours(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE


def _told(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception as other:
        text = f"(its text ends in {type(other).__name__})"
    return shorter(text if isinstance(error, ImportError) else f"{name}: {text}" if text else name, 300)


def _line_of(error: BaseException) -> str:
    """The last line of the traceback, where the code can be mended; of text that is no Python, its line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"mend {error.filename}:{error.lineno}"
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "importlib" not in one.filename]
    return f"mend {frames[-1].filename}:{frames[-1].lineno}" if frames else "mend its module"
