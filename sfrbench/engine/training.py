"""The loop of both training stages: steps, schedule, history, and checkpoints that resume to the bit.

There is no random state to save: a step seeds torch from the stage's seed and its own number, and what it
draws itself comes from generators made the same way (``sfrbench.sampling``). So a checkpoint holds weights,
the optimiser and the history, and a resumed run gives the bits of an uninterrupted one (on a CPU with the
same number of threads; on a GPU as far as its kernels are deterministic).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch._dynamo  # the first optimiser would do so, and leave frames that hold its parameters in a cycle
from torch import nn

from sfrbench.components.base import Optim, Settings
from sfrbench.engine.arithmetic import repeatable
from sfrbench.engine.context import Pruned, StageContext, Stopped
from sfrbench.engine.feeding import ahead_on, feed
from sfrbench.errors import CheckpointError, SfrbenchError
from sfrbench.files.atomic import atomic_file
from sfrbench.maths.sampling import mix

#: Steps between reports of progress; values stay on the device until then.
REPORT_EVERY = 10
CHECKPOINT = "checkpoint.pt"
Made = TypeVar("Made")


class TrainingError(SfrbenchError):
    """Training went wrong in a way that other settings may mend."""


class Stateful(Protocol):
    """Anything that a checkpoint can hold: a module, an optimiser, the best weights so far."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


@dataclass(frozen=True)
class StepResult:
    """The loss to descend (a scalar with a graph), and its terms for the history."""

    loss: torch.Tensor
    values: Mapping[str, torch.Tensor | float] = field(default_factory=dict)


class TrainedParts:
    """The parameters of a model that train; a frozen pretrained encoder stays out of checkpoints."""

    def __init__(self, model: nn.Module) -> None:
        self._parts = {name: part for name, part in model.named_parameters() if part.requires_grad}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: part.detach() for name, part in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor], /) -> None:
        with torch.no_grad():
            for name, part in self._parts.items():
                part.copy_(state[name])


