"""Code that decides results may not change unnoticed: it needs a raised version, or a refresh.

``tests/golden/code.json`` has a line for each stage, each class behind a card, and the base class of each
kind: a fingerprint of all the code that it rests on (``tests/code_prints.py``), and the version that stands
in keys. Where the fingerprint differs and the version does not, old artefacts would be reused for new
behaviour. If behaviour did change, raise ``version`` of the component or in the stage's
recipe; if it did not (a rename, a type), refresh with ``python tests/test_versions.py``.

Code that a base class or a stage rests on is theirs alone: what every method shares is a line, not one in
each of theirs. So a new class is one new line, and a file that moves changes none.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden" / "code.json"
WRITTEN_BY = (3, 11)  # the Python whose ast.unparse the fingerprints are of
sys.path.insert(0, str(ROOT))

from sfrbench.catalog.cards import Catalog  # noqa: E402
from sfrbench.catalog.code import BASES, our_classes  # noqa: E402
from sfrbench.components.base import Component, Optim  # noqa: E402
from sfrbench.components.core import PACKAGE  # noqa: E402
from sfrbench.components.ssl._cubes import cut  # noqa: E402
from sfrbench.components.ssl.consistency import Consistency  # noqa: E402
from sfrbench.maths.losses import dice  # noqa: E402
from sfrbench.stages.finder import recipes  # noqa: E402
from tests.support.code_prints import Code, Definition  # noqa: E402

#: They say, keep and write, and decide no number.
OUTSIDE = [f"{PACKAGE}.{name}" for name in ("errors", "files", "children", "store")]
#: Kind -> the stages in whose keys its components stand first; all later keys follow from those.
STAGES = {
    "dataset": ("prepare",),
    "stitch": ("finetune", "canvases"),
    "foundation": ("finetune", "canvases", "interact"),
    "finetune": ("finetune",),
    "backbone": ("retrain",),
    "ssl": ("retrain",),
    "selector": ("finetune", "retrain"),
    "prompter": ("interact",),
    "protocol": ("predict", "evaluate"),
}
Entries = Mapping[str, Mapping[str, Any]]


def place(thing: Any) -> Definition:
    return thing.__module__, thing.__name__


def ours(base: type[Component] = Component) -> Iterator[type[Component]]:
    """Every class of the package made from ``base``."""
    for cls in base.__subclasses__():
        if cls.__module__.partition(".")[0] == PACKAGE:
            yield cls
            yield from ours(cls)


def every_class() -> dict[str, list[type[Component]]]:
    """All classes of the package by kind, those that others are made from, too."""
    for kind in BASES:
        our_classes(kind)  # imports them
    return {kind: list(dict.fromkeys(ours(base))) for kind, base in BASES.items()}


@dataclass(frozen=True)
class Entry:
    """What a line is of: where its code begins, and the version that stands in keys (a kind has none)."""

    name: str
    roots: Sequence[Definition]
    version: int | None


def stage_entries() -> list[Entry]:
    places = {stage: (f"{PACKAGE}.stages.{stage}.run", "run") for stage in recipes()}
    return [Entry(f"stage/{stage}", [at], recipes()[stage].version) for stage, at in places.items()]


def class_entry(cls: type[Component]) -> Entry:
    """A class with those of its kind that it is made from, its base class aside."""
    own = [one for one in cls.__mro__ if issubclass(one, BASES[cls.kind]) and one is not BASES[cls.kind]]
    return Entry(cls.identity(), [place(one) for one in own], cls.version)


def carded() -> list[type[Component]]:
    classes = (card.component_class for card in Catalog.read().cards())
    return [cls for cls in dict.fromkeys(classes) if cls.__module__.partition(".")[0] == PACKAGE]


def current(code: Code | None = None, more: Sequence[Entry] = ()) -> dict[str, dict[str, Any]]:
    """The lines as they are now; ``more`` are further classes."""
    code = code or Code(ROOT, PACKAGE)
    classes = {place(cls) for known in every_class().values() for cls in known}
    bases = {kind: [place(one) for one in base.__mro__ if one.__module__.startswith(f"{PACKAGE}.")]
             for kind, base in BASES.items()}  # fmt: skip
    components = classes | {at for known in bases.values() for at in known}
    found: dict[str, dict[str, Any]] = {}
    theirs: dict[str, set[Definition]] = {}

    def note(entry: Entry, but: Collection[Definition]) -> set[Definition]:
        reached = code.reached(entry.roots, set(but) - set(entry.roots), OUTSIDE)
        version = {} if entry.version is None else {"version": entry.version}
        found[entry.name] = {"code": code.print_of(reached), **version}
        return reached

    for entry in stage_entries():
        theirs[entry.name] = note(entry, components)
    for kind, roots in bases.items():
        theirs[kind] = note(Entry(f"kind/{kind}", roots, None), components)
    for entry in [*map(class_entry, carded()), *more]:
        kind = entry.name.partition("/")[0]
        in_all = set.intersection(*(theirs[f"stage/{stage}"] for stage in STAGES[kind]))
        note(entry, components | theirs[kind] | in_all)
    return found


def unnoticed(old: Entries, now: Entries) -> list[str]:
    """The lines whose code changed while no version says so: a stage's own; a class's own, or those of all
    the stages in whose keys it stands first; for the base of a kind those stages', or all of its classes'.
    """

    def raised(*names: str) -> bool:
        pairs = [[entries.get(name, {}).get("version") for entries in (old, now)] for name in names]
        return all(before != after for before, after in pairs)

    def covered(name: str) -> bool:
        kind = name.removeprefix("kind/").partition("/")[0]
        if kind == "stage":
            return raised(name)
        classes = [other for other in now if other.startswith(f"{kind}/")]
        own = classes if name == f"kind/{kind}" else [name]
        return raised(*own) or raised(*(f"stage/{stage}" for stage in STAGES[kind]))

    both = [name for name in now if name in old and now[name]["code"] != old[name]["code"]]
    return [name for name in both if not covered(name)]


def changed(old: Entries, now: Entries) -> set[str]:
    return {name for name in {**old, **now} if old.get(name) != now.get(name)}


def with_text(thing: Any, old: str, new: str) -> Code:
    """The package with another text in the module of a class or a function."""
    text = Path(inspect.getsourcefile(thing) or "").read_text(encoding="utf-8")
    assert text.count(old) == 1
    return Code(ROOT, PACKAGE, {thing.__module__: text.replace(old, new)})


@pytest.fixture(scope="module")
def golden() -> Entries:
    found: Entries = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def now() -> Entries:
    return current()


@pytest.mark.skipif(sys.version_info[:2] != WRITTEN_BY, reason="other Pythons write code otherwise")
def test_changed_code_has_a_raised_version(golden: Entries, now: Entries) -> None:
    assert unnoticed(golden, now) == [], f"code changed and no version was raised: see {__file__}"


def test_the_file_has_a_line_of_everything(golden: Entries, now: Entries) -> None:
    assert list(golden) == sorted(now), "run 'python tests/test_versions.py'"


def test_every_stage_and_kind_is_guarded(now: Entries) -> None:
    assert set(STAGES) == set(BASES)
    assert {f"stage/{stage}" for stage in recipes()} | {f"kind/{kind}" for kind in BASES} < set(now)
    assert {cls.identity() for cls in carded()} < set(now)


def test_the_rate_of_learning_is_guarded(now: Entries) -> None:
    other = current(with_text(Optim, "return self.lr * (step + 1) / self.warmup", "return self.lr"))
    training = {"stage/finetune", "stage/retrain", "kind/finetune", "kind/ssl"}
    assert changed(now, other) == training
    assert set(unnoticed(now, other)) == training
    for stage in ("finetune", "retrain"):
        other[f"stage/{stage}"]["version"] += 1
    assert unnoticed(now, other) == []


@pytest.mark.parametrize(
    ("kind", "old", "new", "lines"),
    [
        ("foundation", "unit = ((image - low) /", "unit = ((image - high) /", {"kind/foundation"}),
        ("selector", '"power": 0.9', '"power": 1.0', {"kind/selector"}),
        ("dataset", 'settings["deepened"] = 3', 'settings["deepened"] = 4', {"kind/dataset"}),
    ],
)
def test_what_a_base_class_does_is_guarded(
    now: Entries, kind: str, old: str, new: str, lines: set[str]
) -> None:
    other = current(with_text(BASES[kind], old, new))
    assert changed(now, other) == lines == set(unnoticed(now, other))


def test_a_helper_of_one_method_is_a_matter_of_that_method(now: Entries) -> None:
    other = current(with_text(cut, "split.permute(0, 6, 4, 2", "split.permute(0, 2, 4, 6"))
    assert changed(now, other) == {"ssl/MagicNet"} == set(unnoticed(now, other))
    other["ssl/MagicNet"]["version"] += 1
    assert unnoticed(now, other) == []


NEW = f'''
from {Consistency.__module__} import Consistency
from {cut.__module__} import cut
from {dice.__module__} import dice


class Brand(Consistency):
    """A new method."""

    def loss(self, step):
        return dice(cut(step.probs, (1, 1, 1)))
'''


def test_a_new_class_is_one_line(now: Entries) -> None:
    at = (f"{PACKAGE}.brand", "Brand")
    entry = Entry("ssl/Brand", [at, *class_entry(Consistency).roots], 1)
    other = current(Code(ROOT, PACKAGE, {at[0]: NEW}), [entry])
    assert changed(now, other) == {"ssl/Brand"}
    assert unnoticed(now, other) == []


BEFORE = '''"""Doc."""
from sfrbench import here
from sfrbench.here import SIZE as size
from sfrbench.here import f


def g(x):  # why
    """Doc."""
    from sfrbench.here import h

    return f(x) + h(x) + here.f(x) + size


class C(Model):
    a: int = Field(1, ge=0, description="a number")
'''
HERE = "SIZE = 3\n\n\ndef f(x):\n    return x + 1\n\n\ndef h(x):\n    return f(x) * SIZE\n"
AFTER = """from sfrbench.there import SIZE, f, h
def g(x): return f(x) + h(x) + f(x) + SIZE
class C(Model):
    a: int = Field(1, ge=0, description="how many")
