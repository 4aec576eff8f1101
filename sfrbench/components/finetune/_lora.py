"""LoRA on the query and value rows of fused ``qkv`` layers, through peft's public interface.

peft cannot address rows of a layer, so a fused layer becomes three, and one again after merging.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from sfrbench.errors import InputError

# Importing peft leaves frames in a reference cycle, with all that the frames below them hold: the model that
# is to be adapted among it, which would stay on the device when its node has ended.
gc.collect()

#: Names of the layers that get adapters, inside the image encoder.
TARGETS = r".*\.attn\.qkv\.(q|v)"


class SplitQkv(nn.Module):
    """A fused qkv layer as three: the same outputs in the same order.

    ``groups`` says how the rows of the fused layer are ordered: as ``groups`` runs, each holding q, k and
    v of equal length. Segment-anything has one run, TinyViT one for each head.
    """

    q: Any
    k: Any
    v: Any

    def __init__(self, fused: nn.Linear, groups: int) -> None:
        super().__init__()
        self.groups = groups
        rows = fused.weight.detach().reshape(groups, 3, -1, fused.in_features)
        bias = None if fused.bias is None else fused.bias.detach().reshape(groups, 3, -1)
        for index, name in enumerate("qkv"):
            # "meta": numbers that are replaced at once need neither memory nor a draw from the RNG
            part = nn.Linear(fused.in_features, fused.out_features // 3, bias is not None, device="meta")
            part.weight = nn.Parameter(rows[:, index].flatten(0, 1).clone(), fused.weight.requires_grad)
            if bias is not None:
                part.bias = nn.Parameter(bias[:, index].flatten().clone(), fused.weight.requires_grad)
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., 3 * dim), ordered like the fused layer's output."""
        parts = [part.reshape(*part.shape[:-1], self.groups, -1) for part in self.parts(x)]
        return torch.stack(parts, dim=-2).flatten(-3)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of (..., in), each (..., dim)."""
        return self.q(x), self.k(x), self.v(x)

    def fuse(self) -> nn.Linear:
        """The fused layer again. All three parts must be plain linear layers, so merge adapters before."""
        parts = [self.q, self.k, self.v]
        if not all(type(part) is nn.Linear for part in parts):
            raise InputError("adapters must be merged before q, k and v are fused")
        width = self.q.in_features
        weights = [part.weight.detach().reshape(self.groups, -1, width) for part in parts]
        weight = torch.stack(weights, dim=1).flatten(0, 2)
        fused = nn.Linear(width, weight.shape[0], self.q.bias is not None, device="meta")
        fused.weight = nn.Parameter(weight, self.q.weight.requires_grad)
        if self.q.bias is not None:
            biases = [part.bias.detach().reshape(self.groups, -1) for part in parts]
            fused.bias = nn.Parameter(torch.stack(biases, dim=1).flatten(), self.q.weight.requires_grad)
        return fused


def split(encoder: nn.Module) -> int:
    """Replace every fused ``attn.qkv`` by three layers; returns how many. Results do not change."""
    count = 0
    for name, module in list(encoder.named_modules()):
        fused = getattr(module, "qkv", None)
        if name.rsplit(".", 1)[-1] == "attn" and isinstance(fused, nn.Linear):
            module.qkv = SplitQkv(fused, getattr(module, "qkv_groups", 1))
            count += 1
    return count


def attach(encoder: nn.Module, rank: int) -> None:
    """Insert adapters of ``rank`` into q and v of every block; only they are left trainable.

    A is Kaiming-uniform (a = sqrt 5, from torch's global RNG), B zero, scale alpha / rank = 1, no dropout.
    Raises ``InputError`` where the encoder has no fused attention, or has adapters already.
    """
    if split(encoder) == 0:
        raise InputError("the image encoder has no fused qkv layer to adapt (are adapters in it already?)")
    config = LoraConfig(
        r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=TARGETS, init_lora_weights=True
    )
    inject_adapter_in_model(config, encoder)
    for module in encoder.modules():
        if isinstance(module, LoraLayer):
            # Under autocast peft would copy every input to float32 for nothing.
            module.cast_input_dtype_enabled = False


def merge(encoder: nn.Module) -> None:
    """Fold the adapters into q and v and fuse the layers: the encoder's own key names are back."""
    for module in list(encoder.modules()):
        if not isinstance(module, SplitQkv):
            continue
        for name in "qkv":
            part = getattr(module, name)
            if isinstance(part, LoraLayer):
                part.merge(safe_merge=True)
                setattr(module, name, part.get_base_layer())
    for module in list(encoder.modules()):
        split_qkv = getattr(module, "qkv", None)
        if isinstance(split_qkv, SplitQkv):
            module.qkv = split_qkv.fuse()
