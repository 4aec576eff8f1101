"""The trials of a search, shown where the specification has one."""

from __future__ import annotations

from typing import ClassVar, Literal

from sfrbench.report.item import Context, ReportItem
from sfrbench.report.render.parts import Part


class SearchItem(ReportItem):
    """A table of trials, and figures of history, importance, slices and contours."""

    kind: ClassVar[str] = "search"
    heading: ClassVar[str] = "Search"
    listed: ClassVar[bool] = False  # the section 'search' of the specification asks for it

    search: Literal[True]

    def make(self, context: Context) -> Part:
        from sfrbench.report.items.search.table import study_part

        return study_part(context.info, context.names.new, context.figures)
