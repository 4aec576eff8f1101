"""The words around tables and figures: what a number is made of, the profile, the protocol and its rules.

A caption is one sentence. What a reader must know beside it are rules, a sentence or two each: those of one
table stand under it, those that hold for all stand once on a page, and with each table in a file of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sfrbench.report.render.style import scaled, stamp
from sfrbench.results.axes import axis_text
from sfrbench.results.subsets import TEST, UNLABELLED, VAL

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo

#: How the arrows at the heads of columns are read.
ARROWS = "At the head of a column: ↑ larger is better, ↓ smaller is better."
_RULES: Mapping[str, Mapping[Any, str]] = {
    "checkpoint": {"last": "last checkpoint", "best_val": "best checkpoint on validation cases"},
    "largest_component": {
        True: "largest component of each class kept",
        False: "no post-processing",
    },
    "windows": {"stride": "", "half": "windows at most half the patch apart, spread evenly"},
    "window_weights": {"uniform": "", "gaussian": "windows weighted by a Gaussian"},
    "window_mean": {"probabilities": "", "logits": "segmenters' windows averaged as logits"},
    "mirror": {"none": "", "all": "mean over the 8 mirrorings of each window"},
    "spacing": {"voxel": "distances in voxels", "mm": "distances in mm"},
    "empty": {
        "paper_zero": "a class empty in prediction or truth counts 0 in every metric, distances included",
        "skip": "a class empty in prediction or truth is left out",
        "worst": "a class empty in prediction or truth counts 0, in distances the image diagonal",
    },
    "absent": {
        "score": "a class absent from the truth is scored",
        "skip": "a class absent from the truth is left out",
    },
    "asd": {
        "pred_to_gt": "ASD from prediction to truth",
        "gt_to_pred": "ASD from truth to prediction",
    },
}


def protocol_text(info: ReportInfo) -> str:
    """A sentence with the rules of each protocol; a field that is unknown here is named with its value."""
    several = info.protocols if len(info.protocols) > 1 else {info.protocol: info.protocol_fields}
    return " ".join(f"Protocol {name}{_rules(fields, info.metrics)}." for name, fields in several.items())


def _rules(fields: Mapping[str, Any], metrics: Collection[str]) -> str:
    said = []
    for name, value in fields.items():
        if name in ("dice", "dice_thresholds", "dice_slices"):
            said += _dice(fields) if name == "dice" else []
        elif name in _RULES:
            said.append(_RULES[name].get(value, f"{name} {axis_text(value)}"))
        elif name == "nsd_tolerance":
            if "nsd" in metrics:
                said.append(f"NSD tolerance {axis_text(value)}")
        elif value is not None:
            said.append(f"{name} {axis_text(value)}")
    return f": {'; '.join(filter(None, said))}" if any(said) else ""


def _dice(fields: Mapping[str, Any]) -> list[str]:
    """What Dice is, where it is not that of a class's voxels in the whole volume."""
    if fields["dice"] == "volume":
        return []
    where = {
        "labelled": "from the first to the last that holds any class",
        "first_quarter": "the first quarter from the first that holds any class",
    }[fields["dice_slices"]]
    thresholds = ", ".join(map(axis_text, fields["dice_thresholds"]))
    return [f"Dice is the mean over slices ({where}) and logits above {thresholds}, 1 where both are empty"]


def foot(info: ReportInfo) -> str:
    """The line that stands in the corner of every figure."""
    note = " (scaled down)" if scaled(info.profile) else ""
    return f"{info.experiment} · profile {info.profile}{note} · protocol {info.protocol}"


def tail(info: ReportInfo) -> tuple[str, ...]:
    """The rules that hold for every table of a report: profile and protocol."""
    return stamp(info.profile), protocol_text(info)


def left_out(info: ReportInfo, told: Collection[str]) -> str:
    """What the specification leaves out, with the reason, but for the arms whose own rows tell it."""
    by_reason: dict[str, list[str]] = {}
    for entry in info.excluded:
        if entry.arm not in told:
            by_reason.setdefault(entry.reason, []).append(entry.title)
    said = [
        f"{', '.join(titles) if len(titles) <= 4 else f'{len(titles)} points (listed in the report)'}: {why}"
        for why, titles in by_reason.items()
    ]
    return f"Left out on purpose: {'; '.join(said)}." if said else ""


def listed(words: Iterable[str]) -> str:
    """``one``, ``one and two``, ``one, two and three``."""
    *first, last = words
    return " and ".join([*([", ".join(first)] if first else []), last])


def seeds_text(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def subset_text(subset: str) -> str:
    names = {TEST: "test cases", VAL: "validation cases", UNLABELLED: "unlabelled training cases"}
    return names.get(subset, f"cases of subset '{subset}'")


def number_text(info: ReportInfo, subset: str, std: str = "seeds") -> str:
    """The caption of a result table: what its numbers are; ``std`` is what ± is over."""
    count, cases = len(info.seeds), subset_text(subset)
    if std == "cases":
        return f"Mean ± standard deviation over {cases}, {seeds_text(count)}."
    if count < 2 or std == "none":
        return f"Mean over {cases}, {seeds_text(count)}."
    return f"Mean ± standard deviation over {count} seeds, on {cases}."


def made_of(info: ReportInfo, classes: Collection[int], std: str = "seeds") -> str:
    """How a number of a result table is computed, and what its ± is over: 'seeds', 'cases' or 'none'.

    ``classes`` are the numbers of classes that its lines have.
    """
    steps, several = ["over cases"], max(classes, default=1) > 1
    if several:
        steps[0] += " for each class"
        many = f"{max(classes)} classes" if len(set(classes)) == 1 else "the classes of each dataset"
        steps.append(f"unweighted over {many}")
    if len(info.seeds) > 1:
        steps.append("over seeds")
    said = f"A number is the mean {', then '.join(steps)}"
    if std == "cases":
        one = "a case's mean over classes and seeds" if several else "a case's mean over seeds"
        return f"{said}; ± is the standard deviation (n − 1) over cases of {one}."
    if std == "none":
        return f"{said}."
    if len(info.seeds) < 2:
        return f"{said}. One seed: no standard deviation over seeds, which needs two."
    return f"{said}; ± is the standard deviation (n − 1) over seeds, and needs two of them."
