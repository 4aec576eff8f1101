"""The pictures of docs/explanation/stitching.md, made by the package when the site is built.

Every picture is what a card makes of one phantom, a pixel for each pixel of the canvas. Blue is where the
loss does not look: padding, and natural images. The line is the border of the label.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Dataset, Stitch
from sfrbench.maths.labels import IGNORE
from sfrbench.report.render.style import TRUTH

if TYPE_CHECKING:
    import torch

FOLDER = "explanation/pictures"
PHANTOM = {"shape": [48, 48, 16], "noise": 0.03}
CANVAS = 208  # 4 x 4 cells of 52 pixels
PROGRESS = 0.25  # of the training: half of natural_mix's tiles are natural then
PADDING = (43, 74, 107)
Picture = NDArray[np.uint8]

#: Name -> what it shows.
CAPTIONS = {
    "slices": "The 16 slices of a patch of 48 × 48 × 16, one by one. The line is the border of the label.",
    "grid": "`grid`: on one canvas in their order, pixel for pixel. Blue: padding, where no loss is taken.",
    "shuffled": "`shuffled`: in an order that is drawn anew for every training canvas.",
    "rotated": "`rotated`: each slice of a training canvas turned and flipped by itself.",
    "natural_mix": "`natural_mix`, a quarter of the training done: half of the tiles are natural images.",
    "slab3": "`slab3`: the slices before and after as red and blue. Grey: the three are alike.",
    "scale": "`grid` with `scale: 6`: room for 36 slices, so each is smaller; cells are left empty.",
    "upsampled": "`upsampled`: one slice on each canvas, enlarged to fill it.",
    "small_size": "`small_size`: one slice on each canvas of its own size.",
    "back": "A slice, the same after stitching and back, and the difference, five times as bright. Above "
    "`grid`: none, to the bit. Below `scale: 6`: what resizing takes away.",
}


def files() -> dict[str, bytes]:
    """Path below docs/ -> PNG."""
    return {f"{FOLDER}/{name}.png": png(pixels) for name, pixels in pictures()}


def tables() -> dict[str, str]:
    """The pictures with their captions, for the page."""
    shown = [
        f"<figure markdown>\n![{name}](pictures/{name}.png){{ .pixels }}\n\n{told}\n</figure>"
        for name, told in CAPTIONS.items()
    ]
    return {"pictures": '<div class="pictures" markdown>\n\n' + "\n\n".join(shown) + "\n\n</div>"}


def pictures() -> Iterator[tuple[str, Picture]]:
    """Name and pixels (rows, columns, RGB) of each, in the order of ``CAPTIONS``."""
    depth = patch()[0].shape[-1]
    rows = [np.hstack([_slice(z) for z in range(start, start + 8)]) for start in range(0, depth, 8)]
    yield "slices", np.vstack(rows)
    for name in ("grid", "shuffled", "rotated", "natural_mix", "slab3"):
        yield name, training_canvas(stitch(name))
    yield "scale", training_canvas(stitch("grid", scale=6))
    yield "upsampled", training_canvas(stitch("upsampled"), middle=True)
    yield "small_size", training_canvas(stitch("small_size"), canvas=48, middle=True)
    yield "back", np.vstack([_there_and_back(stitch("grid")), _there_and_back(stitch("grid", scale=6))])


@cache
def patch() -> tuple[torch.Tensor, torch.Tensor]:
    """A phantom (X, Y, Z): intensities and labels."""
    import torch

    phantom = cast(Dataset, Catalog.read().card("dataset", "phantom").component(PHANTOM))
    case = phantom.read_case(None, "p000003")
    return torch.from_numpy(case.image).float(), torch.from_numpy(case.label).long()


def stitch(name: str, **fields: Any) -> Stitch:
    """A card's component; natural images are those that come with the installation."""
    if name == "natural_mix":
        fields["source"] = "photographs"
    return cast(Stitch, Catalog.read().card("stitch", name).component(fields))


def training_canvas(way: Stitch, canvas: int = CANVAS, *, middle: bool = False) -> Picture:
    """What a training sees; ``middle``: of the slices of the patch that in the middle."""
    image, label = patch()
    if middle:
        at = image.shape[-1] // 2
        image, label = image[..., at : at + 1], label[..., at : at + 1]
    pixels, target = way.training_canvas(image, label, canvas, np.random.default_rng(1), PROGRESS)
    return drawn(pixels.numpy(), target.numpy())


def drawn(pixels: NDArray[Any], target: NDArray[Any]) -> Picture:
    """Intensities (1 or 3, rows, columns) with the label's border, and blue where the loss does not look."""
    channels = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
    colours = np.moveaxis(grey(channels), 0, -1).astype(float)
    ignored = target == IGNORE
    empty = ignored & (pixels == 0).all(0)
    colours[ignored] = 0.6 * colours[ignored] + 0.4 * np.array(PADDING)
    colours[empty] = PADDING
    inside = target == 1
    shrunk = inside.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            shrunk &= np.roll(inside, step, axis)
    colours[inside & ~shrunk] = [int(TRUTH[at : at + 2], 16) for at in (1, 3, 5)]
    return colours.round().astype(np.uint8)


def grey(values: NDArray[Any]) -> Picture:
    """0 to 255 between the percentiles of the whole patch."""
    low, high = np.percentile(patch()[0].numpy(), (0.5, 99.5))
    shown: Picture = (np.clip((values - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    return shown


def _slice(z: int) -> Picture:
    """One slice as it lies on a canvas, with a rim."""
    image, label = patch()
    one = drawn(image[..., z].numpy().T[None], label[..., z].numpy().T)
    return np.pad(one, ((2, 2), (2, 2), (0, 0)), constant_values=255)


def _there_and_back(way: Stitch) -> Picture:
    image = patch()[0]
    x, y, depth = image.shape
    back = way.from_canvases(way.to_canvases(image[None], CANVAS, 0.0), (x, y, depth))[0]
    at = depth // 2
    before, after = image[..., at].numpy().T, back[..., at].numpy().T
    span = np.ptp(np.percentile(image.numpy(), (0.5, 99.5)))
    off = np.clip(5 * np.abs(after - before) / span, 0, 1) * 255
    shown = [grey(before), grey(after), off.round().astype(np.uint8)]
    row = np.hstack([np.pad(each, 2, constant_values=255) for each in shown])
    return np.repeat(row[..., None], 3, axis=2)


def png(pixels: Picture) -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(pixels).save(held, format="PNG", optimize=True)
    return held.getvalue()
