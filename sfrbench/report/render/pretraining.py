"""What stands under every table and figure behind which pretrained weights may have seen scored cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfrbench.report.render.parts import Part
from sfrbench.report.render.under import with_rules

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo


def with_pretraining(part: Part, info: ReportInfo) -> Part:
    """The part, each of its tables and figures with what is known of the weights behind it."""
    return with_rules(part, lambda cells: rules_of(cells, info), figures=True)


def rules_of(cells: set[str], info: ReportInfo) -> list[str]:
    """A sentence for each kind of pretraining behind these cells; none where there is no doubt."""
    labels: dict[str, dict[str, None]] = {}
    for one in info.pretrained:
        if one.cell in cells:
            labels.setdefault(one.trained_on, {})[one.label] = None
    return [
        f"The weights of {' and '.join(known)} were trained on {what}; whether cases that are scored here "
        "were among them is unknown."
        for what, known in labels.items()
    ]
