"""The one protocol class: what differs between protocols is a card."""

from __future__ import annotations

from sfrbench.components.base import Protocol


class StandardProtocol(Protocol):
    """Scoring by ``sfrbench.metrics`` (MedPy's definitions) under the rules that the fields set."""
