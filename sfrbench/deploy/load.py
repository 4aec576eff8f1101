"""An exported network, back in torch."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sfrbench.components.base import Backbone
from sfrbench.errors import InputError

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
    module, _, name = config["network"]["class"].partition(":")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        hint = "the module of your own backbone must be on PYTHONPATH"
        raise InputError(f"the network's class is not here: {error}", where=str(path), hint=hint) from error
    if not (isinstance(cls, type) and issubclass(cls, Backbone)):
        raise InputError(f"{module}:{name} is no backbone", where=str(path))
    with torch.random.fork_rng(devices=[]):
        network = cls(**config["network"]["fields"]).build(len(config["classes"]))
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()
