"""GPU memory of every training at the paper's sizes, counted without a GPU; the tables of docs/memory.md.

    python benchmarks/memory.py                       # both tables as Markdown; about ten minutes on one core
    python benchmarks/memory.py --only cct lora       # the rows of these cards

A step of training runs on fake tensors, which have shapes and no numbers, and every storage counts from its
first use to its end (``sfrbench/machine/live_bytes.py``). GB are 2^30 bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from sfrbench.catalog.cards import Catalog
from sfrbench.machine.training_memory import fine_tuning, fits, retraining

GB = 2**30
CARDS = (11, 24, 40, 80)
#: Dataset -> classes with background, patch: those of the paper.
DATA = {"LA": (2, (112, 112, 80)), "AbdomenCT-1K": (5, (96, 96, 96))}
FOUNDATIONS = ("sam_vit_b", "sam_vit_l", "sam_vit_h")
FINETUNES = ("frozen", "decoder_only", "lora", "samed", "msa", "samus", "encoder_decoder", "full")


def cards(kind: str) -> dict[str, Any]:
    return {card.name: card for card in Catalog.read().cards() if card.kind == kind}


def retrained(name: str, data: str, again: bool) -> int:
    """Bytes of a step of a method, with hard pseudo-labels, at the sizes of a dataset; ``again``: with
    ``backbone.checkpointing``."""
    backbone = "vnet_magic" if name.startswith("magicnet") else "vnet"
    classes, patch = DATA[data]
    network = cards("backbone")[backbone].component({"checkpointing": again})
    return retraining(cards("ssl")[name].component({}), network, classes, patch, pseudo=True)


def fine_tuned(name: str, foundation: str, again: bool) -> int:
    """Bytes of a step of a strategy on two canvases of 1024; ``again``: with ``foundation.checkpointing``."""
    model = cards("foundation")[foundation].component({"checkpointing": again})
    return fine_tuning(model, cards("finetune")[name].component({}), 2)


def row(first: Sequence[str], plain: int, again: int) -> str:
    """Which cards a training fits, without and with checkpointing: yes, with, no."""
    words = []
    for card in CARDS:
        whole = card * GB
        words.append("yes" if fits(plain, whole) else "with" if fits(again, whole) else "no")
    return "| " + " | ".join([*first, f"{plain / GB:.1f}", f"{again / GB:.1f}", *words]) + " |"


def head(*first: str) -> list[str]:
    columns = [*first, "GB", "with checkpointing", *(f"{card} GB" for card in CARDS)]
    return ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]


def methods(only: Sequence[str]) -> Iterator[str]:
    """The lines of the table of re-training."""
    yield from head("method", "data")
    for name in cards("ssl"):
        if name.endswith(("_source", "_nnunet")) or (only and name not in only):
            continue
        for data in DATA:
            if name.startswith("magicnet") and data == "LA":
                continue  # its cubes do not fit the patch
            yield row([f"`{name}`", data], *(retrained(name, data, again) for again in (False, True)))


def strategies(only: Sequence[str]) -> Iterator[str]:
    """The lines of the table of fine-tuning."""
    yield from head("strategy", "foundation")
    for name in FINETUNES:
        for foundation in FOUNDATIONS:
            if not only or name in only:
                taken = [fine_tuned(name, foundation, again) for again in (False, True)]
                yield row([f"`{name}`", f"`{foundation}`"], *taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[], help="names of cards")
    only = parser.parse_args().only
    for table in (methods, strategies):
        for line in table(only):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
