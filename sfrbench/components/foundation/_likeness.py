"""What tensors are of: how they differ from those that a model wants, in words, and what they look like.

Facts on the published models: their own code, built and compared by names and shapes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

#: Of SAM-HQ's 25 tensors more, which stand in its decoder and nowhere in SAM's.
HQ = tuple(
    f"mask_decoder.{name}."
    for name in ("hf_token", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature")
)
#: Lines of a message.
_MOST = 8
_Shapes = Mapping[str, tuple[int, ...]]


def misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Every tensor that is missing, unexpected, of another shape or kind, or not finite, in words; those
    whose names differ in a number alone are one line."""
    both = [(name, given[name], value) for name, value in wanted.items() if name in given]
    there, sizes = {_part(name) for name in given}, Counter(map(_part, wanted))
    absent = [part for part, size in sizes.items() if size > 1 and part not in there]
    faults = [("missing ", f"all of {part}", "") for part in absent]
    faults += [("missing ", name, "") for name in wanted if name not in given and _part(name) not in absent]
    faults += [("unexpected ", name, "") for name in given if name not in wanted]
    faults += [
        ("", name, f" is {tuple(have.shape)}, not {tuple(want.shape)}")
        for name, have, want in both
        if have.shape != want.shape
    ]
    for name, have, want in both:
        if have.is_floating_point() != want.is_floating_point():
            kinds = (str(one.dtype).removeprefix("torch.") for one in (have, want))
            faults.append(("", name, f" holds {' and not '.join(kinds)}"))
        elif not have.is_meta and have.is_floating_point() and not bool(torch.isfinite(have).all()):
            faults.append(("", name, " holds numbers that are not finite"))
    return _gathered(faults)


def _part(name: str) -> str:
    """The part of a model that a tensor is of."""
    return name.partition(".")[0]


def _gathered(faults: Iterable[tuple[str, str, str]]) -> list[str]:
    """Each fault, those alike in one line: ``missing 12 of image_encoder.blocks.*.norm1.weight``."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for before, name, after in faults:
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
        groups.setdefault((before, pattern, after), []).append(name)
    return [
        f"{before}{names[0] if len(names) == 1 else f'{len(names)} of {pattern}'}{after}"
        for (before, pattern, after), names in groups.items()
    ]


def told(faults: list[str]) -> str:
    """The first of many faults, and how many more there are."""
    more = f"; and {len(faults) - _MOST} more" if len(faults) > _MOST else ""
    return "; ".join(faults[:_MOST]) + more


def looks_like(state: Mapping[str, Tensor]) -> str:
    """Which published model has tensors like these, and what that means here; empty: none that is known."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    return next((text for found, text in _known(shapes) if found), "")


def _known(shapes: _Shapes) -> Iterable[tuple[bool, str]]:
    patch = shapes.get("image_encoder.patch_embed.proj.weight", ())
    positions = shapes.get("image_encoder.pos_embed", ())
    yield (
        any(".Adapter." in name for name in shapes),
        "SAM-Med2D, or another SAM with adapters in its encoder: they belong to the numbers around them, so "
        "that SAM's encoder without them is neither model",
    )
    yield len(patch) == 5, "SAM-Med3D: cards sam_med3d and sam_med3d_2024"
    yield (
        any(name.startswith(HQ[0]) for name in shapes),
        "SAM-HQ: its encoder is SAM's, and its own head is not there in this code",
    )
    yield (
        any(name.startswith("image_encoder.layers.") for name in shapes),
        "MobileSAM or LiteMedSAM, whose encoder is a TinyViT: card lite_medsam is the latter",
    )
    yield len(positions) == 3, "EfficientSAM: an encoder without relative positions, and another decoder"
    yield any(name.startswith("image_encoder.trunk.") for name in shapes), "SAM 2, whose encoder is a Hiera"
    yield (
        any(name.startswith("vision_encoder.") for name in shapes),
        "SAM in transformers' layout: bring the file in segment-anything's layout",
    )
    yield (
        "patch_embed.proj.weight" in shapes,
        "the encoder of a vision transformer alone, without SAM's prompt encoder and mask decoder",
    )
    size = {768: "B", 1024: "L", 1280: "H"}.get(patch[0] if len(patch) == 4 else 0)
    yield size is not None and ".rel_pos_h" in " ".join(shapes), f"SAM ViT-{size}"


def without_hq(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SAM-HQ's tensors less those that SAM has not; any other's as they are."""
    return {name: value for name, value in state.items() if not name.startswith(HQ)}
