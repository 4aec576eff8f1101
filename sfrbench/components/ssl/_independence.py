"""Independence of networks: how well the kernels of one follow linearly from the others' (CauSSL)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.nn import functional

from sfrbench.components._autocast import guard
from sfrbench.components.backbone.interface import ALONE, in_parts

#: One row per output channel: [network][layer] -> a convolution's weight.
Kernels = list[list[torch.Tensor]]


def shared_kernels(networks: Sequence[nn.Module]) -> Kernels:
    """The weights of those convolutions that all ``networks`` have by the same name and in the same shape."""
    named = [{name: part for name, part in net.named_parameters() if part.ndim == 5} for net in networks]
    first, *others = named
    names = [
        name for name in first if all(name in one and one[name].shape == first[name].shape for one in others)
    ]
    return [[parts[name] for name in names] for parts in named]


def upsampling_decoder(network: nn.Module, mode: str) -> nn.Module:
    """A decoder, in place: no encoder, and 1x1x1 convolutions with upsampling for transposed ones.

    ``mode``: trilinear (corners aligned, as in the source) or nearest.
    """
    in_parts(network, ALONE).strip_encoder()
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ConvTranspose3d):
            parent, _, own = name.rpartition(".")
            conv = nn.Conv3d(module.in_channels, module.out_channels, 1)
            aligned = True if mode == "trilinear" else None
            up = nn.Upsample(scale_factor=module.stride, mode=mode, align_corners=aligned)
            setattr(network.get_submodule(parent), own, nn.Sequential(conv, up))
    guard(network)
    return network


class Independence(nn.Module):
    """Matrices that rebuild the kernels of each of P networks from those of the others, and Adam's state.

    A layer with d rows has matrices (P, d, (P - 1) d); all layers lie in one vector. The module has buffers
    only, so that a checkpoint holds the whole game and no other optimiser touches it.
    """

    mixing: torch.Tensor
    mean: torch.Tensor
    square: torch.Tensor
    count: torch.Tensor

    def __init__(self, kernels: Kernels, spread: float = 1e-3) -> None:
        super().__init__()
        players = len(kernels)
        rows = [len(kernel) for kernel in kernels[0]]
        self.shapes = [(players, row, (players - 1) * row) for row in rows]
        size = sum(prod(shape) for shape in self.shapes)
        self.register_buffer("mixing", torch.randn(size) * spread)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.zeros(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def matrices(self, vector: torch.Tensor) -> list[torch.Tensor]:
        parts = torch.split(vector, [prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def forward(self, kernels: Kernels, into: str = "own") -> torch.Tensor:
        """The sum over networks of the mean over layers and rows of cos^2(kernel, its reconstruction).

        Gradients go into the kernels that are rebuilt, never into those that they are rebuilt from. ``into``:
        of every network ("own"), or of the first alone ("first"), whose gradient is the same in both.
        """
        values = []
        for layer, mixing in zip(zip(*kernels, strict=True), self.matrices(self.mixing), strict=True):
            rows = [kernel.flatten(1) for kernel in layer]
            fixed = [row.detach() for row in rows]
            for player, row in enumerate(rows):
                own = row if into == "own" or player == 0 else fixed[player]
                rebuilt = mixing[player] @ torch.cat(fixed[:player] + fixed[player + 1 :])
                cosine = (functional.normalize(rebuilt, dim=1) * functional.normalize(own, dim=1)).sum(1)
                values.append(cosine.square().mean())
        return torch.stack(values).sum() / len(self.shapes)

    def ascend(self, kernels: Kernels, steps: int, lr: float) -> None:
        """``steps`` of Adam on the matrices, towards a larger sum of cos^2; the kernels stay as they are.

        They enter through products with each other alone, which are made once: |A W|^2 = A (W W^T) A^T.
        """
        with torch.no_grad():
            products = [
                _products([kernel.flatten(1) for kernel in layer]) for layer in zip(*kernels, strict=True)
            ]
        for _ in range(steps):
            with torch.enable_grad():
                vector = self.mixing.clone().requires_grad_()
                values = []
                for mixing, (gram, cross, sizes) in zip(self.matrices(vector), products, strict=True):
                    lengths = ((mixing @ gram) * mixing).sum(-1) * sizes
                    values.append(
                        ((mixing * cross).sum(-1).square() / lengths.clamp(min=1e-24)).mean(1).sum()
                    )
                (gradient,) = torch.autograd.grad(torch.stack(values).sum() / len(values), vector)
            self._adam(gradient, lr)

    def _adam(self, gradient: torch.Tensor, lr: float) -> None:
        """One step up, with Adam's usual numbers (0.9, 0.999, 1e-8)."""
        self.count += 1
        count = self.count.double()  # 1 - 0.999 has four digits in single precision
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        mean = self.mean / (1 - 0.9**count)
        square = self.square / (1 - 0.999**count)
        self.mixing += lr * mean / (square.sqrt() + 1e-8)


def _products(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each network: others x others, own x others, and squared lengths of own rows."""
    stacked = torch.stack(rows)
    others = torch.stack(
        [torch.cat([row for other, row in enumerate(rows) if other != player]) for player in range(len(rows))]
    )
    return others @ others.mT, stacked @ others.mT, stacked.square().sum(-1)
