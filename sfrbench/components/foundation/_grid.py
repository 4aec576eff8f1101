"""When attention over a grid goes through our own kernel (``_grid_kernel``): where it suits and holds."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os

import torch
from torch import Tensor

log = logging.getLogger("sfrbench")

#: ``fused`` keeps attention on torch's own kernel; any other value leaves the choice to the check below.
VARIABLE = "SFRBENCH_ATTENTION"
#: How far the kernel may be from float64, as a part of the largest value: some steps of each dtype.
_NEAR = {torch.bfloat16: 0.03, torch.float16: 0.005}


def suits(q: Tensor, on_rows: Tensor, on_columns: Tensor) -> bool:
    """Whether the kernel is made for this: 16 bits, and a grid of (h, w) that its tiles fill.

    ``q`` (N, h * w, C), ``on_rows`` (N, h * w, h), ``on_columns`` (N, h * w, w). Windows of 14 are not: their
    attention is a tenth of the work, and torch's kernel does it well.
    """
    h, w = on_rows.shape[-1], on_columns.shape[-1]
    return q.dtype in _NEAR and w >= 16 and w & (w - 1) == 0 and h * w % 64 == 0


@functools.cache
def holds(device: str, dtype: torch.dtype) -> bool:
    """Whether the kernel computes rightly on ``device``: tried once in a process, values and gradients.

    Without Triton, or with ``SFRBENCH_ATTENTION=fused``, it is not tried. Warns where it fails.
    """
    if os.environ.get(VARIABLE) == "fused" or importlib.util.find_spec("triton") is None:
        return False
    try:
        off = distance(device, dtype)
    except Exception as error:
        # compilers and drivers fail in ways of their own, and torch's kernel stands ready
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    else:
        if off <= _NEAR[dtype]:
            return True
        why = f"it is {off:.2g} of the largest value away from float64"
    log.warning("attention on %s goes through torch's kernel, for ours fails: %s", device, why)
    return False


def distance(device: str, dtype: torch.dtype) -> float:
    """How far the kernel's result and gradients are from those in float64, as a part of the largest value."""
    n, h, w, c = 2, 16, 32, 64
    draw = torch.Generator().manual_seed(0)
    shapes = ((n, h * w, c),) * 4 + ((n, h * w, h), (n, h * w, w))
    grad, q, k, v, a, b = (torch.randn(shape, generator=draw).to(dtype) for shape in shapes)
    q = q * c**-0.5
    exact = [part.double().requires_grad_() for part in (q, k, v, a, b)]
    scores = (exact[0] @ exact[1].transpose(1, 2)).unflatten(2, (h, w))
    scores = scores + exact[3].unsqueeze(-1) + exact[4].unsqueeze(-2)
    wanted = scores.flatten(2).softmax(-1) @ exact[2]
    given = [part.to(device).requires_grad_() for part in (q, k, v, a, b)]
    found = by_rows(*given)
    pairs = [(found, wanted)]
    pairs += zip(
        torch.autograd.grad(found, given, grad.to(device)),
        torch.autograd.grad(wanted, exact, grad.double()),
        strict=True,
    )
    return max(float((ours.double().cpu() - own).abs().max() / own.abs().max()) for ours, own in pairs)


def by_rows(q: Tensor, k: Tensor, v: Tensor, on_rows: Tensor, on_columns: Tensor) -> Tensor:
    """softmax(q k^T + bias) v by the kernel; ``q`` is scaled, shapes as in ``suits``, values as in ``q``."""
    from sfrbench.components.foundation._grid_kernel import ByRows

    mixed: Tensor = ByRows.apply(q, k, v, on_rows, on_columns)  # type: ignore[no-untyped-call]
    return mixed


def used(device: str) -> str:
    """How global attention in bf16 goes on ``device``, for records: ``rows``, ``fused`` or ``pieces``."""
    if not device.startswith("cuda"):
        return "pieces"
    return "rows" if holds(device, torch.bfloat16) else "fused"
