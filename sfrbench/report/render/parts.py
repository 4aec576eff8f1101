"""What an item of a report comes to: tables, figures, a remark, and what stands behind their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sfrbench.report.render.tables import Table


class Traced(Protocol):
    """A row or a line that can say what it stands on."""

    def behind(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Figure:
    """A saved figure: files (PNG first), the lines that it shows, and the data of a slice viewer.

    ``caption`` is one sentence that says what is shown; ``notes`` are what a reader must know beside it.
    """

    name: str
    title: str
    caption: str
    files: tuple[Path, ...]
    lines: tuple[Traced, ...]
    viewer: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One item of the report as it stands on the page.

    ``remark`` says why there is nothing, where there is nothing; ``behind`` maps the name of a table or
    figure to what its rows or lines stand on.
    """

    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    remark: str = ""
    behind: Mapping[str, Sequence[Traced]] = field(default_factory=dict)
