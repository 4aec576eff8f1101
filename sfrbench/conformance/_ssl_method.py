"""A method in a training of a few steps."""

from __future__ import annotations

from typing import Any

from sfrbench.components.base import Ssl
from sfrbench.conformance.checks import Subject

STEPS = 3
#: One optimiser for all: a card's own recipe is not what is examined.
FAST = {
    "optimiser": "adamw",
    "lr": 5e-3,
    "schedule": "constant",
    "weight_decay": 0.0,
    "warmup": 0,
    "step_every": 2500,
    "step_from": 0,
}
#: Iterations at which a loss is looked at: some methods begin with a part of it.
ITERATIONS = (0, STEPS - 1)


def small(subject: Subject, **fields: Any) -> Ssl:
    """The card's method in a training of some steps, at the full weight of its terms from the third on."""
    wanted: dict[str, Any] = {f"optim.{name}": value for name, value in FAST.items()}
    wanted |= {"steps": STEPS, "checkpoint_every": 2, "ramp_unit": 1, "ramp_length": 2, **fields}
    made = subject.scaled(Ssl, **wanted)
    # inner loops of its own, such as a game within a step
    own = {name for name in type(made).model_fields if name not in Ssl.model_fields}
    inner = {name: 5 for name in own if name.endswith("_steps") and getattr(made, name) > 5}
    return subject.scaled(Ssl, **wanted, **inner) if inner else made
