"""Segment-anything's modelling classes, imported without running the package's ``__init__``.

That ``__init__`` imports torchvision, which the modelling classes do not need and which, beside a CPU
torch, is often absent or broken. Source of the classes: facebookresearch/segment-anything 1.0.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

_PACKAGE = "segment_anything"


def _load() -> tuple[ModuleType, ModuleType]:
    """The modules ``segment_anything.modeling`` and ``segment_anything.build_sam``."""
    already = _PACKAGE in sys.modules
    if not already:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None:
            raise ModuleNotFoundError(f"No module named '{_PACKAGE}'", name=_PACKAGE)
        # An unexecuted package is enough for the import system to find its submodules.
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        modeling = importlib.import_module(f"{_PACKAGE}.modeling")
        build_sam = importlib.import_module(f"{_PACKAGE}.build_sam")
    finally:
        if not already:  # a later real import by the user must still run the package
            del sys.modules[_PACKAGE]
    return modeling, build_sam


_modeling, _build_sam = _load()

ImageEncoderViT: Any = _modeling.ImageEncoderViT
MaskDecoder: Any = _modeling.MaskDecoder
PromptEncoder: Any = _modeling.PromptEncoder
Sam: Any = _modeling.Sam
TwoWayTransformer: Any = _modeling.TwoWayTransformer
LayerNorm2d: Any = sys.modules[f"{_PACKAGE}.modeling.common"].LayerNorm2d
MLP: Any = sys.modules[f"{_PACKAGE}.modeling.mask_decoder"].MLP
MLPBlock: Any = sys.modules[f"{_PACKAGE}.modeling.common"].MLPBlock
PatchEmbed: Any = sys.modules[f"{_PACKAGE}.modeling.image_encoder"].PatchEmbed
build_sam_vit_b: Any = _build_sam.build_sam_vit_b
