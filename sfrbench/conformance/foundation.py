"""What every foundation holds: shapes, types, images apart from one another, a head drawn anew."""

from __future__ import annotations

from typing import get_args

import torch

from sfrbench.components.base import Foundation
from sfrbench.components.core import FLOOR
from sfrbench.components.foundation.segmenter import HEAD, SamSegmenter
from sfrbench.conformance import _prompted
from sfrbench.conformance._foundation import small, weights_of
from sfrbench.conformance.checks import Broken, Check, Subject, expect
from sfrbench.errors import InputError


def ready(subject: Subject) -> None:
    """The weight file is here."""
    weights_of(subject)


def _built(subject: Subject, classes: int = 3, seed: int = 0, **fields: object) -> SamSegmenter:
    torch.manual_seed(seed)
    return small(subject, **fields).build(classes, weights_of(subject))


def _images(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(4))


def weights_are_announced(subject: Subject) -> None:
    """The card has 'weights' among its needs where the class asks for a weight file, and only there."""
    name = subject.component(Foundation).weights
    announced = "weights" in subject.card.needs
    expect(announced == (name is not None), f"needs {list(subject.card.needs)}, weight file {name}")


def logits_have_the_shape(subject: Subject) -> None:
    """Canvases (B, 1, I, I) give logits (B, K, I, I), and smaller ones before, float32 and finite."""
    for precision in ("fp32", "bf16"):
        for classes in (2, 4, 5):
            model = _built(subject, classes, precision=precision)
            side = model.canvas
            with torch.no_grad():
                logits, low = model.segment(_images(2, side)), model(_images(2, side))
            wanted = (2, classes, side, side)
            expect(logits.shape == wanted, f"{tuple(logits.shape)} in the place of {wanted}")
            expect(low.shape[:2] == (2, classes), f"small logits {tuple(low.shape)}")
            types = {str(part.dtype) for part in (logits, low, *model.parameters())}
            expect(types == {"torch.float32"}, f"{precision}: types {', '.join(sorted(types))}")
            expect(bool(torch.isfinite(logits).all()), f"{precision}: logits that are not finite")


def images_are_apart(subject: Subject) -> None:
    """A batch gives what its images give one by one."""
    model = _built(subject)
    images = _images(3, model.canvas)
    with torch.no_grad():
        apart = torch.cat([model(image[None]) for image in images])
        far = (model(images) - apart).abs().max()
    expect(bool(far <= 1e-5 * (1 + apart.abs().max())), f"logits differ by up to {far:.3g}")


def logits_follow_the_image(subject: Subject) -> None:
    """Another image has other logits."""
    model = _built(subject)
    images = _images(2, model.canvas)
    with torch.no_grad():
        logits = model(images)
    expect(not torch.equal(logits[0], logits[1]), "two images have the same logits")


def only_the_head_is_drawn(subject: Subject) -> None:
    """One seed gives the same weights; another changes the class tokens and their heads, and nothing else."""
    one, same, other = (_built(subject, seed=seed).state_dict() for seed in (0, 0, 1))
    expect(all(torch.equal(one[name], same[name]) for name in one), "two models of one seed differ")
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    head = tuple(f"mask_decoder.{name}." for name in HEAD)
    strange = sorted(name for name in changed if not name.startswith(head))
    expect(not strange, f"drawn anew, too: {', '.join(strange[:6])}")
    expect(any(name.startswith(head[:2]) for name in changed), "the head is the same for two seeds")


def other_forms_are_refused(subject: Subject) -> None:
    """Canvases that are not square, or have two channels, raise an error that says which form is needed."""
    model = _built(subject)
    side = model.canvas
    for shape in ((1, 2, side, side), (1, side, side), (1, 1, side, side // 2)):
        try:
            model(torch.zeros(shape))
        except InputError as error:
            expect("I, I)" in str(error), f"for {shape} it says: {error}")
        else:
            raise Broken(f"{shape} was taken")


def _norms(subject: Subject) -> tuple[str, ...]:
    """The scales of input that the model can have."""
    return get_args(type(small(subject)).model_fields["norm"].annotation)


def input_is_scaled(subject: Subject) -> None:
    """'zscore' leaves an image as it is, 'unit' brings it from the range to [0, 1]; 'minmax', too, and leaves
    0 to the padding."""
    image = torch.tensor([-3.0, -1.0, 0.0, 1.0, 9.0])
    unit = torch.tensor([0.0, 0.0, 0.25, 0.5, 1.0])
    every = {"zscore": image, "unit": unit, "minmax": FLOOR + (1 - FLOOR) * unit}
    for norm in _norms(subject):
        scaled, wanted = small(subject, norm=norm).normalise(image, (-1.0, 3.0)), every[norm]
        expect(torch.allclose(scaled, wanted, atol=1e-5), f"{norm}: {scaled.tolist()} of {image.tolist()}")


def brightness_does_not_matter(subject: Subject) -> None:
    """With 'minmax', where the model has it, a canvas that is darker and flatter, padding aside, has the same
    logits."""
    if "minmax" not in _norms(subject):
        return
    model = _built(subject, norm="minmax")
    image = _images(1, model.canvas) * (1 - FLOOR) + FLOOR
    image[..., : model.canvas // 4] = 0
    other = torch.where(image > 0, 0.25 + image / 2, 0)
    with torch.no_grad():
        one, two = model(image), model(other)
    far = (one - two).abs().max()
    expect(bool(far <= 1e-3 * (1 + one.abs().max())), f"logits differ by up to {far:.3g}")


OF_CARDS: tuple[Check, ...] = (weights_are_announced,)
FIRST: tuple[Check, ...] = ()
#: Of a model that can have a semantic head.
SEMANTIC: tuple[Check, ...] = (
    logits_have_the_shape,
    images_are_apart,
    logits_follow_the_image,
    only_the_head_is_drawn,
    other_forms_are_refused,
    input_is_scaled,
    brightness_does_not_matter,
)
#: Of a model that takes prompts.
PROMPTED: tuple[Check, ...] = _prompted.CHECKS
CHECKS: tuple[Check, ...] = (*SEMANTIC, *PROMPTED)


def checks_of(cls: type[Foundation]) -> tuple[Check, ...]:
    """Those of what the class can do."""
    return (*(SEMANTIC if cls.semantic else ()), *(PROMPTED if cls.takes else ()))
