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
from sfrbench.components.foundation._pieces import InPieces

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
