"""How right the gradients of each backbone are in bf16, at the smallest patches that it accepts.

``python benchmarks/bf16_gradients.py`` prints three shares of a norm, the largest of a few draws each:

``kernel``: each convolution's result and gradients against the same ones made in float32 from what it was
given. What is right is off by 0.005; this is where a wrong kernel shows.
``network``: the gradient of all parameters against that of the same network in bf16 whose convolutions are
made in float32 and rounded.
``fp32``: the gradient against that of the network in fp32. Batch and instance norm make this large for the
best of kernels, since a network that begins at random passes rounding on enlarged.

NaN were written to memory and freed before each pass. ``--isa AVX2`` (AVX512_CORE, ...) sets
DNNL_MAX_CPU_ISA, which is read once; ``--threads 1 2``
those of torch, one after the other; ``--json`` prints one object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.catalog.fields import field_exists
from sfrbench.components.base import Backbone, Component
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.machine.needs import lacks_package
from sfrbench.machine.selfcheck_ops import leave_nan
from sfrbench.maths.losses import segmentation_loss

#: One side of 32 at each place, two, and three: the cubes of MagicNet. 48: where every kernel is right.
PATCHES = [(32, 16, 16), (16, 32, 16), (16, 16, 32), (32, 32, 16), (32, 32, 32), (48, 48, 48)]


def share(got: torch.Tensor, right: torch.Tensor) -> float:
    """The norm of the difference as a share of the norm; infinite where it is no number."""
    off = float((got.float() - right.float()).norm() / right.float().norm())
    return off if math.isfinite(off) else math.inf


class Convolutions(TorchDispatchMode):
    """Makes each bf16 convolution in float32, too: notes how far it is off, or ``replace``: takes it."""

    def __init__(self, replace: bool) -> None:
        super().__init__()
        self.replace, self.worst = replace, 0.0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        ours = call.overloadpacket in (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)
        if not ours or args[0].dtype != torch.bfloat16:
            return call(*args, **(kwargs or {}))
        exact = call(*(x.float() if isinstance(x, torch.Tensor) else x for x in args), **(kwargs or {}))
        rounded = [None if x is None else x.bfloat16() for x in listed(exact)]
        if self.replace:
            return rounded[0] if isinstance(exact, torch.Tensor) else tuple(rounded)
        leave_nan("cpu")
        got = call(*args, **(kwargs or {}))
        for one, other in zip(listed(got), rounded, strict=True):
            if one is not None and other is not None and other.any():
                self.worst = max(self.worst, share(one, other))
        return got


def listed(found: Any) -> list[Any]:
    """What an operation gives, as a list."""
    return [found] if isinstance(found, torch.Tensor) else list(found)


def narrow(card: Card) -> Component:
    """A backbone of few channels."""
    wanted = {"filters": 4, "init_filters": 8, "feature_size": 12, "hidden_size": 64}
    return card.component(
        {name: value for name, value in wanted.items() if field_exists(card.component_class, name)}
    )


def phantom(patch: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two patches (2, 1, X, Y, Z) of a ball in a ball, brighter inwards, and labels (2, X, Y, Z)."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in patch), indexing="ij")
    centres = torch.rand(2, 3, 1, 1, 1) * 0.6 - 0.3
    radius = (torch.stack(axes) - centres).square().sum(1).sqrt()
    labels = (radius < 0.8).long() + (radius < 0.4).long()
    return (labels - 1 + 0.3 * torch.randn(labels.shape)).unsqueeze(1), labels


def gradient(backbone: Backbone, precision: str, patch: tuple[int, ...], seed: int) -> torch.Tensor:
    """That of all parameters of a new network, after one patch, in one row."""
    torch.manual_seed(seed)
    network = backbone.model_copy(update={"precision": precision}).build(3)
    images, labels = phantom(patch)
    leave_nan("cpu")
    logits = network(images)
    leave_nan("cpu")
    segmentation_loss(logits, labels, 0.5).backward()
    return torch.cat([part.grad.flatten() for part in network.parameters() if part.grad is not None])


def shares(backbone: Backbone, patch: tuple[int, ...], seed: int, networks: bool) -> dict[str, float]:
    """The shares by name, of one draw."""
    with Convolutions(replace=False) as watched:
        got = gradient(backbone, "bf16", patch, seed)
    if not networks:
        return {"kernel": watched.worst}
    with Convolutions(replace=True):
        rounded = gradient(backbone, "bf16", patch, seed)
    right = gradient(backbone, "fp32", patch, seed)
    return {"kernel": watched.worst, "network": share(got, rounded), "fp32": share(got, right)}


def measure(
    cards: list[str] | None, draws: int, patches: list[tuple[int, int, int]], networks: bool = True
) -> dict[str, dict[str, float]]:
    """``card XxYxZ`` to the largest shares by name, for patches that it takes; no ``cards``: of all."""
    found = {}
    for card in Catalog.read().cards("backbone"):
        if cards is not None and card.name not in cards:
            continue
        for patch in patches:
            data = {"dataset": Phantom(patch=patch)}
            backbone = narrow(card).settled(data)
            assert isinstance(backbone, Backbone)
            if backbone.conflicts(data) or lacks_package(backbone):
                continue
            drawn = [shares(backbone, patch, seed, networks) for seed in range(draws)]
            worst = {name: max(each[name] for each in drawn) for name in drawn[0]}
            found[f"{card.name} {'x'.join(map(str, patch))}"] = worst
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="How right gradients in bf16 are, for each backbone.")
    parser.add_argument("--isa", help="DNNL_MAX_CPU_ISA")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--card", action="append", help="instead of all")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="kernels alone, one draw, three patches")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.isa and os.environ.get("DNNL_MAX_CPU_ISA") != chosen.isa:  # read once: begin anew with it
        os.environ["DNNL_MAX_CPU_ISA"] = chosen.isa
        os.execv(sys.executable, [sys.executable, *sys.argv])
    found = {}
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        how = (1, PATCHES[0:5:2], False) if chosen.quick else (chosen.draws, PATCHES, True)
        each = measure(chosen.card, *how)
        found |= {f"{name}, threads {threads}": worst for name, worst in each.items()}
    if chosen.json:
        print(json.dumps(found))
        return
    for name, worst in found.items():
        print(f"{name:32s}" + "".join(f"  {which} {value:.4f}" for which, value in worst.items()))


if __name__ == "__main__":
    main()
