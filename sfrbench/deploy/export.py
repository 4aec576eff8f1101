"""export: the network that predicts as safetensors and ONNX, checked for equal output, with a model card."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sfrbench.components.base import Backbone
from sfrbench.deploy.card import CARD_SIGN, model_card
from sfrbench.deploy.cell import Finished
from sfrbench.deploy.facts import describe
from sfrbench.deploy.load import WORKSHOP
from sfrbench.deploy.norms import stepwise
from sfrbench.engine.inference import load_backbone, windows
from sfrbench.engine.training import save_weights
from sfrbench.errors import InputError, NotReadyError, StoreError, short_of
from sfrbench.files.atomic import fsync
from sfrbench.store.locks import taken

TOLERANCE = 1e-4  # of logits in float32
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CONFIG = "config.json"
FILES = ("model.safetensors", "model.onnx", CONFIG)
CARD, HUB_CARD = "MODEL_CARD.md", "README.md"
LOCK = f"{WORKSHOP}lock"


@dataclass(frozen=True)
class Exported:
    """What was written. ``differences`` are the largest of |ONNX - torch| over the logits of each patch."""

    folder: Path
    files: tuple[str, ...]
    parameters: int
    training_only: int  # parameters of the trained model that prediction does not use
    differences: Mapping[str, float]


def check_place(out: Path, overwrite: bool, *, hub: bool = False) -> None:
    """Refuse a folder that holds files already, unless told otherwise; and always a README.md by others,
    which the card for a ``hub`` would replace."""
    if out.exists() and not out.is_dir():
        raise InputError("this is a file", where=str(out), hint="name a folder")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise InputError("the folder is not empty", where=str(out), hint="--overwrite replaces its files")
    if hub and (out / HUB_CARD).exists() and not _is_card(out / HUB_CARD):
        what = "this is no card of an earlier export, and would be replaced"
        raise InputError(what, where=str(out / HUB_CARD), hint="move it away, or name another folder")


def _is_card(path: Path) -> bool:
    """Whether a file is the card of an export."""
    return path.is_file() and CARD_SIGN in path.read_text(encoding="utf-8", errors="replace")


def check_packages() -> None:
    """Raises ``NotReadyError`` where a package of the extra 'export' is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise NotReadyError(f"export needs {', '.join(missing)}", hint="pip install 'sfrbench[export]'")


def export(cell: Finished, out: Path, *, hub: bool = False) -> Exported:
    """Write the three ``FILES`` and a card into ``out``. For a ``hub`` the card is README.md, with the
    metadata that the Hugging Face hub reads. Where this ends early, ``out`` is as it was; or it has no
    config.json, by which a model is known as whole.

    Raises ``InputError`` for a cell that predicts by SAM, ``StoreError`` where ONNX and torch differ by more
    than ``TOLERANCE``.
    """
    if cell.settings.by_sam:
        raise InputError(
            f"{cell.cell.title} predicts by the fine-tuned SAM, not by a 3D segmenter",
            hint="export an arm that re-trains; 'sfrbench predict' labels images by this one",
        )
    network, training_only = deployed(cell)
    x, y, z = cell.settings.patch
    card, other = (HUB_CARD, CARD) if hub else (CARD, HUB_CARD)
    with _workshop(out) as folder:
        save_weights(folder / "model.safetensors", network.state_dict())
        write_onnx(network, (x, y, z), folder / "model.onnx")
        differences = compare(network, folder / "model.onnx", patches(cell))
        facts = describe(cell, network, training_only, folder, differences)
        (folder / CONFIG).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (folder / card).write_text(model_card(cell, facts, hub=hub), "utf-8")
        _deliver(folder, out, card, other)
    return Exported(out, (*FILES, card), facts["parameters"], training_only, differences)


