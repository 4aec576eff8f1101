"""What every stitch holds: all slices reach the canvases, and come back where they were."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sfrbench.components.base import Stitch
from sfrbench.components.stitch.grid import TiledStitch
from sfrbench.conformance.checks import Check, Subject, expect
from sfrbench.maths.labels import IGNORE
from sfrbench.places.locations import folder_of

SIDES, CANVAS = (12, 13), 64  # twenty slices on a canvas, where they are not enlarged
DEPTHS = (1, 7, 80)  # one slice, a canvas that is not full, more than one canvas
#: Bits that a pixel tells of its label: above 0.5 where they belong together, also enlarged; else some 0.02.
TOLD = 0.2


def small(subject: Subject) -> Stitch:
    """The card's stitch, with images that come with the installation where it needs any."""
    return subject.scaled(Stitch)


def ready(subject: Subject) -> None:
    """Images that training canvases need beside the patch are here."""
    _made(subject)


def _made(subject: Subject) -> Stitch:
    return small(subject).located(lambda name: folder_of([name], subject.data))


def _exact(stitch: Stitch) -> bool:
    """Whether the inverse has to be exact: where nothing is resized."""
    return not (isinstance(stitch, TiledStitch) and stitch.geometry(SIDES, CANVAS).resized)


def _patch(depth: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """An image of noise (X, Y, Z), and labels of three classes that follow it."""
    image = torch.randn(*SIDES, depth, generator=torch.Generator().manual_seed(seed))
    return image, (image > 0.5).byte() + (image > 1).byte()


def maps_come_back(subject: Subject) -> None:
    """Maps of every class return from the canvases to the slice and pixel that they were at."""
    stitch = _made(subject)
    for depth in DEPTHS:
        _, label = _patch(depth)
        maps = torch.nn.functional.one_hot(label.long(), 3).permute(3, 0, 1, 2).float()
        canvases = stitch.to_canvases(maps, CANVAS, 0.0)
        seen = f"{depth} slices: canvases {tuple(canvases.shape)} {canvases.dtype}"
        expect(canvases.shape[1:] == (3, CANVAS, CANVAS) and canvases.dtype == torch.float32, seen)
        back = stitch.from_canvases(canvases, (*SIDES, depth))
        expect(back.shape == maps.shape, f"{depth} slices: {tuple(maps.shape)} became {tuple(back.shape)}")
        same = (back.argmax(0) == label).float().mean((0, 1))
        worst = int(same.argmin())
        # enlarged and shrunk again, the class is kept but for pixels at the edge of these specks
        kept = torch.equal(back, maps) if _exact(stitch) else bool((same > 0.85).all())
        expect(kept, f"{depth} slices: {same[worst]:.0%} of the pixels of slice {worst} kept their class")


def labels_come_back(subject: Subject) -> None:
    """Integer labels stay integers, and return to the slice and pixel that they were at."""
    stitch = _made(subject)
    for depth in DEPTHS:
        _, label = _patch(depth)
        canvases = stitch.to_canvases(label[None], CANVAS, IGNORE)
        expect(canvases.dtype == torch.uint8, f"uint8 became {canvases.dtype}")
        back = stitch.from_canvases(canvases, (*SIDES, depth))[0]
        wrong = (back != label).flatten(0, 1).any(0).nonzero().flatten().tolist()
        expect(not wrong, f"{depth} slices: other labels in slices {wrong[:8]}")


def images_become_canvases(subject: Subject) -> None:
    """Canvases show one or three channels, finite, as many as those of maps, the same at each call."""
    stitch = _made(subject)
    for depth in DEPTHS:
        image, label = _patch(depth)
        shown = stitch.to_canvases(image[None], CANVAS, 0.0)
        expect(shown.shape[1] in (1, 3), f"{shown.shape[1]} channels")
        expect(bool(torch.isfinite(shown).all()), f"{depth} slices: values that are not finite")
        count = stitch.to_canvases(label[None], CANVAS, IGNORE).shape[0]
        expect(shown.shape[0] == count, f"{shown.shape[0]} canvases of the image, {count} of its labels")
        again = stitch.to_canvases(image[None].clone(), CANVAS, 0.0)
        expect(torch.equal(shown, again), f"{depth} slices: another canvas at the second call")


def probabilities_stay_probabilities(subject: Subject) -> None:
    """Probabilities that return from canvases are not negative and sum to 1."""
    stitch = _made(subject)
    maps = torch.randn(4, *SIDES, 20, generator=torch.Generator().manual_seed(2)).softmax(0)
    back = stitch.from_canvases(stitch.to_canvases(maps, CANVAS, 0.0), (*SIDES, 20))
    sums = back.sum(0)
    seen = f"sums from {sums.min():.4g} to {sums.max():.4g}, least value {back.min():.4g}"
    expect(bool(back.min() >= 0 and (sums - 1).abs().max() < 1e-5), seen)


def training_canvases_fit(subject: Subject) -> None:
    """A training canvas has the channels of the others, int64 labels of the patch or 255, and changes
    nothing in place; at the end of training 255 stands where no slice lies, and only there."""
    stitch = _made(subject)
    for depth in DEPTHS:
        image, label = _patch(depth)
        before = image.clone(), label.clone()
        channels = stitch.to_canvases(image[None], CANVAS, 0.0).shape[1]
        whole = torch.ones(1, *SIDES, depth, dtype=torch.uint8)
        empty = int((stitch.to_canvases(whole, CANVAS, 0)[0, 0] != 1).sum())
        for progress in (0.0, 0.3, 0.999):
            rng = np.random.default_rng(5)
            pixels, target = stitch.training_canvas(image, label, CANVAS, rng, progress)
            seen = f"pixels {tuple(pixels.shape)} {pixels.dtype}"
            expect(pixels.shape == (channels, CANVAS, CANVAS) and pixels.dtype == torch.float32, seen)
            seen = f"labels {tuple(target.shape)} {target.dtype}"
            expect(target.shape == (CANVAS, CANVAS) and target.dtype == torch.int64, seen)
            values = set(target.flatten().tolist())
            expect(values <= {0, 1, 2, IGNORE}, f"labels {sorted(values)} of classes 0 to 2")
            same = torch.equal(image, before[0]) and torch.equal(label, before[1])
            expect(same, "the patch was changed in place")
            if progress > 0.9:
                ignored = int((target == IGNORE).sum())
                seen = f"{depth} slices: {ignored} pixels are ignored, {empty} lie outside of slices"
                expect(ignored == empty, seen)
                expect(bool((pixels[:, target == IGNORE] == 0).all()), "ignored pixels that are not 0")


def training_labels_lie_on_their_image(subject: Subject) -> None:
    """The label of a pixel of a training canvas is of the voxel that the pixel shows."""
    stitch = _made(subject)
    image, label = _patch(80)
    for seed in range(3):
        pixels, target = stitch.training_canvas(image, label, CANVAS, np.random.default_rng(seed), 0.999)
        looked_at = target != IGNORE
        shown = pixels[len(pixels) // 2][looked_at]  # of three channels the middle one
        told = _told(shown.numpy(), target[looked_at].numpy())
        expect(
            told > TOLD, f"a pixel tells {told:.2f} bits of its label, as if they were of different voxels"
        )


def _told(values: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Mutual information of values, in sixteen equal parts, and labels 0 to 2, in bits: whatever was done to
    intensities, it stays above 0."""
    edges = np.quantile(values, np.linspace(0, 1, 17)[1:-1])
    counts = np.zeros((16, 3))
    np.add.at(counts, (np.searchsorted(edges, values), labels), 1)
    joint = counts / counts.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    known = joint > 0
    return float((joint[known] * np.log2(joint[known] / apart[known])).sum())


def chance_is_the_generators(subject: Subject) -> None:
    """Training canvases of one generator state are the same to the bit, of others not all."""
    stitch = _made(subject)
    image, label = _patch(80)

    def canvas(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return stitch.training_canvas(image, label, CANVAS, np.random.default_rng(seed), 0.2)

    (one, other), (same, target) = canvas(1), canvas(1)
    expect(torch.equal(one, same) and torch.equal(other, target), "two canvases of one state differ")
    differs = any(not torch.equal(one, canvas(seed)[0]) for seed in range(2, 6))
    expect(differs, "five states gave one canvas")


OF_CARDS: tuple[Check, ...] = ()
FIRST: tuple[Check, ...] = ()
CHECKS: tuple[Check, ...] = (
    maps_come_back,
    labels_come_back,
    images_become_canvases,
    probabilities_stay_probabilities,
    training_canvases_fit,
    training_labels_lie_on_their_image,
    chance_is_the_generators,
)
