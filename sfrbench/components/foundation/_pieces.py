"""Attention with decomposed relative positions over a few rows of its map at a time, and its way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Entries of the attention map that are worked on at once.
PIECE = 2**22


class InPieces(torch.autograd.Function):
    """softmax(q k^T + bias) v over a few rows of the attention map at a time.

    The backward pass computes each piece again. ``bias`` is as in ``_attention.attend``, or None.
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
        q, k, v, on_rows, on_columns, mixed = ctx.saved_tensors
        grad = grads[0].contiguous()
        dq, dk, dv, *of_bias = grads_in_pieces(q, k, v, on_rows, on_columns, mixed, grad)
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