def make_optimiser(optim: Optim, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of the settings; all its parameters share one learning rate."""
    chosen = list(parameters)
    if optim.optimiser == "sgd":
        return torch.optim.SGD(
            chosen,
            optim.lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
            nesterov=optim.nesterov,
        )
    kind = torch.optim.AdamW if optim.optimiser == "adamw" else torch.optim.Adam
    return kind(chosen, optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)


def train(
    ctx: StageContext[Settings],
    states: Mapping[str, Stateful],
    parameters: Iterable[nn.Parameter],
    optim: Optim,
    *,
    steps: int,
    checkpoint_every: int,
    seed: int,
    batches: Callable[[int], Made],
    step_fn: Callable[[int, Made], StepResult],
    after_step: Callable[[int], Mapping[str, float]] | None = None,
) -> None:
    """Run ``step_fn(t, batches(t))`` for t in [0, steps), one optimiser step after each; then write
    ``history.csv``.

    ``batches(t)`` makes on the host what step t sees, beside an earlier step where ``ctx.ahead`` says so: of
    random numbers it takes none of torch's global generator.
    ``states``: all that changes beside the optimiser, by name (modules, EMA teacher, best weights).
    ``seed`` seeds torch's global generator anew at each step (dropout). ``after_step(t)`` runs before a
    checkpoint is written and must change nothing outside ``states``; it gives what else the history should
    say of the step. Goes on from the checkpoint in
    ``ctx.scratch`` where there is one; it stays there for the caller's store to remove. Puts
    ``seconds_per_step`` and ``resumed_at`` into ``ctx.notes``. Raises ``TrainingError`` where the loss is
    no longer finite, ``CheckpointError`` where the checkpoint cannot be read; a ``Pruned`` of ``after_step``,
    and ``Stopped`` where ``ctx.stopping`` says so, go through, with a checkpoint left behind.
    """
    trained = list(parameters)
    optimiser = make_optimiser(optim, trained)
    history = History()
    kept: dict[str, Stateful] = {**states, "optimiser": optimiser, "history": history}
    path = ctx.scratch / CHECKPOINT
    start = load_checkpoint(path, kept) if path.is_file() else 0
    ctx.notes["resumed_at"] = start
    began = time.perf_counter()
    ahead = ahead_on(ctx.device) if ctx.ahead is None else ctx.ahead
    with repeatable(), feed(batches, range(start, steps), ahead) as made:
        for step in range(start, steps):
            lr = optim.lr_at(step, steps)
            torch.manual_seed(mix(seed, step))
            result = step_fn(step, next(made))
            descend(optimiser, result.loss, trained, lr, optim.clip)
            history.add(step, lr, result)
            done = step + 1
            try:
                if after_step is not None:
                    history.extend(after_step(step))
                if ctx.stopping() and done < steps:
                    raise Stopped
            except (Pruned, Stopped):  # another run of this node goes on from here
                history.flush()
                save_checkpoint(path, kept, done)
                raise
            last = done == steps
            save = done % checkpoint_every == 0 and not last
            if save or last or done % REPORT_EVERY == 0:
                ctx.progress(done, steps, **history.flush())
            if save:
                save_checkpoint(path, kept, done)
    if steps > start:
        ctx.notes["seconds_per_step"] = round((time.perf_counter() - began) / (steps - start), 4)
    history.write(ctx.out / "history.csv")


def descend(
    optimiser: torch.optim.Optimizer,
    loss: torch.Tensor,
    parameters: list[nn.Parameter],
    lr: float,
    clip: float | None,
) -> None:
    """One step down the gradient."""
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    optimiser.step()


class History:
    """One row per step: step, loss, lr and every term. Values are fetched from the device in groups."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._pending: list[tuple[int, float, dict[str, torch.Tensor | float]]] = []

    def add(self, step: int, lr: float, result: StepResult) -> None:
        values = {"loss": result.loss, **result.values}
        detached = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in values.items()}
        self._pending.append((step, lr, detached))

    def extend(self, values: Mapping[str, float]) -> None:
        """More of the step that was added last."""
        self._pending[-1][2].update(values)

    def flush(self) -> dict[str, float]:
        """Fetch what is pending; returns the last loss. Raises ``TrainingError`` where one is not finite."""
        for step, lr, values in self._pending:
            row = {"step": float(step), "lr": lr, **{name: float(value) for name, value in values.items()}}
            if not math.isfinite(row["loss"]):
                terms = ", ".join(f"{name} {float(value):.4g}" for name, value in values.items())
                raise TrainingError(
                    f"the loss is not finite at step {step} (learning rate {lr:.3g}; {terms})",
                    hint="lower optim.lr, set optim.warmup or optim.clip, or set precision to fp32",
                )
            self.rows.append(row)
        self._pending.clear()
        return {"loss": self.rows[-1]["loss"]} if self.rows else {}

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self.rows = list(state["rows"])

    def write(self, path: Path) -> None:
        """As CSV; a term that a step lacks is an empty cell."""
        terms = dict.fromkeys(name for row in self.rows for name in row)
        columns = ["step", "loss", "lr", *(name for name in terms if name not in ("step", "loss", "lr"))]
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "step": int(row["step"])} for row in self.rows)


def save_checkpoint(path: Path, states: Mapping[str, Stateful], step: int) -> None:
    """Replace the checkpoint at once, so that a kill leaves the old or the new one."""
    content = {name: _plain(state.state_dict()) for name, state in states.items()}
    with atomic_file(path, durable=True) as temporary, temporary.open("wb") as stream:
        torch.save({"step": step, "states": content}, stream)


def load_checkpoint(path: Path, states: Mapping[str, Stateful]) -> int:
    """Load every state in place; returns the number of steps done.

    Raises ``CheckpointError`` if it cannot be read or is of another shape; some states are then loaded.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        step = int(content["step"])
        for name, state in states.items():
            state.load_state_dict(content["states"][name])
    except (OSError, MemoryError):  # says nothing of the file
        raise
    except Exception as error:
        if "memory" in str(error):  # torch's own way to say so
            raise
        text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise CheckpointError(f"the checkpoint cannot be read: {text}", where=str(path)) from error
    return step


def _plain(value: Any) -> Any:
    """Builtin containers only: every version of ``torch.load(weights_only=True)`` accepts those."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def save_weights(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors, on the CPU and contiguous."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, path)
