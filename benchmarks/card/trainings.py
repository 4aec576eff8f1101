"""Trainings on the card: every method and fine-tuning, ways of a LoRA step, layouts, idle time, resuming."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch

from card.material import Bench, Row, fault, timed
from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Finetune, Ssl
from sfrbench.components.foundation import _compiled, _grid
from sfrbench.components.ssl.magicnet import MagicNet
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.engine.context import Stopped
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.retrain import run as retrain


def method(bench: Bench, name: str, steps: int, **fields: Any) -> Ssl:
    """A method in so many steps, all its terms at work."""
    made: Ssl = bench.component("ssl", name)
    return made.model_copy(
        update={"steps": steps, "checkpoint_every": 10**6, "ramp_length": 0, "val_every": 10**6, **fields}
    )


def tuning(bench: Bench, name: str, steps: int) -> Finetune:
    made: Finetune = bench.component("finetune", name)
    return made.model_copy(update={"steps": steps, "checkpoint_every": 10**6})


def measured(bench: Bench, stage: Any, components: dict[str, Any], **options: Any) -> Row:
    """Milliseconds a step (median of the second half) and memory of a training, or why it does not run."""
    bench.clear()
    if isinstance(components.get("ssl"), MagicNet):
        options["patch"] = bench.scale.cubes
    try:
        with timed(bench, stage) as seconds:
            bench.run(stage, components, **options)
    except Exception as error:  # one row of many says so
        return {"fault": fault(error)}
    late = seconds[len(seconds) // 2 :]
    return {"ms a step": round(1000 * median(late), 1), **bench.gigabytes()}


def methods(bench: Bench) -> Iterator[Row]:
    """Every method with offline pseudo-labels, on V-Net."""
    inputs = {"pseudolabel": bench.labelled()}
    precision = "bf16" if bench.on_card else "fp32"
    for card in bench.catalog.cards():
        if card.kind == "ssl":
            parts = {
                "backbone": VNet(filters=bench.scale.filters, precision=precision),
                "ssl": method(bench, card.name, 4),
            }
            yield {"method": card.name, **measured(bench, retrain, parts, inputs=inputs, pseudo="offline")}


def tunings(bench: Bench) -> Iterator[Row]:
    """Every fine-tuning of SAM, one labelled case, in bf16 on a card."""
    precision = "bf16" if bench.on_card else "fp32"
    for card in bench.catalog.cards():
        if card.kind != "finetune":
            continue
        tuned = tuning(bench, card.name, 4)
        stitch = UpsampledStitch() if tuned.volumetric else GridStitch()
        foundation = bench.foundation(precision=precision)
        parts = {"foundation": foundation, "finetune": tuned, "stitch": stitch}
        yield {"fine-tuning": card.name, **measured(bench, finetune, parts)}


def lora(bench: Bench) -> Iterator[Row]:
    """A LoRA step in each precision, with each way of attention, with blocks that run twice, and with blocks
    that are compiled."""
    if not bench.on_card:  # in miniature it is the way there that counts: machine code takes half a minute
        _compiled.BACKEND = "aot_eager"
    for precision in ("fp32", "tf32", "bf16"):
        both = precision == "bf16" and _grid.holds(bench.device, torch.bfloat16)
        for way in ("fused", "rows") if both else ("fused",):
            ways: list[Row] = [{}, {"checkpointing": True}] if bench.can_run_twice else [{}]
            # on a CPU one is enough
            ways += [{"compile": "blocks"}] if bench.on_card or precision == "fp32" else []
            for fields in ways:
                os.environ[_grid.VARIABLE] = way
                _grid.holds.cache_clear()
                foundation = bench.foundation(precision=precision, **fields)
                parts = {
                    "foundation": foundation,
                    "finetune": tuning(bench, "lora", bench.scale.steps),
                    "stitch": GridStitch(),
                }
                used = _grid.used(bench.device) if precision == "bf16" or not bench.on_card else way
                row = {"precision": precision, "attention": used, "checkpointing": "checkpointing" in fields}
                row["compiled"] = fields.get("compile", "none")
                yield {**row, **measured(bench, finetune, parts)}
    os.environ.pop(_grid.VARIABLE, None)
    _grid.holds.cache_clear()


def layouts(bench: Bench) -> Iterator[Row]:
    """Mean Teacher, MagicNet and a 3D U-Net by memory layout and precision."""
    cases = [
        ("V-Net", VNet, "mean_teacher"),
        ("V-Net", VNet, "magicnet"),
        ("3D U-Net", UNet3d, "mean_teacher"),
    ]
    formats = {"channels first": torch.contiguous_format, "channels last": torch.channels_last_3d}
    inputs = {"pseudolabel": bench.labelled()}
    for name, kind, ssl in cases:
        for label, layout in formats.items():
            for precision in ("fp32", "tf32", "bf16"):
                backbone = kind.model_validate({"filters": bench.scale.filters, "precision": precision})
                parts = {
                    "backbone": _Laid(backbone, layout),
                    "ssl": method(bench, ssl, bench.scale.steps),
                }
                row = {"network": name, "method": ssl, "layout": label, "precision": precision}
                yield {**row, **measured(bench, retrain, parts, inputs=inputs, pseudo="offline")}


class _Laid:
    """A backbone whose networks lie in one layout."""

    def __init__(self, backbone: Any, layout: torch.memory_format) -> None:
        self._backbone, self._layout = backbone, layout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def build(self, *args: Any, **kwargs: Any) -> Any:
        network = self._backbone.build(*args, **kwargs)
        network.layout = self._layout
        return network


def idle(bench: Bench) -> Iterator[Row]:
    """How long the card is idle in a training of Mean Teacher and of LoRA, batches made ahead or in place."""
    inputs = {"pseudolabel": bench.labelled()}
    precision = "bf16" if bench.on_card else "fp32"
    segmenter = {"backbone": VNet(filters=bench.scale.filters, precision=precision)}
    sam = {"foundation": bench.foundation(precision=precision), "stitch": GridStitch()}
    for ahead in (0, 1):
        steps = 40 if bench.on_card else 20
        parts = {**segmenter, "ssl": method(bench, "mean_teacher", steps)}
        row = _idle(bench, retrain, parts, ahead, inputs=inputs, pseudo="offline")
        yield {"training": "Mean Teacher", "ahead": ahead, **row}
        row = _idle(bench, finetune, {**sam, "finetune": tuning(bench, "lora", steps)}, ahead)
        yield {"training": "LoRA", "ahead": ahead, **row}


def _idle(bench: Bench, stage: Any, parts: dict[str, Any], ahead: int, **options: Any) -> Row:
    """Looks at the second half of a training: what of its time kernels took, by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    profiler = profile(activities=[ProfilerActivity.CUDA]) if bench.on_card else None
    began = took = 0.0

    def watch(done: int, total: int) -> None:
        nonlocal began, took
        bench.wait()
        if done == total // 2:
            if profiler is not None:
                profiler.start()
            began = time.perf_counter()
        elif done == total:
            took = time.perf_counter() - began
            if profiler is not None:
                profiler.stop()

    try:
        bench.run(stage, parts, watch=watch, ahead=ahead, **options)
    except Exception as error:  # one row of many says so
        return {"fault": fault(error)}
    steps = parts["ssl" if "ssl" in parts else "finetune"].steps // 2
    row: Row = {"ms a step": round(1000 * took / steps, 1)}
    if profiler is not None:
        busy = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
        row["idle"] = f"{max(0.0, 1 - busy / took):.0%}"
    return row


