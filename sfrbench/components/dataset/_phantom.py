"""The phantom's anatomy and acquisition, in numpy.

Coordinates run over [-1, 1] along each axis. A structure is an implicit function, below 0 inside; its
values are roughly distances in these coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Vector = NDArray[np.float64]  # a point, or a rotation matrix


@dataclass(frozen=True)
class Cohort:
    """What cases are made of; the fields are those of ``phantom.Phantom`` and mean the same."""

    shape: tuple[int, int, int]
    organs: int
    seed: int
    contrast: tuple[float, float]
    variation: float
    distractors: int
    bias: float
    noise: float


def make(spec: Cohort, index: int) -> tuple[Array, NDArray[np.uint8]]:
    """Image float32 (magnitude, tissue about 1) and label uint8 of case ``index``."""
    rng = np.random.Generator(np.random.PCG64([spec.seed, index]))
    grid = [np.linspace(-1, 1, size, dtype=np.float32) for size in spec.shape]
    edge = 2.0 / min(spec.shape)  # about one voxel: the width of the partial-volume edge
    body = _ellipsoid(grid, rng.uniform(-0.06, 0.06, 3), rng.uniform(0.88, 1.05, 3), np.eye(3))
    body = body + _field(rng, grid, 3) * 0.08
    image = 1.0 + 0.16 * _field(rng, grid, 4) + _regions(rng, grid)
    label = np.zeros(spec.shape, dtype=np.uint8)
    contrast = float(rng.uniform(*spec.contrast))
    organs = [_organ(rng, grid, number, spec) for number in range(spec.organs)]
    taken = np.minimum.reduce(organs)
    for _ in range(spec.distractors):
        shape = _distractor(rng, grid)
        shape = np.maximum(shape, 0.07 - taken)  # keeps a gap, so that the truth stays unambiguous
        level = 1 + contrast * rng.uniform(0.75, 1.25)
        image = _paint(image, shape, level, edge)
    for number, organ in enumerate(organs):
        wall = np.abs(organ) - 0.035  # a thin dark wall, which distractors do not have
        level = 1 + contrast * (1 - 0.35 * number / max(spec.organs, 2))
        texture = level * (1 + 0.06 * _field(rng, grid, 7))
        image = _paint(image, organ, texture, edge)
        image = _paint(image, np.maximum(wall, 0.0 - organ), 1 - 0.35 * contrast, edge)
        label[(organ < 0) & (label == 0)] = number + 1
    image = image * _inside(body, edge)
    label[body > 0] = 0
    return _acquire(rng, image, grid, spec), label


def _acquire(rng: np.random.Generator, image: Array, grid: list[Array], spec: Cohort) -> Array:
    """Bias field, then the magnitude of a complex signal with Gaussian noise (Rician), then a gain."""
    bias = np.exp(spec.bias * _field(rng, grid, 2))
    sigma = spec.noise * float(rng.uniform(0.7, 1.3))
    real = image * bias + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    gain = float(rng.uniform(60, 240))
    return np.asarray(gain * np.hypot(real, imaginary), dtype=np.float32)


def _organ(rng: np.random.Generator, grid: list[Array], number: int, spec: Cohort) -> Array:
    """A lumpy ellipsoid with tubes that leave it; where and how depends on the class and the case."""
    vary = spec.variation
    angle = 2 * np.pi * number / spec.organs + 0.6
    ring = 0.0 if spec.organs == 1 else 0.45
    centre = np.array([ring * np.cos(angle), ring * np.sin(angle), 0.0])
    centre = centre + vary * rng.uniform(-1, 1, 3) * (0.24 if spec.organs == 1 else 0.1)
    size = (0.46 if spec.organs == 1 else 1.3 / (spec.organs + 1)) * 1.25 ** (vary * rng.uniform(-1, 1))
    radii = size * np.array([1.0, 0.75, 0.85]) * 1.3 ** (vary * rng.uniform(-1, 1, 3))
    pose = _rotation(rng.uniform(-1, 1, 3) * vary * np.array([0.35, 0.35, 0.8]))
    lumps = float(0.14 * size * vary) * _field(rng, grid, 6, low=3)
    organ: Array = _ellipsoid(grid, centre, radii, pose) + lumps
    for _ in range(rng.integers(1, 5)):  # appendages
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        start = centre + pose @ (0.7 * radii * direction)
        middle = start + size * rng.uniform(0.4, 0.8) * direction
        bend = direction + 0.7 * rng.standard_normal(3)
        end = middle + size * rng.uniform(0.3, 0.8) * bend / np.linalg.norm(bend)
        thick = size * rng.uniform(0.16, 0.34)
        organ = _union(organ, _tube(grid, start, middle, thick), 0.06)
        organ = _union(organ, _tube(grid, middle, end, 0.8 * thick), 0.06)
    return organ


def _distractor(rng: np.random.Generator, grid: list[Array]) -> Array:
    """A vessel or a blob anywhere in the body."""
    centre = rng.uniform(-0.8, 0.8, 3)
    if rng.random() < 0.5:
        direction = rng.standard_normal(3)
        reach = rng.uniform(0.3, 1.0) * direction / np.linalg.norm(direction)
        return _tube(grid, centre - reach, centre + reach, rng.uniform(0.05, 0.12))
    radii = rng.uniform(0.12, 0.42, 3)
    blob = _ellipsoid(grid, centre, radii, _rotation(rng.uniform(-1, 1, 3)))
    return blob + np.float32(0.06) * _field(rng, grid, 6, low=3)


def _regions(rng: np.random.Generator, grid: list[Array]) -> Array:
    """Two further tissues around the organ, one darker and one brighter."""
    field = _field(rng, grid, 4)
    return np.asarray(-0.35 * _inside(field + 0.9, 0.2) + 0.22 * _inside(0.9 - field, 0.2), dtype=np.float32)


def _field(rng: np.random.Generator, grid: list[Array], waves: int, low: int = 1) -> Array:
    """A smooth random field of standard deviation 1: cosines with ``low`` to about ``waves`` half-waves."""
    order = np.arange(waves)
    power = order[:, None, None] ** 2 + order[None, :, None] ** 2 + order[None, None, :] ** 2
    weight = np.where(power < low**2, 0.0, rng.standard_normal(power.shape) / (1.0 + power))
    basis = [np.cos(np.pi * order[:, None] * (axis[None, :] + 1) / 2).astype(np.float32) for axis in grid]
    field = np.einsum("abc,cz->abz", weight.astype(np.float32), basis[2])
    field = np.einsum("abz,by->ayz", field, basis[1])
    field = np.einsum("ayz,ax->xyz", field, basis[0])
    return np.asarray(field / max(float(field.std()), 1e-6), dtype=np.float32)


def _ellipsoid(grid: list[Array], centre: Vector, radii: Vector, pose: Vector) -> Array:
    x, y, z = (axis - c for axis, c in zip(grid, centre.astype(np.float32), strict=True))
    turned = (pose.T / radii[:, None]).astype(np.float32)  # rows: the ellipsoid's own axes, in radii
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    squares = sum((row[0] * x + row[1] * y + row[2] * z) ** 2 for row in turned)
    return np.asarray((np.sqrt(squares) - 1) * float(radii.mean()), dtype=np.float32)


def _tube(grid: list[Array], start: Vector, end: Vector, radius: float) -> Array:
    """Distance to a segment, less the radius."""
    x, y, z = (axis - s for axis, s in zip(grid, start.astype(np.float32), strict=True))
    way = (end - start).astype(np.float32)
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    along = np.clip((x * way[0] + y * way[1] + z * way[2]) / float(way @ way), 0, 1)
    squares = (x - along * way[0]) ** 2 + (y - along * way[1]) ** 2 + (z - along * way[2]) ** 2
    return np.asarray(np.sqrt(squares) - np.float32(radius), dtype=np.float32)


def _union(a: Array, b: Array, blend: float) -> Array:
    """Smooth minimum (polynomial), so that appendages grow out of the organ without a crease."""
    share = np.clip(0.5 + 0.5 * (b - a) / blend, 0, 1)
    return np.asarray(b + (a - b) * share - blend * share * (1 - share), dtype=np.float32)


def _rotation(angles: Vector) -> Vector:
    """Rotations about x, y and z, in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def _inside(shape: Array, edge: float) -> Array:
    """1 inside, 0 outside, with a soft edge."""
    return np.asarray(np.clip(0.5 - shape / edge, 0, 1), dtype=np.float32)


def _paint(image: Array, shape: Array, level: Array | float, edge: float) -> Array:
    cover = _inside(shape, edge)
    return np.asarray(image * (1 - cover) + level * cover, dtype=np.float32)
