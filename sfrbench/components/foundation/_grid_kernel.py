"""Attention over a grid of tokens with decomposed relative positions, as Triton kernels for a GPU.

softmax(q k^T + a + b) v, where the bias of a query towards a key is ``a`` of the key's row plus ``b`` of its
column. A tile of keys is one row of the grid. So a tile of scores takes one number of ``a`` for each query
and all of ``b`` as it is, and on the way back the gradient of ``a`` is the sum of the tile's rows, that of
``b`` the sum of the tiles: neither costs a product, and nothing is added by two programs at once, which
keeps the bits of two runs equal. Products are as wide as a head, where ``joined`` makes them up to three
times as wide.

Made for 16 bits. Imported only where Triton is there; ``TRITON_INTERPRET=1`` runs the kernels on a CPU (in
float16: its interpreter has no products in bf16).
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# (Triton compiles the kernels, and takes no annotations but its own)
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Queries of a tile. With 4 warps for heads of 64 and 8 for those of 80, tiles take at most 83 KB of shared
#: memory and nearly no registers spill (compiled for sm_80, sm_86, sm_89 and sm_90).
QUERIES = 64
_LOG2E = 1.4426950408889634


class ByRows(torch.autograd.Function):
    """q (scaled), k, v (N, T, C), on_rows (N, T, h), on_columns (N, T, w) to (N, T, C), in the dtype of q."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, on_rows: Tensor, on_columns: Tensor) -> Tensor:
        given = [part.contiguous() for part in (q, k, v, on_rows, on_columns)]
        mixed, log_sum = mixed_by_rows(*given)
        ctx.save_for_backward(*given, mixed, log_sum)
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, ...]:
        return tuple(grads_by_rows(*ctx.saved_tensors, grads[0].contiguous()))


def mixed_by_rows(*given: Tensor) -> tuple[Tensor, Tensor]:
    """What ``ByRows`` computes of contiguous tensors, and log2 of the sum of each row's exp2 (N, T)."""
    q = given[0]
    mixed = torch.empty_like(q)
    log_sum = q.new_empty(q.shape[:2], dtype=torch.float32)
    _forward[_tiles(q)](*given, mixed, log_sum, **_shape(given))
    return mixed, log_sum


def grads_by_rows(*kept: Tensor) -> list[Tensor]:
    """The gradients of the five inputs, from these, both results and the gradient of the first."""
    *given, mixed, log_sum, grad = kept
    inner = (grad.float() * mixed.float()).sum(-1)
    found = [torch.empty_like(part) for part in given]
    dq, dk, dv, d_rows, d_columns = found
    _backward_queries[_tiles(dq)](*given, grad, log_sum, inner, dq, d_rows, d_columns, **_shape(given))
    by_row = (d_rows.shape[-1], len(dk))
    _backward_keys[by_row](*given, grad, log_sum, inner, dk, dv, **_shape(given))
    return found


def _tiles(q: Tensor) -> tuple[int, int]:
    return q.shape[1] // QUERIES, len(q)


def _shape(given: Sequence[Tensor]) -> dict[str, Any]:
    q, _, _, on_rows, on_columns = given
    wide = max(16, triton.next_power_of_2(q.shape[-1]))
    return {
        "h": on_rows.shape[-1],
        "w": on_columns.shape[-1],
        "c": q.shape[-1],
        "wide": wide,
        "count": QUERIES,
        "log2e": _LOG2E,
        "num_warps": 4 if wide <= 64 else 8,
        "num_stages": 2,
    }


