"""Weight files as people have them: tensors by name, perhaps wrapped, in torch's or in safetensors' form."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfrbench.errors import NotReadyError

#: Under which training scripts keep the tensors of the model, beside those of the optimiser.
_INSIDE = ("model", "state_dict", "model_state_dict")
#: What wrappers put before every name: DataParallel, Lightning, and scripts with a SAM of that name.
_BEFORE = ("module.", "model.", "sam.")
_TEXT = "a page, or a pointer of Git LFS, in the place of the file? download the file itself"


def read(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file, memory-mapped where that can be, and how they were wrapped, in words.

    Nothing in the file is run. Raises ``NotReadyError`` for a file that holds no such thing.
    """
    state, wrapped = _loaded(path), []
    for _ in range(2):  # a state dict in a model in a checkpoint
        inside = [
            name for name in _INSIDE if isinstance(state, Mapping) and isinstance(state.get(name), Mapping)
        ]
        if _plain(state) or not inside:
            break
        state = state[inside[0]]
        wrapped.append(f"under '{inside[0]}'")
    if not _plain(state):
        places = ", ".join(map(repr, _INSIDE))
        what = f"holds no dictionary of tensors, not under {places} either"
        raise NotReadyError(
            f"{what}{_contents(state)}", where=str(path), hint="save the state_dict of the model alone"
        )
    tensors = dict(state)
    if odd := next((name for name, value in tensors.items() if not _dense(value)), ""):
        raise NotReadyError(
            f"'{odd}' holds no numbers one by one (sparse, quantised, or of no device)",
            where=str(path),
            hint="save the state_dict of the model as it was trained, of plain tensors",
        )
    while prefix := next((one for one in _BEFORE if all(name.startswith(one) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        wrapped.append(f"names that begin with '{prefix}'")
    return tensors, wrapped


def _plain(state: Any) -> bool:
    """Whether it is a dictionary of tensors."""
    return (
        isinstance(state, Mapping)
        and bool(state)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
    )


def _dense(value: Tensor) -> bool:
    """Whether every number of a tensor is there."""
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized)


def _contents(state: Any) -> str:
    """What there is in the place of tensors."""
    if not isinstance(state, Mapping):
        return f", but {type(state).__name__}"
    names = [f"'{name}' ({type(value).__name__})" for name, value in list(state.items())[:4]]
    return f", but {', '.join(names)}" if names else ", but nothing"


def _loaded(path: Path) -> Any:
    hint = "is it whole? copy or download it again"
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with path.open("rb") as stream:
            begins = stream.read(24)
        zipped = begins.startswith(b"PK")  # files of torch before 1.6 are pickles, and no archives
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles of another protocol than torch's own
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except OSError as error:
        raise NotReadyError(
            f"cannot be read: {error.strerror or error}", where=str(path), hint=hint
        ) from error
    except pickle.UnpicklingError as error:
        if begins.isascii() and (text := begins.decode()).replace("\n", "").isprintable():
            what = f"is text, and no weights: it begins with '{text.strip().partition(chr(10))[0]}'"
            raise NotReadyError(what, where=str(path), hint=_TEXT) from error
        what = "is no file of tensors alone: what else it holds could run code, and is not loaded"
        trusted = "if you trust it, load it yourself and save the state_dict of its model alone"
        raise NotReadyError(f"{what}{_global(error)}", where=str(path), hint=trusted) from error
    except Exception as error:  # torch and safetensors raise errors of zip, of Rust and their own
        said = str(error).strip().partition(". ")[0].partition("\n")[0]
        reason = f": {said[:120]}" if " " in said else ""
        raise NotReadyError(f"is no whole weight file{reason}", where=str(path), hint=hint) from error


def _global(error: pickle.UnpicklingError) -> str:
    """The name of what torch would not load, where it says it."""
    _, _, rest = str(error).partition("Unsupported global: GLOBAL ")
    return f" ({rest.split(' ')[0][:80]})" if rest else ""
