"""SFR+'s choice between confident and uncertain unlabelled cases, by a threshold on their confidence."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from sfrbench.components.base import Selector


class Tau(Selector):
    """C_j >= tau is confident (eq. 8; the paper's tau is 0.985).

    Most voxels are background, so C is high whatever the quality of the foreground; see ``over``.
    """

    tau: float = Field(0.985, ge=0, le=1, description="least confidence of a confident case")

    def threshold(self, confidences: Sequence[float]) -> float:
        return self.tau


class Quantile(Selector):
    """The most confident share of the cases, whatever their confidence (ours)."""

    share: float = Field(0.5, ge=0, le=1, description="share of the unlabelled cases that is confident")

    def confident_share(self) -> float | None:
        return self.share

    def threshold(self, confidences: Sequence[float]) -> float:
        ranked = sorted(confidences, reverse=True)
        count = round(self.share * len(ranked))
        return ranked[count - 1] if count else float("inf")


class Everything(Selector):
    """Every case is confident: SAM is updated on all, and no case is pseudo-labelled; a control.

    With ``both`` every case is also pseudo-labelled, so that nothing depends on confidence.
    """

    def confident_share(self) -> float | None:
        return 1.0

    def threshold(self, confidences: Sequence[float]) -> float:
        return float("-inf")


class Nothing(Selector):
    """No case is confident: SAM stays as it is, and all cases keep its pseudo-labels; a control.

    What is left of SFR+ are the further steps of re-training.
    """

    @property
    def labels_all(self) -> bool:
        return True

    def confident_share(self) -> float | None:
        return 0.0

    def threshold(self, confidences: Sequence[float]) -> float:
        return float("inf")
