"""config.json of an export: what a program needs to use the network, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sfrbench.components.base import Backbone
from sfrbench.components.dataset._nifti import letters
from sfrbench.deploy.cell import Finished
from sfrbench.files.atomic import sha256_of
from sfrbench.files.formats import FORMATS
from sfrbench.stages.predict.recipe import MANNER
from sfrbench.version import __version__


def describe(
    cell: Finished, network: nn.Module, training_only: int, folder: Path, differences: Mapping[str, float]
) -> dict[str, Any]:
    """Everything in JSON types. ``folder`` holds the two files of weights."""
    own, record = cell.cell, cell.artefact("model").record
    backbone = own.components["backbone"].component
    assert isinstance(backbone, Backbone)
    lean = backbone.deployed()
    spec = cell.experiment.plan.spec
    protocol = own.components["protocol"]
    return {
        "format": FORMATS["config.json"],
        "sfrbench": __version__,
        "network": {
            "class": lean.identity(),
            "fields": lean.model_dump(mode="json"),
        },
        "classes": list(cell.volumes.classes),
        "parameters": sum(part.numel() for part in network.parameters()),
        "parameters_for_training_only": training_only,
        "input": _input(cell),
        "output": {"name": "logits", "shape": ["batch", len(cell.volumes.classes), "X", "Y", "Z"]},
        "experiment": {"name": spec.name, "title": spec.title, "profile": cell.experiment.profile},
        "cell": {
            "id": own.id,
            "arm": own.arm,
            "label": own.label,
            "axes": {path: _plain(value) for path, value in own.axes.items()},
            "seed": own.seed,
        },
        "components": {
            kind: {"card": resolved.card.name, **resolved.component.key_settings()}
            for kind, resolved in own.components.items()
        },
        "protocol": protocol.card.name,
        "checkpoint": cell.settings.checkpoint,
        "trained": {
            "commit": (record.get("git") or {}).get("commit"),
            "dirty": (record.get("git") or {}).get("dirty"),
            "started": record.get("started"),
            "device": record.get("device"),
            "torch": record.get("environment", {}).get("packages", {}).get("torch"),
        },
        "onnx_against_torch": {"largest_difference": dict(differences)},
        "sha256": {name: sha256_of(folder / name) for name in ("model.safetensors", "model.onnx")},
    }


def _input(cell: Finished) -> dict[str, Any]:
    """The patch that the network takes, and the grid and intensities of the volume around it."""
    infos = [cell.volumes.case(case) for case in cell.volumes.train]
    known = np.array([info.spacing for info in infos])
    affine = infos[0].affine
    return {
        "name": "image",
        "shape": ["batch", 1, "X", "Y", "Z"],
        "dtype": "float32",
        "patch": list(cell.settings.patch),
        "stride": list(cell.settings.window_stride),
        "windows": {name: getattr(cell.settings, name) for name in MANNER},
        "orientation": None if affine is None else letters(affine),
        "spacing_mm": {
            "least": known.min(axis=0).round(4).tolist(),
            "median": np.median(known, axis=0).round(4).tolist(),
            "largest": known.max(axis=0).round(4).tolist(),
        },
        "normalisation": cell.dataset.normalisation(cell.like),
        "caveat": cell.dataset.caveat(cell.like),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