def resumed(bench: Bench) -> Iterator[Row]:
    """A training that is stopped half-way and goes on, against one that runs through: the same bits?"""
    inputs = {"pseudolabel": bench.labelled()}
    for precision in ("fp32", "tf32", "bf16"):
        parts = {
            "backbone": VNet(filters=bench.scale.filters, precision=precision),
            "ssl": method(bench, "mean_teacher", 8),
        }
        told = {"inputs": inputs, "pseudo": "offline"}
        found = [_digest(bench.run(retrain, parts, **told).out) for _ in range(2)]
        place = bench.folder / "runs" / f"stopped-{precision}"
        asked = 0

        def stopping() -> bool:
            nonlocal asked
            asked += 1
            return asked == 4

        with suppress(Stopped):
            bench.run(retrain, parts, place=place, stopping=stopping, **told)
        found.append(_digest(bench.run(retrain, parts, place=place, **told).out))
        yield {
            "training": f"Mean Teacher, {precision}",
            "run twice": "equal" if found[0] == found[1] else "differs",
            "stopped and resumed": "equal" if found[0] == found[2] else "differs",
        }


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def in_less_memory(bench: Bench) -> Iterator[Row]:
    """What fits into smaller cards: torch is given a share of this one."""
    inputs = {"pseudolabel": bench.labelled()}
    whole = torch.cuda.get_device_properties(bench.device).total_memory / 2**30 if bench.on_card else None
    for gigabytes in (11, 24) if whole is not None else ("none: a CPU",):
        if whole is not None:
            torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes / whole))
        for name in ("mean_teacher", "cct", "ss_net", "magicnet"):
            parts = {
                "backbone": VNet(filters=bench.scale.filters, precision="fp32"),
                "ssl": method(bench, name, 2),
            }
            row = measured(bench, retrain, parts, inputs=inputs, pseudo="offline")
            yield {"GB of the card": gigabytes, "training": name, **_fits(row)}
        for name in ("lora", "samus"):
            parts = {
                "foundation": bench.foundation(),
                "finetune": tuning(bench, name, 2),
                "stitch": GridStitch(),
            }
            yield {"GB of the card": gigabytes, "training": name, **_fits(measured(bench, finetune, parts))}
    if whole is not None:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _fits(row: Row) -> Row:
    """To want more memory than there is, is no fault here."""
    short = "memory" in row.get("fault", "")
    return {"fits": "no"} if short else row if "fault" in row else {"fits": "yes", **row}
