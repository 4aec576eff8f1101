"""Clicks on the object, one a round, each where the model errs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sfrbench.components.base_prompts import Form, Prompter, Said, Scene
from sfrbench.components.prompter._names import FIXED, Rule


class Clicks(Prompter):
    """One click a round for each object, in its volume: the first on the object, the next ones on errors.

    The rules are those of released code, voxel for voxel. Missed voxels are those of the object that the
    model does not have, wrong ones those that only the model has; how deep a voxel lies is its distance to
    the nearest voxel outside of its set, with everything beyond the border of the image outside.

    ``random``: any missed or wrong voxel (SAM-Med3D). ``random_balanced``: a coin for missed or wrong, where
    there are both, then any of these (SAM-Med3D's training). ``ritm3d``: any voxel deeper than half the
    greatest depth, in that of the two sets that is deeper; wrong ones at equal depth (SAM-Med3D).

    The others were written for images. Which slice they see is ours: the first one of those with the most
    missed and wrong voxels, so at first that of the object's largest area. ``ritm``: the deepest voxel, the
    first of several, no voxel twice (RITM). ``center``: the same, but a voxel may be clicked again (SAM 2's
    training). ``uniform``: any missed or wrong voxel (SAM 2's training). ``first_random``: any voxel of the
    object on the slice of its largest area, whatever the model errs in (Medical SAM 2's first click).
    """

    number: int = Field(10, ge=1, le=1000, description="clicks, one a round")
    rule: Rule = Field("random", description="where the next click lies")
    then: Rule | None = Field(
        None, description="the rule of clicks after the first 'switch_after'; none: 'rule'"
    )
    switch_after: int = Field(2, ge=1, le=1000, description="clicks by 'rule' before those by 'then'")
    spacing: Literal["voxel", "mm"] = Field(
        "voxel", description="unit of depths; released code counts voxels, which are cubes there"
    )
    perfect: Literal["stop", "released"] = Field(
        "stop",
        description="where nothing is missed or wrong: no more clicks (ours), or the click that the released "
        "code of the rule makes then (see components/prompter/_rules.py: PERFECT)",
    )

    @property
    def rounds(self) -> int:
        return self.number

    @property
    def forms(self) -> frozenset[Form]:
        return frozenset({"click"})

    @property
    def random(self) -> bool:
        return not {self.rule_of(number) for number in (1, self.number)} <= FIXED

    def rule_of(self, number: int) -> Rule:
        """The rule of a click, counted from 1."""
        return self.rule if self.then is None or number <= self.switch_after else self.then

    def say(self, scene: Scene) -> Said:
        from sfrbench.components.prompter import _rules

        rule = self.rule_of(len(scene.said) + 1)
        click = _rules.next_click(scene, rule, in_mm=self.spacing == "mm", stops=self.perfect == "stop")
        return Said() if click is None else Said(clicks=(click,))
