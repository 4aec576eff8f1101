"""What a step of re-training takes of the processor before the networks, against how it is written plainly.

    python benchmarks/batch.py [--la DIR] [--patch 112 112 80] [--repeat 5] [--json]

Patches of the paper's size, two labelled and two unlabelled ones, of volumes as in the left-atrium set: those
in ``DIR`` (mri_norm2.h5) with their own labels, else made-up ones; and the same images with 14 made-up
classes. In milliseconds of one core, the median of turns taken one after the other:

hardening  of stored pseudo-labels: crops of probabilities of every class, K maps in float32 and their argmax;
           ours crops labels that were made of the same probabilities once.
batch      everything that a step is given: cut, turned, with its labels and pseudo-labels.
distances  DTC's signed maps of two labelled patches: scipy's distance transform of both sides of each class.
parts      BCP's largest components of two patches: scipy's label of every class in int64 volumes.

Status 1: some results differ by a bit.
"""

# ruff: noqa: E402 (the environment comes before numpy)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from sfrbench.components.ssl._sdf import signed_distances
from sfrbench.components.ssl.bcp import largest_parts
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext
from sfrbench.engine.hard_labels import hardened
from sfrbench.engine.volumes import Volumes
from sfrbench.maths.sampling import Patch
from sfrbench.stages.retrain.data import Data, Labeller, as_target, labeller
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.settings import SplitSettings

Sides = tuple[int, int, int]
Case = tuple[NDArray[np.float32], NDArray[np.uint8]]  # image and truth, (X, Y, Z)
#: Sides of the left-atrium volumes, margins cut, about their mean.
MARGINS = (72, 29, 8)
CASES = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--la", type=Path, help="folder of the left-atrium set")
    parser.add_argument("--patch", type=int, nargs=3, default=(112, 112, 80))
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each row")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    patch = (options.patch[0], options.patch[1], options.patch[2])
    found = {}
    if not options.json:
        print(f"{'':10} {'K':>3} {'plain ms':>9} {'ours ms':>8} {'ratio':>6}  equal")
    for name, classes, plain, ours, same in rows(patch, options.repeat, options.la):
        entry = {"plain_ms": plain, "ours_ms": ours, "ratio": plain / ours, "equal": same}
        found[f"{name} {classes}"] = entry
        if not options.json:
            told = f"{plain:9.1f} {ours:8.1f} {plain / ours:6.1f}  {'yes' if same else 'NO'}"
            print(f"{name:10} {classes:3} {told}", flush=True)
    if options.json:
        print(json.dumps(found, indent=1))
    return 0 if all(entry["equal"] for entry in found.values()) else 1


def rows(patch: Sides, repeat: int, la: Path | None) -> Iterator[tuple[str, int, float, float, bool]]:
    """Name, K, milliseconds of the plain way and of ours, and whether both give the same bits."""
    for classes in (2, 14):
        with tempfile.TemporaryDirectory() as folder:
            data, plain = prepared(Path(folder), classes, patch, volumes(patch, classes, la))
            yield "hardening", classes, *compared(repeat, hardening(plain, data), hardening(data, data))
            yield "batch", classes, *compared(repeat, *(pseudo_of(one) for one in (plain, data)))
            labels = data.batch(data.drawn(0)).labels
        seen, guess = labels.byte().numpy(), noisy(labels)
        maps = [partial(way, seen, classes) for way in (by_scipy, by_planes)]
        yield "distances", classes, *compared(min(repeat, 3), *maps)
        yield "parts", classes, *compared(repeat, partial(parts_by_scipy, guess), partial(parts, guess))


def compared(repeat: int, *ways: Callable[[int], Any]) -> tuple[float, float, bool]:
    """Medians of two ways that are given the numbers of turns, and whether all their results are equal."""
    spent: tuple[list[float], list[float]] = ([], [])
    same = True
    for turn in range(repeat + 1):
        results = []
        for way, times in zip(ways, spent, strict=True):
            began = time.process_time()
            results.append(way(turn))
            times.append(1e3 * (time.process_time() - began))
        same &= np.asarray(results[0]).tobytes() == np.asarray(results[1]).tobytes()
    return median(spent[0][1:]), median(spent[1][1:]), same  # the first turn reads files


def volumes(patch: Sides, classes: int, la: Path | None) -> Iterator[Case]:
    """Images with their labels, or with made-up ones: the regions where one of K smooth fields is highest,
    background the larger part."""
    rng = np.random.default_rng(classes)
    for image, label in pairs(la) if la else made_up(patch, rng):
        if classes > 2 or not la:
            fields = np.stack(
                [ndimage.gaussian_filter(rng.normal(size=image.shape), 6) for _ in range(classes)]
            )
            fields[0] += (1.2 if classes > 2 else 0.7) * fields.std()
            label = fields.argmax(0).astype(np.uint8)
        yield image, label


def made_up(patch: Sides, rng: np.random.Generator) -> Iterator[Case]:
    sides = [side + margin for side, margin in zip(patch, MARGINS, strict=True)]
    for _ in count():
        image = rng.normal(size=sides).astype(np.float32)
        yield image, np.zeros(image.shape, np.uint8)


def pairs(folder: Path) -> Iterator[Case]:
    import h5py

    for path in sorted(folder.rglob("mri_norm2.h5")):
        with h5py.File(path) as file:
            yield np.asarray(file["image"], np.float32), np.asarray(file["label"], np.uint8)


