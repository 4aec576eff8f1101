"""Whole-volume prediction: sliding windows, and trained models as the functions that they call."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from sfrbench.components.base import Backbone, Finetune, Foundation, Stitch
from sfrbench.engine.at_once import AtOnce
from sfrbench.engine.disk_arrays import Arrays
from sfrbench.engine.manner import PLAIN, Forward, Manner, gaussian_weights
from sfrbench.errors import InputError, NotReadyError
from sfrbench.files.atomic import read_state, write_atomic
from sfrbench.maths.windows import window_starts
from sfrbench.store.store import Artefact

if TYPE_CHECKING:
    from sfrbench.components.base import Settings
    from sfrbench.components.foundation.segmenter import SamSegmenter
    from sfrbench.engine.context import StageContext

Size = tuple[int, int, int]


def on_device(volume: np.ndarray, device: str) -> torch.Tensor:
    """A memory-mapped volume as a tensor."""
    return torch.from_numpy(np.array(volume)).to(device)


def windows(shape: Size, patch: Size, stride: Size | None, spread: bool = False) -> list[Size]:
    """First voxels of all windows, in the order x, y, z (the last changes fastest).

    With a stride, the placement of UA-MT's ``test_single_case`` and its descendants, SFR among them, or
    ``spread`` as by ``window_starts``; without one, as few as cover the volume. A side shorter than the patch
    counts as long as the patch: ``slide`` pads it.
    """
    sides = zip(shape, patch, stride or (None, None, None), strict=True)
    axes = [window_starts(max(side, window), window, step, spread) for side, window, step in sides]
    return cast(list[Size], list(product(*axes)))


def slide(
    volume: torch.Tensor,
    patch: Size,
    stride: Size | None,
    forward: Forward,
    classes: int,
    batch: int | AtOnce = 1,
    manner: Manner = PLAIN,
) -> torch.Tensor:
    """Mean of what ``forward`` gives of all windows over each voxel, such as class probabilities; ``manner``
    says where windows lie and how they are weighted.

    ``volume`` (X, Y, Z) float32, on the device where ``forward`` works; returns (K, X, Y, Z) float32 on
    that device. Sides shorter than the patch are padded with 0 on both ends, and cut back afterwards.
    """
    short = [max(p - s, 0) for s, p in zip(volume.shape, patch, strict=True)]
    before = [pad // 2 for pad in short]
    x, y, z = ((first, pad - first) for first, pad in zip(before, short, strict=True))
    padded = nn.functional.pad(volume, (*z, *y, *x))
    starts = windows(cast(Size, tuple(padded.shape)), patch, stride, manner.spread)
    weights = gaussian_weights(patch).to(volume.device) if manner.gaussian else None
    total = torch.zeros((classes, *padded.shape), dtype=torch.float32, device=volume.device)
    hits = torch.zeros(padded.shape, dtype=torch.float32, device=volume.device)
    places = [tuple(slice(at, at + side) for at, side in zip(start, patch, strict=True)) for start in starts]
    at_once = AtOnce(batch) if isinstance(batch, int) else batch
    results = at_once.run(forward, [padded[place] for place in places])
    for place, result in zip(places, results, strict=True):
        total[(slice(None), *place)] += result if weights is None else weights * result
        hits[place] += 1 if weights is None else weights
    total /= hits
    inner = (slice(at, at + side) for at, side in zip(before, volume.shape, strict=True))
    return total[(slice(None), *inner)]


def backbone_forward(network: nn.Module, logits: bool = False) -> Forward:
    """A 3D segmenter, (B, 1, X, Y, Z) to logits (B, K, X, Y, Z), as a ``Forward`` to probabilities or to
    these."""

    def forward(patches: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found = cast(torch.Tensor, network(patches[:, None])).float()
            return found if logits else found.softmax(1)

    return forward


def sam_forward(model: SamSegmenter, stitch: Stitch, max_canvases: int | AtOnce = 1) -> Forward:
    """A fine-tuned SAM as a ``Forward``: patches, already normalised, to canvases and back.

    At most ``max_canvases`` canvases go through the model at once; patches share a batch where several
    fit it. A volumetric model gets one patch at a time, all its canvases together. Padding on the canvas
    holds 0, as in training.
    """

    def probabilities(canvases: torch.Tensor, limit: int) -> torch.Tensor:
        return torch.cat([model.segment(part).float().softmax(1) for part in torch.split(canvases, limit)])

    def grouped(patches: torch.Tensor) -> Iterator[torch.Tensor]:
        shape = cast(Size, tuple(patches.shape[1:]))
        waiting: list[torch.Tensor] = []
        most = max_canvases if isinstance(max_canvases, int) else max_canvases.now
        for i, patch in enumerate(patches, start=1):
            waiting.append(stitch.to_canvases(patch[None], model.canvas, 0.0))
            each = waiting[0].shape[0]
            limit = each if model.volumetric else most
            if (len(waiting) + 1) * each > limit or i == len(patches):
                maps = probabilities(torch.cat(waiting), limit)
                yield from (stitch.from_canvases(part, shape) for part in torch.split(maps, each))
                waiting = []

    def forward(patches: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.stack(list(grouped(patches)))

    return forward


def pretrained_path(foundation: Foundation, weights: Callable[[str], Path] | None) -> Path | None:
    """The weight file that a foundation starts from; None for one that brings its own numbers."""
    if foundation.weights is None:
        return None
    if weights is None:
        name = foundation.weights.partition("@")[0]
        raise NotReadyError(
            f"the pretrained weights '{name}' are needed and no place for them is known",
            hint=f"sfrbench weights get {name}",
        )
    return weights(foundation.weights)


def fine_tuned_forward(
    ctx: StageContext[Settings], role: str, classes: int, max_canvases: int | AtOnce
) -> Forward:
    """The fine-tuned SAM of a stage's input ``role``, on the canvases of the stage's stitch."""
    model = load_segmenter(
        ctx.component("foundation", Foundation),
        ctx.component("finetune", Finetune),
        ctx.inputs[role],
        classes=classes,
        weights=ctx.weights,
        device=ctx.device,
    )
    return sam_forward(model, ctx.component("stitch", Stitch), max_canvases)


def load_segmenter(
    foundation: Foundation,
    finetune: Finetune,
    artefact: Artefact,
    *,
    classes: int,
    weights: Callable[[str], Path] | None,
    device: str,
) -> SamSegmenter:
    """The fine-tuned SAM of a finetune artefact: pretrained, adapted, merged, frozen, in evaluation mode.

    ``weights`` gives the path of a pretrained weight file by name. Raises ``NotReadyError`` where the
    foundation needs weights and there is no such function, ``StoreError`` where the artefact is damaged,
    ``InputError`` where its parameters are not those of this model.
    """
    from safetensors.torch import load_file

    from sfrbench.components.foundation.segmenter import load_trained

    pretrained = pretrained_path(foundation, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the head starts at random and is then overwritten; leave no trace of that
        model = foundation.build(classes, pretrained)
        finetune.attach(model)
    load_trained(model, load_file(artefact.path("adapter.safetensors")))
    finetune.merge(model)
    return model.requires_grad_(False).to(device).eval()


def load_backbone(
    backbone: Backbone, artefact: Artefact, checkpoint: str, *, classes: int, device: str
) -> nn.Module:
    """The 3D segmenter of a retrain artefact, in evaluation mode; ``checkpoint`` is 'last' or 'best_val'.

    Raises ``InputError`` where the best checkpoint is asked for and training had no validation cases.
    """
    from safetensors.torch import load_file

    name = {"last": "model.safetensors", "best_val": "best.safetensors"}[checkpoint]
    if checkpoint == "best_val" and name not in artefact.record["files"]:
        raise InputError(
            "protocol.checkpoint is 'best_val', but re-training had no validation cases to choose by",
            where=str(artefact.folder),
            hint="set dataset.val to 1 or more, or protocol.checkpoint to last",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = backbone.build(classes)
    network.load_state_dict(load_file(artefact.path(name)))
    return network.to(device).eval()


def case_by_case(
    ctx: StageContext[Settings], cases: Sequence[str], work: Callable[[str], Mapping[str, Kept]]
) -> dict[str, float]:
    """Write what ``work(case)`` gives to ``out/<name>/<case>`` for every case; returns the seconds.

    An array becomes an ``.npy`` file, ``Arrays`` a compressed ``.npz`` with their names, and any other
    mapping a ``.json`` file. Finished cases lie in ``ctx.scratch``, so that a killed run goes on with the
    next one: a case counts as finished once the ledger names it, and its files are complete before that.
    Folders there whose names begin with a dot are the caller's own.
    """
    ledger = ctx.scratch / "finished.json"
    seconds = read_state(ledger, dict[str, float]) or {}
    for done, case in enumerate(cases):
        ctx.progress(done, len(cases))
        if case not in seconds:
            began = time.perf_counter()
            for name, values in work(case).items():
                _save(ctx.scratch / name, case, values)
            seconds[case] = round(time.perf_counter() - began, 3)
            write_atomic(ledger, json.dumps(seconds))
    for folder in sorted(path for path in ctx.scratch.iterdir() if path.is_dir() and path.name[0] != "."):
        for case in cases:
            files = [folder / f"{case}{ending}" for ending in _ENDINGS]
            kept = next((file for file in files if file.is_file()), files[0])  # none is a fault
            _link(kept, ctx.out / folder.name / kept.name)
    ctx.progress(len(cases), len(cases))
    return {case: seconds[case] for case in cases}


Kept = np.ndarray | Arrays | dict[str, Any]
_ENDINGS = (".npy", ".npz", ".json")


def _save(folder: Path, case: str, values: Kept) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ending = ".npy" if isinstance(values, np.ndarray) else ".npz" if isinstance(values, Arrays) else ".json"
    with (folder / f"{case}{ending}").open("wb") as stream:
        if isinstance(values, np.ndarray):
            np.save(stream, np.ascontiguousarray(values))
        elif isinstance(values, Arrays):
            np.savez_compressed(stream, allow_pickle=False, **values)
        else:
            stream.write(json.dumps(values).encode())
        stream.flush()
        os.fsync(stream.fileno())


def _link(source: Path, target: Path) -> None:
    """A second name for a file; a copy where the file system knows no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
