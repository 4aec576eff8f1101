"""A click or a box on every n-th slice, once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sfrbench.components.base_prompts import Form, Prompter, Said, Scene


class EverySlices(Prompter):
    """One click or one box for each object on slices 0, n, 2n, ... of a range.

    A click is any voxel of the object on its slice. The same slice has the same click whatever n, so that
    spacings are compared on equal clicks (ours).
    """

    every: int = Field(2, ge=1, le=1000, description="slices from one that is prompted to the next")
    form: Literal["click", "box"] = Field("click", description="what is said on a slice that has the object")
    over: Literal["all", "labelled"] = Field(
        "all",
        description="the range: all slices, or from the first to the last that hold any object of the case; "
        "the others then stay empty (Medical SAM 2)",
    )
    absent: Literal["mask0", "skip"] = Field(
        "skip",
        description="a slice of the sequence without the object: said to lack it, by an empty mask (Medical "
        "SAM 2), or passed over (ours)",
    )

    @property
    def forms(self) -> frozenset[Form]:
        said: Form = "click" if self.form == "click" else "slice_box"
        return frozenset({said, "absent"} if self.absent == "mask0" else {said})

    @property
    def random(self) -> bool:
        return self.form == "click"

    @property
    def shows(self) -> str:
        told = []
        if self.over == "labelled":
            told.append("the first and the last slice that hold any object, beyond which all stays empty")
        if self.absent == "mask0":
            told.append("which of the prompted slices lack the object")
        return f"It also tells {' and '.join(told)}." if told else ""

    def slices(self, scene: Scene) -> range:
        """The slices of the sequence."""
        first, last = scene.labelled if self.over == "labelled" else (0, scene.truth.shape[2] - 1)
        return range(first, last + 1, self.every)

    def say(self, scene: Scene) -> Said:
        from sfrbench.components.prompter import _slices

        if scene.said or not scene.truth.any():
            return Said()
        has = {z: bool(scene.truth[:, :, z].any()) for z in self.slices(scene)}
        prompted = [z for z in has if has[z]]
        lacking = [z for z in has if not has[z]] if self.absent == "mask0" else []
        clicks = _slices.clicks(scene.truth, prompted, scene.rng) if self.form == "click" else ()
        boxes = _slices.boxes(scene.truth, prompted) if self.form == "box" else ()
        if not (clicks or boxes or lacking):
            return Said()  # the object lies between the prompted slices
        return Said(clicks, boxes, tuple(lacking), scene.labelled if self.over == "labelled" else None)
