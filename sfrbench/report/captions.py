"""What a caption says: the protocol and its rules, the profile, and what a number is made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from sfrbench.report.style import axis_text, stamp

if TYPE_CHECKING:
    from sfrbench.report.info import ReportInfo

_RULES: Mapping[str, Mapping[Any, str]] = {
    "checkpoint": {"last": "last checkpoint", "best_val": "best checkpoint on validation cases"},
    "largest_component": {
        True: "largest component of each class kept",
        False: "no post-processing",
    },
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
    """One sentence with the rules of the protocol; a field that is unknown here is named with its value."""
    said = []
    for name, value in info.protocol_fields.items():
        if name in _RULES:
            said.append(_RULES[name].get(value, f"{name} {axis_text(value)}"))
        elif name == "nsd_tolerance":
            if "nsd" in info.metrics:
                said.append(f"NSD tolerance {axis_text(value)}")
        elif value is not None:
            said.append(f"{name} {axis_text(value)}")
    rules = f": {'; '.join(said)}" if said else ""
    return f"Protocol {info.protocol}{rules}."


def foot(info: ReportInfo) -> str:
    """The line that stands in the corner of every figure."""
    scaled = "" if info.profile == "paper" else " (scaled down)"
    return f"{info.experiment} · profile {info.profile}{scaled} · protocol {info.protocol}"


def tail(info: ReportInfo) -> str:
    """What ends every caption."""
    return f"{stamp(info.profile)} {protocol_text(info)}"


def short_tail(info: ReportInfo) -> str:
    """The same on a page that says the rules at its top."""
    return f"{stamp(info.profile)} Protocol {info.protocol}, rules at the top."


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


def seeds_text(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def subset_text(subset: str) -> str:
    names = {"test": "test cases", "val": "validation cases", "unlabelled": "unlabelled training cases"}
    if subset.startswith("unlabelled round "):
        return f"{names['unlabelled']} in {subset.removeprefix('unlabelled ')}"
    return names.get(subset, f"cases of subset '{subset}'")


def made_of(info: ReportInfo, subset: str, classes: Collection[int], std: str = "seeds") -> str:
    """What the number of a result table means, and what its ± is over: 'seeds', 'cases' or 'none'.

    ``classes`` are the numbers of classes that its lines have.
    """
    over = f"the mean over {subset_text(subset)}"
    if max(classes, default=1) > 1:
        many = f"{max(classes)} classes" if len(set(classes)) == 1 else "the classes of each dataset"
        over += f" of each class, averaged unweighted over {many}"
    if std == "cases":
        one = "of a case's mean over " + ("classes and seeds" if max(classes, default=1) > 1 else "seeds")
        spread = f"standard deviation (n − 1) over cases, {one}"
        return f"Mean over {seeds_text(len(info.seeds))} of {over} ± {spread}."
    if std == "none":
        return f"Mean over {seeds_text(len(info.seeds))} of {over}."
    if len(info.seeds) < 2:
        return f"One seed: {over}; a standard deviation over seeds needs two (—)."
    return f"Mean ± standard deviation (n − 1) over {len(info.seeds)} seeds of {over}."
