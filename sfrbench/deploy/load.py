"""An exported network, back in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sfrbench.catalog.code import class_known_as
from sfrbench.components.base import Backbone
from sfrbench.errors import InputError, first_line
from sfrbench.files.atomic import read_state, sha256_of
from sfrbench.files.formats import unreadable

if TYPE_CHECKING:
    from torch import nn

#: How the folder begins in which an export makes its files before it delivers them.
WORKSHOP = ".export-"
_AGAIN = "copy the folder again, or write it with 'sfrbench export --overwrite'"


def load_model(folder: str | Path) -> nn.Module:
    """The network of a folder that ``sfrbench export`` wrote: (B, 1, X, Y, Z) float32 to logits
    (B, K, X, Y, Z), on the CPU, in evaluation mode.

    Raises ``InputError`` where the folder is none of those, is not whole, or its network's class is not to be
    found.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / "config.json"
    weights = path.with_name("model.safetensors")
    if not path.is_file():
        if weights.exists() or any(path.parent.glob(f"{WORKSHOP}*")):
            what = "this model is not whole, it lacks config.json: an export has not ended, or a copy"
            raise InputError(what, where=str(folder), hint=_AGAIN)
        raise InputError("no config.json here", where=str(folder), hint="name a folder of 'sfrbench export'")
    config = read_state(path, dict[str, Any])
    if config is None:
        raise InputError("this is not JSON as 'sfrbench export' writes it", where=str(path), hint=_AGAIN)
    fault = unreadable(config.get("format", 1), path.name, str(path))
    if fault is not None:
        raise InputError.of([fault])
    try:
        cls = cast("type[Backbone]", class_known_as(config["network"]["class"], Backbone.kind))
        with torch.random.fork_rng(devices=[]):
            network = cls(**config["network"]["fields"]).build(len(config["classes"]))
        network.load_state_dict(load_file(weights))
        made = config.get("sha256", {}).get(weights.name)
        if made is not None and made != sha256_of(weights):
            raise RuntimeError(f"its sha256 is not that in {path.name}")
    except InputError as error:
        raise InputError.of([replace(problem, where=str(path)) for problem in error.problems]) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"this names no network that can be built: {first_line(error)}"
        raise InputError(what, where=str(path), hint=_AGAIN) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        what = f"not the weights of this network: {first_line(error)}"
        raise InputError(what, where=str(weights), hint=_AGAIN) from error
    return network.eval()