"""


def printed(own: str, module: str, text: str) -> str:
    code = Code(Path("nowhere"), PACKAGE, {f"{PACKAGE}.m": own, f"{PACKAGE}.{module}": text})
    return code.print_of(code.reached([(f"{PACKAGE}.m", "g"), (f"{PACKAGE}.m", "C")], ()))


def test_a_fingerprint_sees_code_and_neither_words_nor_places() -> None:
    plain = printed(BEFORE, "here", HERE)
    assert printed(AFTER, "there", HERE) == plain
    assert printed(AFTER, "there", HERE + "\n\ndef unused():\n    return 5\n") == plain
    for old, new in (("x + 1", "x + 2"), ("* SIZE", "- SIZE"), ("SIZE = 3", "SIZE = 4")):
        assert printed(AFTER, "there", HERE.replace(old, new)) != plain
    for old, new in (("ge=0", "ge=1"), ("+ h(x)", "- h(x)"), ("a: int", "a: float")):
        assert printed(AFTER.replace(old, new), "there", HERE) != plain


def written(entries: Entries) -> str:
    """A line for each, so that a change is one line of a diff."""
    lines = [f" {json.dumps(name)}: {json.dumps(entries[name])}" for name in sorted(entries)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    if sys.version_info[:2] != WRITTEN_BY:
        sys.exit("fingerprints are made with Python 3.11: other versions write code otherwise")
    entries = current()
    GOLDEN.write_text(written(entries), encoding="utf-8")
    print(f"{len(entries)} lines: {GOLDEN}")
