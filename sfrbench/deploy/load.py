"""An exported network, back in torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sfrbench.catalog.code import class_known_as
from sfrbench.components.base import Backbone
from sfrbench.errors import InputError
from sfrbench.files.formats import HINT, later

if TYPE_CHECKING:
    from torch import nn


def load_model(folder: str | Path) -> nn.Module:
    """The network of a folder that ``sfrbench export`` wrote: (B, 1, X, Y, Z) float32 to logits
    (B, K, X, Y, Z), on the CPU, in evaluation mode.

    Raises ``InputError`` where the folder is none of those, or its network's class is not to be found.
    """
    import torch
    from safetensors.torch import load_file

    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError("no config.json here", where=str(folder), hint="name a folder of 'sfrbench export'")
    config = json.loads(path.read_text(encoding="utf-8"))
    fault = later(config.get("format", 1), path.name)
    if fault:
        raise InputError(fault, where=str(path), hint=HINT)
    try:
        cls = cast("type[Backbone]", class_known_as(config["network"]["class"], Backbone.kind))
    except InputError as error:
        raise InputError.of([replace(problem, where=str(path)) for problem in error.problems]) from error
    with torch.random.fork_rng(devices=[]):
        network = cls(**config["network"]["fields"]).build(len(config["classes"]))
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()
