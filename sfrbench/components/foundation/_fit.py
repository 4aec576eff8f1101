"""Which network in segment-anything's layout a dictionary of tensors is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sfrbench.components.foundation import _any_file, _likeness
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.sam import Sam
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.segmenter import HEAD
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import NotReadyError
from sfrbench.places.added import Facts
from sfrbench.places.weight_files import LAYOUTS

#: The width of the encoder's patches tells the networks apart.
_BY_WIDTH: Mapping[int, Sam] = {
    768: SamVit(size="b"),
    1024: SamVit(size="l"),
    1280: SamVit(size="h"),
    32: SamToy(),
}
_HEAD = tuple(f"mask_decoder.{name}." for name in HEAD)


def look(path: Path) -> Facts:
    """What is in a weight file. Raises ``NotReadyError`` where no network here takes it, with what it looks
    like and the tensors at fault."""
    state, wrapped = _any_file.read(path)
    kept = _likeness.without_hq(state)
    network = _network(kept)
    if network is None:
        raise _misfit(path, f"fits none of {', '.join(LAYOUTS.values())}", state)
    with torch.device("meta"):
        wanted = network.untrained(4).state_dict()
    body, given = ({n: v for n, v in one.items() if not n.startswith(_HEAD)} for one in (wanted, kept))
    if faults := _likeness.misfits(_as_tables(given, body), body):
        raise _misfit(path, f"does not fit {LAYOUTS[network.layout]}: {_likeness.told(faults)}", state)
    if blank := _blank(given):
        raise _misfit(path, f"holds nothing that was trained: all weights of {blank} are one number", state)
    remarks = [f"wrapped: {each}" for each in wrapped]
    head, own = ({n: v for n, v in one.items() if n.startswith(_HEAD)} for one in (wanted, kept))
    own_head = len(kept) == len(state) and not _likeness.misfits(own, head)
    if len(kept) < len(state):
        more = len(state) - len(kept)
        remarks.append(f"SAM-HQ: its encoder is SAM's; {more} tensors of its own head are not read")
    if not own_head:
        remarks.append("for stitching alone: its head is not SAM's of four masks, so it takes no prompts")
    values = sum(value.numel() for value in state.values())
    return Facts(fits=network.layout, tensors=len(state), values=values, own_head=own_head, remarks=remarks)


def _misfit(path: Path, what: str, state: Mapping[str, Tensor]) -> NotReadyError:
    """Why a file is not taken, and what it looks like."""
    like = _likeness.looks_like(state)
    hint = "bring the whole trained model, in segment-anything's layout, with finite numbers alone"
    return NotReadyError(f"{what}{f'; it looks like {like}' if like else ''}", where=str(path), hint=hint)


def _blank(given: Mapping[str, Tensor]) -> str:
    """A part of a model of which every weight holds one number throughout, as in a file of zeros; empty:
    none."""
    parts: dict[str, list[Tensor]] = {}
    for name, value in given.items():
        if name.endswith(".weight") and value.ndim > 1:  # norms and biases may well be ones and zeros
            parts.setdefault(name.partition(".")[0], []).append(value)
    return next((part for part, all_ in parts.items() if all(one.min() == one.max() for one in all_)), "")


def _network(state: Mapping[str, Tensor]) -> Sam | None:
    if any(name.startswith("image_encoder.layers.") for name in state):
        return LiteMedSam()
    patch = state.get("image_encoder.patch_embed.proj.weight")
    return None if patch is None or patch.ndim != 4 else _BY_WIDTH.get(patch.shape[0])


def _as_tables(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Position tables of another canvas count as those that are wanted: they are stretched when loaded."""
    return {
        name: wanted[name]
        if name in wanted and stretches(name, value, wanted[name]) and bool(torch.isfinite(value).all())
        else value
        for name, value in given.items()
    }


def stretches(name: str, have: Tensor, want: Tensor) -> bool:
    """Whether a table of positions differs from the wanted one in its length alone."""
    if not name.endswith(("image_encoder.pos_embed", ".rel_pos_h", ".rel_pos_w")):
        return False
    return have.is_floating_point() and have.ndim == want.ndim and have.shape[-1] == want.shape[-1]
