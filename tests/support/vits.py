"""Small vision transformers."""

from __future__ import annotations

import torch
from torch import nn

from sfrbench.components.foundation import _build
from sfrbench.components.foundation._tinyvit import TinyVit
from sfrbench.components.foundation.segmenter import (
    SamSegmenter,
    prompt_and_decoder,
)


def tiny(classes: int = 3) -> SamSegmenter:
    torch.manual_seed(0)
    encoder = TinyVit()
    for name, value in encoder.named_parameters():
        if name.endswith("attention_biases"):
            nn.init.normal_(value)
    parts = prompt_and_decoder(classes=classes, canvas=64, stride=4)
    return SamSegmenter(encoder, *parts, canvas=64, classes=classes, precision="fp32").eval()


def vit_b(classes: int = 2) -> SamSegmenter:
    torch.manual_seed(0)
    model = _build.vit("b", canvas=128, classes=classes, precision="fp32").eval()
    for name, value in model.image_encoder.named_parameters():
        if "pos" in name:
            nn.init.normal_(value, std=0.1)
    return model
