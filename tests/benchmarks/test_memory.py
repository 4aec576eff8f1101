"""The figures of docs/memory.md are those that are counted, for some of its rows."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tests.support.places import BENCHMARKS, ROOT


def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("memory_benchmark", BENCHMARKS / "memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tables() -> dict[tuple[str, str], list[str]]:
    """The cells of every row behind its first two."""
    lines = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")
    ]
    return {(row[0], row[1]): row[2:] for row in rows if len(row) == 8 and row[2][:1].isdigit()}


@pytest.mark.parametrize(
    ("row", "again"),
    [
        (("mean_teacher", "LA"), False),
        (("cct", "LA"), True),
        (("magicnet", "AbdomenCT-1K"), False),
        (("frozen", "sam_vit_b"), False),
        (("samus", "sam_vit_b"), True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_rows_are_as_counted(row: tuple[str, str], again: bool) -> None:
    """Within 2 % and the last digit; other releases of torch may keep a little more or less."""
    made = benchmark()
    count = made.retrained if row[1] in made.DATA else made.fine_tuned
    assert float(tables()[row][again]) == pytest.approx(count(*row, again) / made.GB, rel=0.02, abs=0.05)


def test_every_card_has_its_rows_and_they_agree_with_their_figures() -> None:
    made, found = benchmark(), tables()
    methods = {name for name in made.cards("ssl") if not name.endswith(("_source", "_nnunet"))}
    assert {name for name, _ in found} == methods | set(made.FINETUNES)
    for (name, place), (plain, again, *cards) in found.items():
        line = made.row([f"`{name}`", f"`{place}`"], float(plain) * made.GB, float(again) * made.GB)
        assert line.split("|")[5:-1] == [f" {card} " for card in cards], name
