"""YAML from anybody: plain values are read with their places, everything else is one message, at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sfrbench.errors import InputError
from sfrbench.files.yamlio import load, read_value


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return load(path)


PLAIN = [
    ("a: 1e-4", 1e-4),
    ("a: off", "off"),
    ("a: 12:30", "12:30"),
    ("a: 010", 10),
    ("a: 0o17", 15),
    ("a: 0x1F", 31),
    ("a: 1_000", 1000),
    ("a: ~", None),
    ("a:", None),
    ("a: 'yes'", "yes"),
    ("a: '1'", "1"),
    ("a: -.5", -0.5),
    ("a: 2020-01-01", "2020-01-01"),
    ("a: =", "="),
    ("a: -_", "-_"),
    ("a: .", "."),
    ("a: TRUE", True),
    ("a: ! 5", "5"),
    ("a: !!str 5", "5"),
    ("a: !!float 3", 3.0),
    ('a: "\\ud83d\\ude00"', "\U0001f600"),
    ('a: "\\t\\n"', "\t\n"),
    ("a: 9223372036854775807", 2**63 - 1),
    ("%YAML 1.1\n---\na: off", "off"),
    ("\ufeffa: 1", 1),
    ("b: &x {c: 1}\na: {<<: *x, d: 2}", {"c": 1, "d": 2}),
    ("a: {<<: [{c: 1}, {c: 2, d: 3}]}", {"c": 1, "d": 3}),
    ("a: {c: 1, <<: {c: 2}}", {"c": 1}),
    ("b: &x [1, 2]\na: *x", [1, 2]),
    ('a: {"<<": 1}', {"<<": 1}),
]


@pytest.mark.parametrize(("text", "value"), PLAIN)
def test_values_of_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    found = read(tmp_path, text).data["a"]
    assert found == value
    assert type(found) is type(value)


def test_a_merged_value_has_the_place_where_it_is_written(tmp_path: Path) -> None:
    document = read(tmp_path, "arms:\n  - &x {name: a, ssl.w_pl: 2}\n  - {<<: *x, name: b}\n")
    assert document.where("arms", 1, "ssl.w_pl").endswith("x.yaml:2:18")
    assert document.where("arms", 1, "name").endswith("x.yaml:3:14")
    assert document.where("arms", 1).endswith("x.yaml:3:5")


REFUSED = [
    ("a: !!binary aGk=", "1:4", "tag '!!binary'"),
    ("a: !!set {x}", "1:4", "'!!set'"),
    ("a: !!omap [x: 1]", "1:4", "'!!omap'"),
    ("a: !!timestamp 2020-01-01", "1:4", "'!!timestamp'"),
    ("a: !mine x", "1:4", "'!mine'"),
    ("a: !!int x", "1:4", "no int"),
    ("a: !!python/object/apply:os.system [ls]", "1:4", "'!!python/object"),
    ("a: !<tag:x.org:y> {b: 1}", "1:4", "tag:x.org"),
    ("a: .nan", "1:4", "no finite number"),
    ("a: -.inf", "1:4", "no finite number"),
    ("a: 1e999", "1:4", "no finite number"),
    ("a: " + "9" * 5000, "1:4", "beyond 64 bits"),
    ("a: 0x" + "f" * 5000, "1:4", "beyond 64 bits"),
    ("a: " + "[" * 5000, "1:43", "nested too deeply"),
    ("a: " + "{b: " * 900, "1:160", "nested too deeply"),
    ('a: "\\ud800"', "1:4", "lone surrogate"),
    ('"\\udfff": 1', "1:1", "lone surrogate"),
    ('a: "\\e[31m"', "1:4", "U+001B"),
    ('a: "\\a"', "1:4", "U+0007"),
    ('a: "\\r"', "1:4", "U+000D"),
    ('a: "\\u202e"', "1:4", "U+202E"),
    ('"\\0": 1', "1:1", "U+0000"),
    ("a: \u202ex", "1:4", "U+202E"),
    ("a: *x", "1:4", "undefined alias"),
    ("a: &x [*x]", "1:8", "never end"),
    ("a: &x {<<: *x}", "1:12", "never end"),
    ("<<: 5", "1:5", "merges a mapping"),
    ("<<: [{a: 1}, 2]", "1:14", "merges a mapping"),
    ("? [a]\n: 1", "1:3", "a key must be text"),
    ("b: &x [1]\n*x : 2", "2:1", "a key must be text"),
    ("a: 1\n---\nb: 2", "2:1", "second document"),
    ("a: 1\na: 2", "2:1", "duplicate key 'a'"),
    ('1: a\n"1": b', "2:1", "duplicate key"),
    ('a: "\\U99999999"', "1:1", "is not YAML"),
    (f"%YAML {'9' * 5000}.1\n---\na: 1", "1:1", "is not YAML"),
    ("a: \x1b", "", "special characters"),
    ("", "1:1", "must hold a mapping"),
    ("- 1", "1:1", "must hold a mapping"),
    ("\ud800: 1", "", "not UTF-8"),
    ("a: " + "x" * 1_000_001, "", "too large"),
]


@pytest.mark.parametrize(("text", "place", "what"), REFUSED, ids=[f"{e[0][:30]!r}" for e in REFUSED])
def test_what_is_no_plain_value_is_refused(tmp_path: Path, text: str, place: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    (problem,) = caught.value.problems
    assert problem.where.endswith(f"x.yaml:{place}" if place else "x.yaml")
    assert what in problem.what
    assert problem.hint


def bomb(line: str, levels: int) -> str:
    return "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} {line.replace('@', f'*a{n - 1}')}\n" for n in range(1, levels)
    )


@pytest.mark.parametrize("text", [
    bomb("[@,@,@,@,@,@,@,@,@,@]", 30), bomb("{x: @, y: @}", 60), bomb("[@]", 60),
    "a0: &a0 {k0: x}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: *a{n - 1}}}\n" for n in range(1, 60)),
    "a: [" + "1," * 30_000 + "]", "a: {" + ",".join(f"k{n}: 1" for n in range(30_000)) + "}",
])  # fmt: skip
def test_what_grows_without_end_is_refused_in_time(tmp_path: Path, text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"SFRBENCH_LIMITS=(values|depth)=NUMBER"):
        read(tmp_path, text)
    assert time.perf_counter() - started < 10


def test_a_limit_is_raised_and_lowered_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: [" + "1," * 30 + "]"
    monkeypatch.setenv("SFRBENCH_LIMITS", "values=20 depth=3")
    with pytest.raises(InputError, match="the limit is 20"):
        read(tmp_path, text)
    monkeypatch.setenv("SFRBENCH_LIMITS", "values=40,depth=3")
    assert len(read(tmp_path, text).data["a"]) == 30
    for wrong in ("valeus=3", "values", "values=x", "values=0", "values=-1", "values=1e9"):
        monkeypatch.setenv("SFRBENCH_LIMITS", wrong)
        with pytest.raises(InputError, match="SFRBENCH_LIMITS"):
            read(tmp_path, text)


def test_what_is_no_file_is_one_message(tmp_path: Path) -> None:
    for path in (
        tmp_path,
        tmp_path / "none.yaml",
        Path("a\0b.yaml"),
        tmp_path / ("x" * 300),
        Path("/dev/zero"),
    ):
        with pytest.raises(InputError) as caught:
            load(path)
        assert caught.value.problems[0].hint


def test_one_value_of_an_option() -> None:
    assert read_value("[1, a]", "--set x=[1, a]") == [1, "a"]
    assert read_value("", "--set x=") is None
    for text in ("[", ".nan", "!!set {a}", "9" * 5000):
        with pytest.raises(InputError, match="--set x"):
            read_value(text, f"--set x={text[:20]}")