def prepared(folder: Path, classes: int, patch: Sides, cases: Iterator[Case]) -> tuple[Data, Data]:
    """Batches of volumes that are stored as ``prepare`` and ``pseudolabel`` do: ours, and the plain ones."""
    kinds = ("clean/images", "clean/labels", "labels/labels", "probs/probs")
    images, labels, hard, soft = (folder / kind for kind in kinds)
    for place in (images, labels, hard, soft):
        place.mkdir(parents=True)
    entries = {}
    for number, (image, label) in enumerate(islice(cases, CASES)):
        name = f"case{number}"
        truth = label == np.arange(1, classes).reshape(-1, 1, 1, 1)
        probs = np.stack([ndimage.gaussian_filter(one.astype(np.float32), 1) for one in truth])
        probs = probs.clip(0, 1).astype(np.float16)
        for place, values in ((images, image), (labels, label), (soft, probs)):
            np.save(place / f"{name}.npy", values)
        np.save(hard / f"{name}.npy", hardened(torch.from_numpy(probs[None]))[0].numpy())
        grid = {"spacing": [1, 1, 1], "affine": None, "range": [-1, 1], "source": {}}
        entries[name] = {"shape": image.shape, **grid}
    listed = {"classes": [str(label) for label in range(classes)], "train": [*entries], "test": []}
    index = {"dataset": "made up", **listed, "cases": entries}
    (folder / "clean" / "index.json").write_text(json.dumps(index), encoding="utf-8")
    method = MeanTeacher()
    told = RetrainSettings(split=SplitSettings(labeled=2), patch=patch, rot_flip=True, pseudo="offline")
    inputs = {
        "prepare": artefact_of("prepare", folder / "clean"),
        "pseudolabel": artefact_of("pseudolabel", folder / "labels"),
    }
    ctx = StageContext({"ssl": method}, told, inputs, 1, folder, folder)
    read = Volumes(inputs["prepare"])
    split = told.split.of(read)
    known = read.labels(split.labelled, "benchmark")
    ours = Data(ctx, method, read, split, known, labeller(ctx, read))
    return ours, replace(ours, label=plain_labeller(folder / "probs" / "probs"))


def plain_labeller(folder: Path) -> Labeller:
    """Hard labels of crops of stored probabilities, all at once."""
    opened: dict[str, NDArray[np.float16]] = {}

    def read(patches: list[Patch], _: object) -> torch.Tensor:
        for patch in patches:
            if patch.case not in opened:
                opened[patch.case] = np.load(folder / f"{patch.case}.npy", mmap_mode="r")
        crops = np.stack([patch.view.take(opened[patch.case]) for patch in patches])
        return torch.from_numpy(crops)

    def label(given: torch.Tensor) -> torch.Tensor:
        foreground = given.float()
        background = (1 - foreground.sum(1, keepdim=True)).clamp(min=0)
        return torch.cat([background, foreground], 1).argmax(1)

    return Labeller(read, label)


def hardening(data: Data, drawn: Data) -> Callable[[int], torch.Tensor]:
    """Pseudo-labels of patches that are drawn before."""
    cases = list(drawn.split.unlabelled)
    patches = [drawn._patches(cases[:2], seed, 0) for seed in range(20)]
    return lambda turn: as_target(data.label.label(data.label.read(patches[turn % 20], range(2))), False)  # type: ignore[misc]


def pseudo_of(data: Data) -> Callable[[int], torch.Tensor]:
    """Pseudo-labels of a step, of which everything is made."""
    return lambda turn: data.batch(data.drawn(turn)).pseudo  # type: ignore[return-value]


def by_planes(labels: NDArray[np.uint8], classes: int, _: int) -> NDArray[np.float32]:
    return signed_distances(labels, classes, 0.0)


def by_scipy(labels: NDArray[np.uint8], classes: int, _: int) -> NDArray[np.float32]:
    """Signed distance maps by their formula; 0 where a patch lacks the class."""
    maps = np.zeros((len(labels), classes - 1, *labels.shape[1:]), np.float32)
    for volume, into in zip(labels, maps, strict=True):
        for label in range(1, classes):
            inside = volume == label
            if inside.any():
                within, without = (ndimage.distance_transform_edt(part) for part in (inside, ~inside))
                into[label - 1] = without / without.max() - within / within.max()
                into[label - 1][within == 1] = 0
    return maps


def noisy(labels: torch.Tensor) -> torch.Tensor:
    """Labels with specks beside them, as a network gives."""
    rng = np.random.default_rng(0)
    noise = np.stack([ndimage.gaussian_filter(rng.normal(size=labels.shape[1:]), 2) for _ in labels])
    return torch.where(torch.from_numpy(noise > 3.2 * noise.std()), 1, labels)


def parts(labels: torch.Tensor, _: int) -> torch.Tensor:
    return largest_parts(labels)


def parts_by_scipy(labels: torch.Tensor, _: int) -> torch.Tensor:
    found = labels.numpy()
    kept = np.zeros_like(found)
    for volume, into in zip(found, kept, strict=True):
        for label in np.unique(volume[volume > 0]):
            numbers, _ = ndimage.label(volume == label, np.ones((3, 3, 3)))
            into[numbers == 1 + np.bincount(numbers.ravel())[1:].argmax()] = label
    return torch.from_numpy(kept)


if __name__ == "__main__":
    sys.exit(main())
