"""nnU-Net's augmentation of training patches, without state: it depends on a generator's draws alone.

Order, probabilities and ranges are those of MIC-DKFZ/nnUNet (``nnUNetTrainer.get_training_transforms``) and
batchgeneratorsv2, for images of one channel: where these first choose samples and then half of the channels
(blur, low resolution), the probability here is the product. Ours: a turned or scaled patch is sampled from
the whole volume and not from a crop somewhat larger than the patch, so that its corners show what is there;
axes are x, y, z, slices last; mirroring is drawn with the rest of the geometry, and left out where anatomy
must not be mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from sfrbench.maths.sampling import Crops, Patch, Sides, View, Volume, draw_view

Rng = np.random.Generator
Matrix = tuple[tuple[float, float, float], ...]
#: Patches more than so many times as long as deep are turned and scaled in the plane of slices alone.
ANISOTROPIC = 3
#: Shares of patches that are turned, and that are scaled.
TURNED, SCALED = 0.2, 0.2
#: Degrees about each axis, and about the axis of slices alone.
ANGLE, ANGLE_FLAT = 30.0, 180.0
#: Steps between sampled voxels; above 1 what is seen gets smaller.
SCALE = (0.7, 1.4)
#: Voxels by which a place may be outside of a volume before it counts as that.
SLACK = 1e-3


@dataclass(frozen=True)
class Warp(View):
    """A crop turned and scaled about its centre by ``matrix`` (none: neither), then mirrored."""

    matrix: Matrix | None = None
    mirrored: tuple[int, ...] = ()  # spatial axes

    def take(self, array: Volume) -> Volume:
        """As in ``View``; floating arrays are interpolated linearly, of others the nearest voxel is taken."""
        if self.matrix is None:
            return self._mirrored(super().take(array))
        part, grid, _ = self._within(array, self.matrix)
        mode = "bilinear" if np.issubdtype(array.dtype, np.floating) else "nearest"
        return self._mirrored(sampled(part, grid, mode).numpy().astype(array.dtype))

    def take_labels(self, labels: Volume) -> Volume:
        """The label with the largest linearly interpolated share of a voxel; of equal ones the lowest. 0
        beyond the centres of the outermost voxels."""
        if self.matrix is None:
            return self.take(labels)
        part, grid, outside = self._within(labels, self.matrix)
        rest, best = torch.ones(self.patch), torch.zeros(self.patch)
        found = np.zeros(self.patch, labels.dtype)
        for label in np.unique(part[part > 0]):
            share = sampled(part == label, grid, "bilinear")
            found[(share > best).numpy()] = label
            best, rest = torch.maximum(best, share), rest - share
        found[outside | (rest >= best).numpy()] = 0
        return self._mirrored(found)

    def _mirrored(self, taken: Volume) -> Volume:
        return np.ascontiguousarray(np.flip(taken, tuple(axis - 3 for axis in self.mirrored)))

    def _within(self, array: Volume, matrix: Matrix) -> tuple[Volume, torch.Tensor, Volume]:
        """The part of an array (..., X, Y, Z) that is sampled, where in it, as ``grid_sample`` counts, and
        bool (X, Y, Z): what lies beyond the centres of the outermost voxels, by more than a rounding."""
        offsets = [np.arange(side) - (side - 1) / 2 for side in self.patch]
        grid = np.empty((*self.patch, 3), np.float32)
        outside = np.zeros(self.patch, np.bool_)
        spans = []
        for axis, (row, side) in enumerate(zip(matrix, array.shape[-3:], strict=True)):
            centre = self.start[axis] + (self.patch[axis] - 1) / 2
            reach = sum(abs(share) * own[-1] for share, own in zip(row, offsets, strict=True))
            low = min(max(int(np.floor(centre - reach)), 0), side - 1)
            high = max(min(int(np.floor(centre + reach)) + 2, side), low + 1)
            spans.append(slice(low, high))
            unit = 2 / (high - low)  # voxels to the patch's own count from -1 to 1
            x, y, z = (
                np.float32(share * unit) * own.astype(np.float32)
                for share, own in zip(row, offsets, strict=True)
            )
            place = (x + np.float32((centre - low + 0.5) * unit - 1))[:, None, None] + y[:, None] + z
            first, last = ((2 * (at - low) + 1) / (high - low) - 1 for at in (-SLACK, side - 1 + SLACK))
            outside |= (place < first) | (place > last)
            grid[..., 2 - axis] = place
        part: Volume = np.array(array[(..., spans[0], spans[1], spans[2])])
        return part, torch.from_numpy(grid), outside


def sampled(part: Volume, grid: torch.Tensor, mode: str) -> torch.Tensor:
    """(..., X, Y, Z) sampled at ``grid``, float32; 0 outside."""
    values = torch.from_numpy(part.astype(np.float32)).reshape(1, -1, *part.shape[-3:])
    found = functional.grid_sample(values, grid[None], mode, "zeros", align_corners=False)
    return found.reshape(*part.shape[:-3], *grid.shape[:3])


def draw_warp(
    shape: Sequence[int],
    patch: Sides,
    mirror: bool,
    rng: Rng,
    crops: Crops = "all",
    around: Sides | None = None,
) -> Warp:
    """A random crop as by ``draw_view``, and how it is turned, scaled and, with ``mirror``, mirrored."""
    start = draw_view(shape, patch, False, rng, crops, around).start
    flat = is_flat(patch)
    turned, scaled = rng.random() < TURNED, rng.random() < SCALED
    angles = np.zeros(3)
    if turned and flat:
        angles[2] = rng.uniform(-ANGLE_FLAT, ANGLE_FLAT)
    elif turned:
        angles = rng.uniform(-ANGLE, ANGLE, 3)
    scale = rng.uniform(*SCALE) if scaled else 1.0
    matrix = affine(angles, (scale, scale, 1.0 if flat else scale)) if turned or scaled else None
    axes = tuple(axis for axis in range(3) if rng.random() < 0.5) if mirror else ()
    return Warp(start, patch, matrix=matrix, mirrored=axes)


def is_flat(patch: Sides) -> bool:
    """Whether slices are so far apart that they are turned and scaled one by one."""
    return max(patch) > ANISOTROPIC * patch[2]


def affine(degrees: Sequence[float] | NDArray[np.float64], scales: Sequence[float]) -> Matrix:
    """The scaling, then the turns about x, y and z, as one matrix on offsets from the centre."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rows = (about_z @ about_y @ about_x @ np.diag(scales)).tolist()
    return tuple((a, b, c) for a, b, c in rows)


