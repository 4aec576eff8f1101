"""Attention with decomposed relative positions, by the ways in which it never holds a whole map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from sfrbench.components._autocast import knows_autocast
from sfrbench.components.foundation import _grid, _operators

#: Entries of the attention map that are worked on at once.
PIECE = 2**22
_AS_ON_A_GPU: ContextVar[bool] = ContextVar("as_on_a_gpu", default=False)


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Within it torch's fused way is gone on a CPU, too: to count what it takes without a GPU."""
    before = _AS_ON_A_GPU.set(True)
    try:
        yield
    finally:
        _AS_ON_A_GPU.reset(before)


def attend(q: Tensor, k: Tensor, v: Tensor, on_rows: Tensor, on_columns: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(C) + bias) v, for (N, T, C) each, T tokens that form a grid of h x w.

    ``on_rows`` (N, T, h) and ``on_columns`` (N, T, w): the bias of a query towards a key is the sum of that
    for the key's row and that for its column. In the dtype of ``q``. On a GPU our own kernel does it where it
    holds (``_grid``), else torch's fused one; elsewhere ``InPieces``.
    """
    device = q.device.type
    with torch.autocast(device, enabled=False) if knows_autocast(device) else nullcontext():
        q, on_rows, on_columns = q * q.shape[-1] ** -0.5, on_rows.to(q.dtype), on_columns.to(q.dtype)
        traced = torch.compiler.is_compiling()
        if q.is_cuda and _grid.suits(q, on_rows, on_columns) and rows_hold(str(q.device), q.dtype):
            by_rows = _operators.by_rows if traced else _grid.by_rows
            return by_rows(q, k, v, on_rows, on_columns)
        if q.is_cuda or (not traced and _AS_ON_A_GPU.get()):
            return by_fused_kernel(*joined(q, k, on_rows, on_columns), v)
        in_pieces: Any = _operators.in_pieces if traced else InPieces.apply
        if q.dtype.itemsize < 4:  # products are cheap, passes over the map are not
            return cast(Tensor, in_pieces(*joined(q, k, on_rows, on_columns), v, None, None))
        return cast(Tensor, in_pieces(q, k, v, on_rows, on_columns))


def rows_hold(device: str, dtype: torch.dtype) -> bool:
    """``_grid.holds``: for ``torch.compile`` a constant, found out while it traces."""
    return _grid.holds(device, dtype)


def joined(q: Tensor, k: Tensor, on_rows: Tensor, on_columns: Tensor) -> tuple[Tensor, Tensor]:
    """Wider queries and keys whose product holds the bias, so that nothing has to be added to it.

    [q, on_rows, on_columns] against [k, the key's row as one-hot, its column as one-hot], and zeros up to a
    multiple of 32, which suits the kernels.
    """
    h, w = on_rows.shape[-1], on_columns.shape[-1]
    rows = torch.eye(h, dtype=k.dtype, device=k.device).repeat_interleave(w, 0)
    columns = torch.eye(w, dtype=k.dtype, device=k.device).repeat(h, 1)
    zeros = q.new_zeros((), dtype=q.dtype).expand(*q.shape[:2], -(q.shape[-1] + h + w) % 32)
    ones = torch.cat([rows, columns], 1).expand(len(k), -1, -1)
    return torch.cat([q, on_rows, on_columns, zeros], -1), torch.cat([k, ones, zeros], -1)


def by_fused_kernel(queries: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    """softmax(queries keys^T) v by torch's fused kernels, which want v as wide as the queries."""
    values = F.pad(v, (0, queries.shape[-1] - v.shape[-1]))
    mixed = F.scaled_dot_product_attention(queries[None], keys[None], values[None], scale=1.0)
    return mixed[0, ..., : v.shape[-1]]


class InPieces(torch.autograd.Function):
    """softmax(q k^T + bias) v over a few rows of the attention map at a time.

    The backward pass computes each piece again. ``bias`` is as in ``attend``, or None.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, on_rows: Tensor | None, on_columns: Tensor | None
    ) -> Tensor:
        mixed = mixed_in_pieces(q, k, v, on_rows, on_columns)
        ctx.save_for_backward(q, k, v, on_rows, on_columns, mixed)
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        kept: list[Any] = [*ctx.saved_tensors, grads[0].contiguous()]
        dq, dk, dv, *of_bias = grads_in_pieces(*kept)
        return dq, dk, dv, *(of_bias or (None, None))


def mixed_in_pieces(
    q: Tensor, k: Tensor, v: Tensor, on_rows: Tensor | None, on_columns: Tensor | None
) -> Tensor:
    """What ``InPieces`` computes."""
    mixed = torch.empty_like(v)
    for n, t in pieces(q.shape[0], q.shape[1]):
        torch.bmm(weights(q, k, on_rows, on_columns, n, t), v[n], out=mixed[n, t])
    return mixed


def grads_in_pieces(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    on_rows: Tensor | None,
    on_columns: Tensor | None,
    mixed: Tensor,
    grad: Tensor,
) -> list[Tensor]:
    """The gradients of q, k, v, and of both parts of the bias where there is one; ``grad`` is contiguous."""
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    of_bias = [torch.empty_like(part) for part in (on_rows, on_columns) if part is not None]
    for n, t in pieces(q.shape[0], q.shape[1]):
        p, g = weights(q, k, on_rows, on_columns, n, t), grad[n, t]
        dv[n].baddbmm_(p.transpose(1, 2), g)
        ds = torch.bmm(g, v[n].transpose(1, 2))
        ds.sub_((g * mixed[n, t]).sum(-1, keepdim=True)).mul_(p)
        torch.bmm(ds, k[n], out=dq[n, t])
        dk[n].baddbmm_(ds.transpose(1, 2), q[n, t])
        if of_bias:
            d_rows, d_columns = of_bias
            at = ds.view(*ds.shape[:2], d_rows.shape[-1], d_columns.shape[-1])
            d_rows[n, t], d_columns[n, t] = at.sum(-1), at.sum(-2)
    return [dq, dk, dv, *of_bias]


def weights(
    q: Tensor, k: Tensor, on_rows: Tensor | None, on_columns: Tensor | None, n: slice, t: slice
) -> Tensor:
    """Rows ``t`` of the attention maps ``n``: (n, t, T), each row with the sum 1."""
    scores = torch.bmm(q[n, t], k[n].transpose(1, 2))
    if on_rows is not None and on_columns is not None:
        at = scores.view(*scores.shape[:2], on_rows.shape[-1], on_columns.shape[-1])
        at.add_(on_rows[n, t].unsqueeze(-1)).add_(on_columns[n, t].unsqueeze(-2))
    return scores.softmax(-1)


def pieces(maps: int, tokens: int) -> list[tuple[slice, slice]]:
    """Parts of ``maps`` attention maps of ``tokens`` x ``tokens``, of about ``PIECE`` entries each."""
    if tokens * tokens > PIECE:
        step = max(PIECE // tokens, 1)
        return [(slice(n, n + 1), slice(t, t + step)) for n in range(maps) for t in range(0, tokens, step)]
    step = max(PIECE // (tokens * tokens), 1)
    return [(slice(n, n + step), slice(None)) for n in range(0, maps, step)]
