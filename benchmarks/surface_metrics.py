"""Surface metrics against MedPy on the same masks in the same run: equal to the bit, how many times faster?

    python benchmarks/surface_metrics.py [--repeat 3] [--small]

The truth is an organ-like smooth blob of about a tenth of the volume (a left atrium fills 5 to 18 % of
its crop); the prediction is the same field, perturbed. Timed are all metrics that MedPy has (Dice,
Jaccard, ASD both ways, ASSD, HD95); ours also computes NSD in that time. One thread.
"""

# ruff: noqa: E402 (the environment comes before numpy)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import medpy.metric.binary as medpy
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from sfrbench.components.protocol.standard import StandardProtocol
from sfrbench.maths.metrics import score_case

LabelMap = NDArray[np.uint8]
Spacing = tuple[float, float, float] | None
Measure = Callable[[LabelMap, LabelMap, Spacing], dict[str, float]]
SIZES = ((112, 112, 80), (256, 256, 128))
#: None: voxels, as the paper. 0.625: LA in mm. The last has no exact squares, so distance transforms decide.
SPACINGS: tuple[Spacing, ...] = (None, (0.625, 0.625, 0.625), (0.7, 0.7, 1.3))


def smooth_noise(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """A random field of unit deviation that varies over about a sixth of the volume."""
    coarse = gaussian_filter(rng.standard_normal((24, 24, 24)), 3).astype(np.float32)
    fine = zoom(coarse, [n / 24 for n in shape], order=1)
    return np.asarray(fine / fine.std(), dtype=np.float32)


def organ(shape: tuple[int, int, int], seed: int) -> tuple[LabelMap, LabelMap]:
    """Prediction and truth, uint8 (X, Y, Z) with values 0 and 1."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    radius = sum(axis**2 for axis in axes) ** 0.5
    field = -radius + 0.08 * smooth_noise(shape, rng)
    level = np.quantile(field, 0.9)
    perturbed = field + 0.08 * smooth_noise(shape, rng)
    return (perturbed > level).astype(np.uint8), (field > level).astype(np.uint8)


def by_medpy(pred: LabelMap, gt: LabelMap, spacing: Spacing) -> dict[str, float]:
    """The metrics one call at a time, as evaluation scripts do."""
    return {
        "dice": medpy.dc(pred, gt),
        "jaccard": medpy.jc(pred, gt),
        "asd": medpy.asd(pred, gt, spacing),
        "asd_rev": medpy.asd(gt, pred, spacing),
        "assd": medpy.assd(pred, gt, spacing),
        "hd95": medpy.hd95(pred, gt, spacing),
    }


def by_sfrbench(pred: LabelMap, gt: LabelMap, spacing: Spacing) -> dict[str, float]:
    protocol = StandardProtocol(spacing="voxel" if spacing is None else "mm")
    return {score.metric: score.value for score in score_case(pred, gt, 2, spacing, protocol)}


def timed(measure: Measure, pred: LabelMap, gt: LabelMap, spacing: Spacing) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    values = measure(pred, gt, spacing)
    return time.perf_counter() - start, values


def main() -> int:
    parser = argparse.ArgumentParser(description="surface metrics: MedPy's time over ours")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each row")
    parser.add_argument("--small", action="store_true", help="only the small volume")
    options = parser.parse_args()
    by_sfrbench(*organ((32, 32, 32), 0), None)  # imports are not timed
    equal = True
    print(f"{'size':12} {'spacing':18} {'medpy s':>9} {'ours s':>8}  {'medpy/ours':18} share  dice   equal")
    for size in SIZES[:1] if options.small else SIZES:
        pred, gt = organ(size, seed=0)
        for spacing in SPACINGS:
            rows = []
            for _ in range(options.repeat):  # taken in turns, so that a busy machine slows both
                slow, theirs = timed(by_medpy, pred, gt, spacing)
                fast, ours = timed(by_sfrbench, pred, gt, spacing)
                rows.append((slow, fast, slow / fast))
            same = all(ours[name] == theirs[name] for name in theirs)
            equal &= same
            slow, fast, ratio = (median(column) for column in zip(*rows, strict=True))
            span = f"{min(row[2] for row in rows):.0f}..{max(row[2] for row in rows):.0f}"
            unit = "voxel" if spacing is None else "x".join(map(str, spacing))
            shape = "x".join(map(str, size))
            print(
                f"{shape:12} {unit:18} {slow:9.3f} {fast:8.4f}  {f'{ratio:.1f} ({span})':18} "
                f"{gt.mean():5.2f}  {ours['dice']:.3f}  {'yes' if same else 'NO'}",
                flush=True,
            )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
