"""The kinds of report items, one module or package each; whatever stands in this folder is a kind."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from sfrbench.catalog.faults import describe, hint
from sfrbench.errors import InputError, Problem
from sfrbench.report.item import ReportItem


@cache
def every() -> Mapping[str, type[ReportItem]]:
    """All kinds by the field that names them."""
    by_key: dict[str, type[ReportItem]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for cls in _kinds_of(module.name):
            if cls.kind in by_key:
                what = f"two kinds of report items are called '{cls.kind}'"
                raise InputError(what, where=f"{by_key[cls.kind].__module__} and {module.name}")
            by_key[cls.kind] = cls
    return by_key


def _kinds_of(module: str) -> Iterator[type[ReportItem]]:
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, type) and issubclass(value, ReportItem) and value.__module__ == module:
            yield value


def kinds() -> Mapping[str, type[ReportItem]]:
    """The kinds that specifications may list."""
    return {kind: cls for kind, cls in every().items() if cls.listed}


def item_of(entry: Mapping[str, Any]) -> ReportItem:
    """The report item that an entry of ``report:`` describes. Raises ``InputError`` if it describes none."""
    given = [kind for kind in every() if entry.get(kind) is not None]
    if len(given) != 1:
        raise InputError(f"a report item needs exactly one of {', '.join(kinds())}: {dict(entry)}")
    cls = every()[given[0]]
    try:
        return cls.model_validate(entry)
    except ValidationError as error:
        faults = [Problem(f"item {given[0]}", describe(fault), hint(fault, cls)) for fault in error.errors()]
        raise InputError.of(faults) from error
