"""Fields that want a number take numbers alone: ``true`` is not 1, and ``"4"`` is text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from click.testing import CliRunner
from pydantic import Field, ValidationError

from sfrbench.cli import main
from sfrbench.components.base import Settings
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.components.finetune.lora import Lora
from sfrbench.report.items import kinds
from sfrbench.spec.reader import read_spec


class Group(Settings):
    """One field of each form."""

    whole: int = 1
    share: float | None = None
    sides: tuple[int, int, int] = (1, 1, 1)
    rates: tuple[Annotated[float, Field(ge=0)], ...] = ()
    pairs: list[tuple[int, float]] = []
    either: int | Literal["all"] = 1
    flag: bool = True
    text: str = ""
    number_or_text: int | str = 1
    number_or_flag: int | bool = 1
    anything: Any = None


WRONG: list[tuple[str, Any, str]] = [
    ("whole", True, "int_type"),
    ("whole", "4", "int_type"),
    ("share", False, "float_type"),
    ("share", "1e-4", "float_type"),
    ("sides", [1, True, 1], "int_type"),
    ("sides", ["1", 1, 1], "int_type"),
    ("rates", [0.5, "1"], "float_type"),
    ("pairs", [[1, 2], [3, True]], "float_type"),
    ("either", True, "int_type"),
]


@pytest.mark.parametrize(("name", "value", "kind"), WRONG)
def test_booleans_and_text_are_no_numbers(name: str, value: Any, kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Group(**{name: value})
    (fault,) = caught.value.errors()
    assert (fault["type"], fault["loc"]) == (kind, (name,))


RIGHT: list[tuple[str, Any]] = [
    ("whole", 4),
    ("whole", 1e3),  # a whole number however it is written
    ("share", 1),
    ("share", 1e-4),
    ("share", None),
    ("sides", [1, 2, 3]),
    ("rates", [1, 0.5]),
    ("either", "all"),
    ("flag", False),
    ("text", "4"),
    ("number_or_text", "4"),
    ("number_or_flag", True),
    ("anything", "4"),
]


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_what_a_field_may_be_it_stays(name: str, value: Any) -> None:
    kept = getattr(Group(**{name: value}), name)
    assert list(kept) == value if isinstance(value, list) else kept == value


def test_components_and_their_groups_say_so() -> None:
    with pytest.raises(ValidationError, match="labeled"):
        Phantom(labeled=True)
    with pytest.raises(ValidationError, match="rank"):
        Lora(rank="4")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"optim\.lr"):
        Lora(optim={"lr": "1e-4"})  # type: ignore[arg-type]


SPEC = """title: Numbers
dataset: {name: phantom, labeled: LABELED}
protocol: strict
base: {backbone: vnet, ssl: supervised}
arms: [{name: a, ssl.optim.lr: LR}]
report: [{canvases: CANVASES}]
"""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"LABELED": "true"}, "2:26  dataset.labeled: input should be a valid integer, got true"),
        ({"LABELED": "'2'"}, "2:26  dataset.labeled: input should be a valid integer, got '2'"),
        ({"LR": "'1e-4'"}, "5:18  ssl.optim.lr: input should be a valid number, got '1e-4'"),
        ({"CANVASES": "true"}, "report.0.canvases: input should be a valid integer, got true"),
        ({}, ""),
    ],
)
def test_a_specification_says_where(tmp_path: Path, values: dict[str, str], said: str) -> None:
    text = SPEC
    for name, value in {"LABELED": "2", "LR": "1e-4", "CANVASES": "1", **values}.items():
        text = text.replace(name, value)
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    output = CliRunner().invoke(main, ["validate", str(path), "--profile", "smoke"]).output
    assert said in output if said else "valid integer" not in output + "valid number"
    if not said:
        assert read_spec(path, "smoke", items=kinds()).problems == ()


def test_an_option_is_read_as_yaml_is() -> None:
    given = ["data", "check", "phantom", "--set", "train_cases=2", "--set", "test_cases=1"]
    given += ["--set", "shape=[16, 16, 16]"]
    assert CliRunner().invoke(main, given).exit_code == 0
    for text in ("train_cases=true", "train_cases='2'"):
        done = CliRunner().invoke(main, [*given, "--set", text])
        assert done.exit_code == 2
        assert "train_cases: input should be a valid integer" in done.output


@pytest.mark.parametrize(("name", "value"), [("trials", True), ("trials", "'4'"), ("hours", "'1'")])
def test_a_searchs_budget_is_a_number(tmp_path: Path, name: str, value: Any) -> None:
    text = SPEC.replace("LABELED", "2, val: 1").replace("LR", "0.1").replace("CANVASES", "1")
    text += f"search: {{params: {{ssl.optim.lr: [0.1, 0.9]}}, arm: a, {name}: {str(value).lower()}}}\n"
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    output = CliRunner().invoke(main, ["validate", str(path), "--profile", "smoke"]).output
    assert f"search: {name}: input should be a valid" in output
