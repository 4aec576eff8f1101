"""Blocks of an encoder through ``torch.compile``, one by one: those of one shape share what is compiled.

Blocks are traced when they first run, with the adapters that are in them by then, and stay as they are: no
module is wrapped, so that parameters keep their names. What is compiled is bound to shapes, to the dtype of
autocast and to whether there will be a backward pass; another batch size is compiled anew. Attention's own
kernels are operators inside (``_operators``), so that a block is one graph. Code is kept where torch keeps it
(``$TORCHINDUCTOR_CACHE_DIR``, by default a folder of the user's in the system's temporary one).
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sfrbench.errors import NotReadyError

#: Forms of blocks that are compiled in a process at most: kinds of blocks, times batch sizes, times training
#: or not. Torch's own limit is 8, beyond which blocks would run uncompiled, with other last digits.
FORMS = 64
BACKEND = "inductor"


def through(block: nn.Module, *tokens: Any) -> Any:
    """``block(*tokens)``, compiled. Raises ``NotReadyError`` where that fails."""
    import torch._dynamo
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    limits: Any = {"recompile_limit": FORMS, "accumulated_recompile_limit": 2 * FORMS}
    try:
        # hooks are how some adapters work: a block that has them is another one
        with torch._dynamo.config.patch(skip_nnmodule_hook_guards=False, **limits):
            return _compiled(BACKEND)(block, *tokens)
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        if "out of memory" in str(error):  # others say what helps
            raise
        first, *rest = f"{type(error).__name__}: {error}".strip().splitlines()
        told = [line.strip() for line in rest if "Explanation:" in line]
        why = " ".join([first, *told])[:300]
        raise NotReadyError(
            f"the blocks cannot be compiled here: {why}",
            where="foundation.compile",
            hint="set foundation.compile: none (another key: other last digits), or mend the compiler",
        ) from error


def forget() -> None:
    """Let go of everything compiled, and of the networks that torch's compiler still refers to."""
    import torch._dynamo

    torch._dynamo.reset()
    _compiled.cache_clear()
    gc.collect()


@functools.cache
def _compiled(backend: str) -> Callable[..., Any]:
    from torch._inductor import config

    from sfrbench.components.foundation import _attention

    torch.compiler.assume_constant_result(_attention.rows_hold)  # type: ignore[no-untyped-call]
    # code is not chosen by how fast it was: a run that is resumed, or done again, has the same bits
    deterministic = backend == "inductor" and hasattr(config, "deterministic")
    options: Any = {"deterministic": True} if deterministic else None
    return torch.compile(_call, fullgraph=True, dynamic=False, backend=backend, options=options)


def _call(block: nn.Module, *tokens: Any) -> Any:
    return block(*tokens)
