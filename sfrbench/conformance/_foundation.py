"""The foundation that the checks of its kind try, and its weight file."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from sfrbench.components.base import Foundation
from sfrbench.conformance.checks import Subject
from sfrbench.places import weights

CANVAS = 64


def small(subject: Subject, **fields: object) -> Foundation:
    """The card's foundation on a small canvas, where it can have one."""
    plain = {"precision": "fp32", **fields}
    try:
        return subject.scaled(Foundation, canvas=CANVAS, **plain)
    except ValidationError:
        return subject.scaled(Foundation, **plain)


def weights_of(subject: Subject) -> Path | None:
    """Its weight file, verified; None for one that brings its own numbers. Raises ``NotReadyError``."""
    name = small(subject).weights
    return None if name is None else weights.check(name)
