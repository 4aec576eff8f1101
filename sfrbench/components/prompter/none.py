"""A user who says nothing."""

from __future__ import annotations

from sfrbench.components.base_prompts import Form, Prompter, Said, Scene


class Silent(Prompter):
    """Says nothing of any object, so that no model is asked and every map is empty: the floor of a table
    (ours)."""

    @property
    def forms(self) -> frozenset[Form]:
        return frozenset()

    @property
    def random(self) -> bool:
        return False

    def say(self, scene: Scene) -> Said:
        return Said()
