"""The kernels of attention as operators of torch: ``torch.compile`` calls them, and looks not into them.

Traced, ``InPieces`` would become a graph of every piece, and ``ByRows`` of Triton's own launches. Each kernel
is an operator and its way back is another one, with the numbers of the ``autograd.Function`` that has their
name; results are contiguous.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfrbench.components.foundation._pieces import grads_in_pieces, mixed_in_pieces

_FIVE = "Tensor q, Tensor k, Tensor v"


@torch.library.custom_op(
    "sfrbench::in_pieces", mutates_args=(), schema=f"({_FIVE}, Tensor? on_rows, Tensor? on_columns) -> Tensor"
)
def in_pieces(q: Tensor, k: Tensor, v: Tensor, on_rows: Tensor | None, on_columns: Tensor | None) -> Tensor:
    """``_pieces.InPieces``."""
    return mixed_in_pieces(*_contiguous(q, k, v, on_rows, on_columns))


@torch.library.custom_op(
    "sfrbench::in_pieces_back",
    mutates_args=(),
    schema=f"({_FIVE}, Tensor? on_rows, Tensor? on_columns, Tensor mixed, Tensor grad) -> Tensor[]",
)
def _in_pieces_back(*kept: Any) -> list[Tensor]:
    return grads_in_pieces(*_contiguous(*kept))


@torch.library.custom_op(
    "sfrbench::by_rows",
    mutates_args=(),
    schema=f"({_FIVE}, Tensor on_rows, Tensor on_columns) -> (Tensor, Tensor)",
)
def _by_rows(*given: Any) -> tuple[Tensor, Tensor]:
    from sfrbench.components.foundation._grid_kernel import mixed_by_rows

    return mixed_by_rows(*_contiguous(*given))


@torch.library.custom_op(
    "sfrbench::by_rows_back",
    mutates_args=(),
    schema=f"({_FIVE}, Tensor on_rows, Tensor on_columns, Tensor mixed, Tensor log_sum, Tensor grad)"
    " -> Tensor[]",
)
def _by_rows_back(*kept: Any) -> list[Tensor]:
    from sfrbench.components.foundation._grid_kernel import grads_by_rows

    return grads_by_rows(*_contiguous(*kept))


def by_rows(q: Tensor, k: Tensor, v: Tensor, on_rows: Tensor, on_columns: Tensor) -> Tensor:
    """``_grid_kernel.ByRows``."""
    mixed: Tensor = _by_rows(q, k, v, on_rows, on_columns)[0]
    return mixed


def _contiguous(*parts: Any) -> list[Any]:
    return [None if part is None else part.contiguous() for part in parts]


@in_pieces.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, on_rows: Tensor | None, on_columns: Tensor | None) -> Tensor:
    return v.new_empty(v.shape)


@_by_rows.register_fake
def _(q: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


@_in_pieces_back.register_fake
def _(*kept: Any) -> list[Tensor]:
    return [part.new_empty(part.shape) for part in kept[:5] if part is not None]


@_by_rows_back.register_fake
def _(*kept: Tensor) -> list[Tensor]:
    return [part.new_empty(part.shape) for part in kept[:5]]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs, *(output if isinstance(output, tuple) else (output,)))


def _pieces_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dq, dk, dv, *of_bias = _in_pieces_back(*ctx.saved_tensors, grad)
    return dq, dk, dv, *(of_bias or (None, None))


def _rows_gradients(ctx: Any, grad: Tensor, of_sum: None) -> tuple[Tensor, ...]:
    return tuple(_by_rows_back(*ctx.saved_tensors, grad))


in_pieces.register_autograd(_pieces_gradients, setup_context=_keep)
_by_rows.register_autograd(_rows_gradients, setup_context=_keep)