@contextlib.contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A new folder within ``out``, so on the same disk, to make files in; ``out`` goes again where it is new
    and nothing came into it."""
    new = not out.exists()
    try:
        with _alone(out) as folder:
            yield folder
    except Exception as error:
        short = short_of(error)  # of safetensors or ONNX, which name no place
        if short is None or isinstance(error, OSError):
            raise
        raise StoreError.of([replace(short, where=str(out))]) from error
    finally:
        if new:
            with contextlib.suppress(OSError):  # it has files
                out.rmdir()


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[Path]:
    """The new folder within ``out``, while no other export is at work there."""
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            if not stack.enter_context(taken(out / LOCK)):
                hint = "wait for it, or name another folder"
                raise InputError("another export writes here right now", where=str(out), hint=hint)
            stack.callback(_tidy, out)
            folder = Path(tempfile.mkdtemp(prefix=WORKSHOP, dir=out))
        except OSError as error:
            error.filename = str(out)
            raise
        yield folder


def _tidy(out: Path) -> None:
    """Take away what this export, and those that were killed, worked in."""
    for left in out.glob(f"{WORKSHOP}*"):
        shutil.rmtree(left, ignore_errors=True)
    (out / LOCK).unlink(missing_ok=True)


def _deliver(folder: Path, out: Path, card: str, other: str) -> None:
    """Move finished files to where they are looked for, config.json last: wherever this is killed, nobody
    takes old and new files for one model. Of two cards the ``other`` goes, if it is of an earlier export."""
    names = (*(name for name in FILES if name != CONFIG), card, CONFIG)
    for name in names:
        (folder / name).chmod(0o644)  # safetensors keeps its files to the user
        fsync(folder / name)
    (out / CONFIG).unlink(missing_ok=True)
    fsync(out)
    if _is_card(out / other):
        (out / other).unlink()
    for name in names:
        os.replace(folder / name, out / name)
    fsync(out)


def deployed(cell: Finished) -> tuple[nn.Module, int]:
    """The network of ``Backbone.deployed`` with the trained weights, float32, on the CPU; and how many
    parameters of the trained model it does without."""
    backbone = cast(Backbone, cell.cell.components["backbone"].component)
    classes, checkpoint = len(cell.volumes.classes), cell.settings.checkpoint or "last"
    whole = load_backbone(backbone, cell.artefact("model"), checkpoint, classes=classes, device="cpu")
    with torch.random.fork_rng(devices=[]):
        network = backbone.deployed().build(classes)
    state = whole.state_dict()
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network.eval().requires_grad_(False), count(whole) - count(network)


def count(network: nn.Module) -> int:
    """Parameters of a network."""
    return sum(part.numel() for part in network.parameters())


def write_onnx(network: nn.Module, patch: tuple[int, int, int], path: Path) -> None:
    """The network for any number of patches of one size: ``image`` (batch, 1, X, Y, Z) to ``logits``."""
    with _quiet():
        torch.onnx.export(
            stepwise(network),
            (torch.zeros(2, 1, *patch),),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks about operators of packages that are not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def patches(cell: Finished) -> dict[str, NDArray[np.float32]]:
    """Two patches (X, Y, Z): one random, one from the middle of a prepared volume."""
    x, y, z = patch = tuple(cell.settings.patch)
    volume = cell.volumes.image((*cell.split.test, *cell.split.labelled)[0])
    starts = windows(cast("tuple[int, int, int]", volume.shape), (x, y, z), cell.settings.window_stride)
    corner = starts[len(starts) // 2]
    part = volume[tuple(slice(at, at + side) for at, side in zip(corner, patch, strict=True))]
    real = np.zeros(patch, dtype=np.float32)
    real[tuple(slice(0, side) for side in part.shape)] = part
    random = np.random.default_rng(0).standard_normal(patch, dtype=np.float32)
    return {"random": random, "real": real}


def compare(network: nn.Module, path: Path, given: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
    """The largest |ONNX - torch| of the logits of each patch, alone and in one batch with the others."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    whole = np.stack(list(given.values()))[:, None]
    together = session.run(["logits"], {"image": whole})[0]
    with torch.inference_mode():
        expected = network(torch.from_numpy(whole)).numpy()
    worst_of: dict[str, float] = {}
    for index, name in enumerate(given):
        alone = session.run(["logits"], {"image": whole[index : index + 1]})[0][0]
        made = np.stack([alone, together[index]])
        worst_of[name] = float(np.abs(made - expected[index]).max())
    worst = max(worst_of.values())
    if not worst <= TOLERANCE:
        raise StoreError(
            f"ONNX and torch differ by {worst:.1e} in the logits, more than {TOLERANCE:.0e}",
            hint="nothing is written; try another version of torch or of onnxruntime",
        )
    return worst_of
