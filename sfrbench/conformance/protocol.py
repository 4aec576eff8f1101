"""What every protocol holds: its fields are read, and a better prediction never scores worse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base import Protocol
from sfrbench.conformance.checks import Check, Subject, expect
from sfrbench.maths.metric_names import DISTANCES
from sfrbench.maths.metrics import score_case

SPACING = (1.0, 1.0, 2.0)


def small(subject: Subject) -> Protocol:
    """The card's protocol as it is."""
    return subject.component(Protocol)


def ready(subject: Subject) -> None:
    """Nothing is needed."""


def fields_of_predictions_exist(subject: Subject) -> None:
    """``predict_fields`` names fields that the class has; strides are positive."""
    protocol = small(subject)
    unknown = sorted(protocol.predict_fields - set(type(protocol).model_fields))
    expect(not unknown, f"no field {', '.join(unknown)}")
    for name in ("stride", "sam_stride"):
        stride = getattr(protocol, name)
        expect(stride is None or min(stride) >= 1, f"{name} is {stride}")


def _truth() -> NDArray[np.uint8]:
    """Two boxes, class 1 and 2."""
    label = np.zeros((16, 14, 12), np.uint8)
    label[2:8, 3:9, 2:9] = 1
    label[10:14, 4:10, 3:8] = 2
    return label


def _scores(
    protocol: Protocol, prediction: NDArray[Any], truth: NDArray[Any]
) -> dict[tuple[int, str], float]:
    found = score_case(prediction, truth, 3, SPACING, protocol)
    return {(score.label, score.metric): score.value for score in found}


def better_is_better(subject: Subject) -> None:
    """The truth scores the best of each metric, a prediction that is shifted less than that."""
    protocol, truth = small(subject), _truth()
    best = _scores(protocol, truth, truth)
    expect(
        {label for label, _ in best} == {1, 2}, f"classes {sorted({label for label, _ in best})} are scored"
    )
    shifted = _scores(protocol, np.roll(truth, 2, 0), truth)
    for (label, metric), value in best.items():
        expect(value == float(metric not in DISTANCES), f"{metric} of the truth is {value}")
        other = shifted[label, metric]
        worse = other > value if metric in DISTANCES else other < value
        tolerated = metric == "nsd" and protocol.nsd_tolerance >= 2  # voxels that it was shifted
        expect(worse or tolerated, f"{metric}: {value} for the truth, {other} shifted")


def empty_predictions_are_scored(subject: Subject) -> None:
    """A class that is not predicted gets a finite score or none, and never a Dice above 0."""
    protocol, truth = small(subject), _truth()
    for (label, metric), value in _scores(protocol, np.where(truth == 1, 0, truth), truth).items():
        expect(not math.isinf(value), f"{metric} of class {label} is {value}")
        if label == 1 and metric == "dice":
            expect(math.isnan(value) or value == 0, f"Dice of what is not predicted is {value}")


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = ()
CHECKS: tuple[Check, ...] = (fields_of_predictions_exist, better_is_better, empty_predictions_are_scored)