def draw_augmented(
    case: str,
    volume: Volume,
    patch: Sides,
    mirror: bool,
    rng: Rng,
    crops: Crops = "all",
    around: Sides | None = None,
) -> Patch:
    """A random patch of ``volume`` (X, Y, Z), z-scored, by nnU-Net's augmentation; the geometry is drawn
    first. Voxels outside the volume are 0 before intensities change, and change with them."""
    view = draw_warp(volume.shape, patch, mirror, rng, crops, around)
    plain = view.take(volume)
    inside = view.take(np.broadcast_to(np.True_, volume.shape))
    return Patch(case, view, change_intensities(plain, rng, is_flat(patch)), plain, inside)


def change_intensities(image: Volume, rng: Rng, flat: bool = False) -> Volume:
    """A patch (X, Y, Z) float32 through all of ``CHANGES``, each at its probability."""
    for probability, change in CHANGES:
        if rng.random() < probability:
            image = change(image, rng, flat).astype(np.float32, copy=False)
    return image


def noise(image: Volume, rng: Rng, flat: bool) -> Volume:
    """Gaussian noise with a standard deviation from 0 to 0.1."""
    noisy: Volume = image + np.float32(rng.uniform(0, 0.1)) * rng.standard_normal(image.shape, np.float32)
    return noisy


def blur(image: Volume, rng: Rng, flat: bool) -> Volume:
    """A Gaussian of 0.5 to 1 voxels along each axis on its own, cut off at about 3 sigma."""
    for axis in range(3):
        sigma = rng.uniform(0.5, 1.0)
        image = ndimage.gaussian_filter1d(image, sigma, axis, mode="mirror", radius=kernel_radius(sigma))
    return image


def kernel_radius(sigma: float) -> int:
    """Of a kernel of 6 sigma + 0.5 voxels, rounded to an odd number as batchgeneratorsv2 does."""
    size = 6 * sigma + 0.5
    whole = round(size)
    odd = whole if whole % 2 else whole + 1 if size >= whole else whole - 1
    return odd // 2


def factor(rng: Rng, low: float, high: float) -> float:
    """From ``low`` to 1 or from 1 to ``high``, each half of the time."""
    return float(rng.uniform(low, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, high))


def brightness(image: Volume, rng: Rng, flat: bool) -> Volume:
    """Times 0.75 to 1.25."""
    brighter: Volume = image * np.float32(factor(rng, 0.75, 1.25))
    return brighter


def contrast(image: Volume, rng: Rng, flat: bool) -> Volume:
    """Differences from the mean times 0.75 to 1.25, within the range that was there."""
    mean = image.mean(dtype=np.float64).astype(np.float32)
    stretched: Volume = (image - mean) * np.float32(factor(rng, 0.75, 1.25)) + mean
    return stretched.clip(image.min(), image.max())


def low_resolution(image: Volume, rng: Rng, flat: bool) -> Volume:
    """Sides of 0.5 to 1 of their length by the nearest voxel, linearly back; all slices stay if ``flat``."""
    share = rng.uniform(0.5, 1.0)
    sides = [round(side * (1.0 if flat and axis == 2 else share)) for axis, side in enumerate(image.shape)]
    small = functional.interpolate(torch.from_numpy(image)[None, None], sides, mode="nearest-exact")
    back = functional.interpolate(small, image.shape, mode="trilinear", align_corners=False)
    found: Volume = back[0, 0].numpy()
    return found


def gamma(image: Volume, rng: Rng, flat: bool) -> Volume:
    """The share of the range to a power of 0.7 to 1.5; mean and standard deviation stay as they were."""
    power = np.float32(factor(rng, 0.7, 1.5))
    low, span = image.min(), np.ptp(image)
    bent = ((image - low) / max(span, 1e-7)) ** power * span + low
    mean, std = image.mean(dtype=np.float64), image.std(dtype=np.float64)
    ratio = std / max(bent.std(dtype=np.float64), 1e-7)
    kept: Volume = (bent - bent.mean(dtype=np.float64)) * ratio + mean
    return kept.astype(np.float32)


def inverted_gamma(image: Volume, rng: Rng, flat: bool) -> Volume:
    """``gamma`` of the negative."""
    negative: Volume = gamma(-image, rng, flat)
    return -negative


#: Probabilities and changes of intensities, in their order.
CHANGES: Sequence[tuple[float, Callable[[Volume, Rng, bool], Volume]]] = (
    (0.1, noise),
    (0.2 * 0.5, blur),
    (0.15, brightness),
    (0.15, contrast),
    (0.25 * 0.5, low_resolution),
    (0.1, inverted_gamma),
    (0.3, gamma),
)