@triton.jit
def _forward(
    q, k, v, on_rows, on_columns, mixed, log_sum,
    h: tl.constexpr, w: tl.constexpr, c: tl.constexpr, wide: tl.constexpr, count: tl.constexpr,
    log2e: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(1).to(tl.int64)
    tokens: tl.constexpr = h * w
    queries = tl.program_id(0) * count + tl.arange(0, count)
    channels, columns = tl.arange(0, wide), tl.arange(0, w)
    whole = (channels < c)[None, :]
    at_queries = (n * tokens + queries)[:, None] * c + channels[None, :]
    ours = tl.load(q + at_queries, mask=whole, other=0.0)
    sideways = tl.load(on_columns + (n * tokens + queries)[:, None] * w + columns[None, :]).to(tl.float32)
    top = tl.full((count,), float("-inf"), tl.float32)
    total = tl.zeros((count,), tl.float32)
    sums = tl.zeros((count, wide), tl.float32)
    for row in range(h):
        at_keys = (n * tokens + row * w + columns)[:, None] * c + channels[None, :]
        keys = tl.load(k + at_keys, mask=whole, other=0.0)
        values = tl.load(v + at_keys, mask=whole, other=0.0)
        down = tl.load(on_rows + (n * tokens + queries) * h + row).to(tl.float32)
        scores = tl.dot(ours, tl.trans(keys)) + down[:, None] + sideways
        scores *= log2e
        higher = tl.maximum(top, tl.max(scores, 1))
        weights, old = tl.exp2(scores - higher[:, None]), tl.exp2(top - higher)
        total = total * old + tl.sum(weights, 1)
        added = tl.dot(weights.to(values.dtype), values)
        sums, top = sums * old[:, None] + added, higher
    tl.store(mixed + at_queries, (sums / total[:, None]).to(ours.dtype), mask=whole)
    tl.store(log_sum + n * tokens + queries, top + tl.log2(total))


@triton.jit
def _backward_queries(
    q, k, v, on_rows, on_columns, grad, log_sum, inner, dq, d_rows, d_columns,
    h: tl.constexpr, w: tl.constexpr, c: tl.constexpr, wide: tl.constexpr, count: tl.constexpr,
    log2e: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(1).to(tl.int64)
    tokens: tl.constexpr = h * w
    queries = tl.program_id(0) * count + tl.arange(0, count)
    channels, columns = tl.arange(0, wide), tl.arange(0, w)
    whole = (channels < c)[None, :]
    at_queries = (n * tokens + queries)[:, None] * c + channels[None, :]
    at_columns = (n * tokens + queries)[:, None] * w + columns[None, :]
    ours = tl.load(q + at_queries, mask=whole, other=0.0)
    coming = tl.load(grad + at_queries, mask=whole, other=0.0)
    sideways = tl.load(on_columns + at_columns).to(tl.float32)
    log_total = tl.load(log_sum + n * tokens + queries)
    inside = tl.load(inner + n * tokens + queries)
    d_ours = tl.zeros((count, wide), tl.float32)
    d_sideways = tl.zeros((count, w), tl.float32)
    for row in range(h):
        at_keys = (n * tokens + row * w + columns)[:, None] * c + channels[None, :]
        keys = tl.load(k + at_keys, mask=whole, other=0.0)
        values = tl.load(v + at_keys, mask=whole, other=0.0)
        down = tl.load(on_rows + (n * tokens + queries) * h + row).to(tl.float32)
        scores = tl.dot(ours, tl.trans(keys)) + down[:, None] + sideways
        weights = tl.exp2(scores * log2e - log_total[:, None])
        d_weights = tl.dot(coming, tl.trans(values))
        d_scores = weights * (d_weights - inside[:, None])
        d_ours += tl.dot(d_scores.to(keys.dtype), keys)
        d_sideways += d_scores
        at_row = d_rows + (n * tokens + queries) * h + row
        tl.store(at_row, tl.sum(d_scores, 1).to(ours.dtype))
    tl.store(dq + at_queries, d_ours.to(ours.dtype), mask=whole)
    tl.store(d_columns + at_columns, d_sideways.to(ours.dtype))


@triton.jit
def _backward_keys(
    q, k, v, on_rows, on_columns, grad, log_sum, inner, dk, dv,
    h: tl.constexpr, w: tl.constexpr, c: tl.constexpr, wide: tl.constexpr, count: tl.constexpr,
    log2e: tl.constexpr,
):  # fmt: skip
    row, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    tokens: tl.constexpr = h * w
    channels, columns = tl.arange(0, wide), tl.arange(0, w)
    whole = (channels < c)[None, :]
    at_keys = (n * tokens + row * w + columns)[:, None] * c + channels[None, :]
    keys = tl.load(k + at_keys, mask=whole, other=0.0)
    values = tl.load(v + at_keys, mask=whole, other=0.0)
    d_keys = tl.zeros((w, wide), tl.float32)
    d_values = tl.zeros((w, wide), tl.float32)
    for first in range(0, tokens, count):
        queries = first + tl.arange(0, count)
        at_queries = (n * tokens + queries)[:, None] * c + channels[None, :]
        theirs = tl.load(q + at_queries, mask=whole, other=0.0)
        coming = tl.load(grad + at_queries, mask=whole, other=0.0)
        sideways = tl.load(on_columns + (n * tokens + queries)[:, None] * w + columns[None, :])
        down = tl.load(on_rows + (n * tokens + queries) * h + row).to(tl.float32)
        log_total = tl.load(log_sum + n * tokens + queries)
        inside = tl.load(inner + n * tokens + queries)
        scores = tl.dot(theirs, tl.trans(keys)) + down[:, None] + sideways
        weights = tl.exp2(scores * log2e - log_total[:, None])
        d_values += tl.dot(tl.trans(weights.to(coming.dtype)), coming)
        d_weights = tl.dot(coming, tl.trans(values))
        d_scores = weights * (d_weights - inside[:, None])
        d_keys += tl.dot(tl.trans(d_scores.to(theirs.dtype)), theirs)
    tl.store(dk + at_keys, d_keys.to(keys.dtype), mask=whole)
    tl.store(dv + at_keys, d_values.to(keys.dtype), mask=whole)
