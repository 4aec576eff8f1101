"""Who opens labels of test cases: ``evaluate``, ``interact``, a report's pictures; how they are counted."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Said, Scene
from sfrbench.components.prompter.clicks import Clicks
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.volumes import OPENS_TEST, Volumes
from sfrbench.errors import DataError, LeakError
from sfrbench.stages.finder import recipes
from tests.support import prompted
from tests.support.places import ROOT
from tests.support.prompted import Boxer, Corrector
from tests.support.talks import Talks, labels_of, maps_of, said_of

SHAPE = (14, 12, 9)
#: The modules that ask for labels, with the purposes that they name.
ASKS = {
    "stages/finetune/data.py": {"finetune"},
    "stages/retrain/run.py": {"retrain"},
    "stages/retrain/validation.py": {"validation"},
    "stages/features/run.py": {"EVALUATE: features"},  # of training cases alone
    "stages/evaluate/run.py": {"EVALUATE"},
    "stages/interact/run.py": {"INTERACT: prompts"},
    "report/facts/volumes.py": {"EVALUATE: picture"},
    "report/facts/canvases.py": {"EVALUATE: picture"},
}


def purposes(source: str) -> set[str]:
    """What a module says that it wants labels for: the second argument of every ``volumes.labels(...)``.
    Constants of the module are looked up."""
    tree = ast.parse(source)
    known = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) == 2]
    asked = [call.args[1] for call in calls if ast.unparse(call.func).endswith(".labels")]
    named = [known.get(one.id, one) if isinstance(one, ast.Name) else one for one in asked]
    return {re.sub("[{}'\"]", "", ast.unparse(one).removeprefix("f")) for one in named}


def test_the_whole_package_asks_for_labels_in_these_places_alone() -> None:
    package = ROOT / "sfrbench"
    texts = {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
    }
    found = {name: purposes(text) for name, text in texts.items() if ".labels(" in text}
    assert {name: asked for name, asked in found.items() if asked} == ASKS
    # and nobody goes around the gate, to the files
    assert {name for name, text in texts.items() if "._array(" in text} == {"engine/volumes.py"}
    around = re.compile(r"""(inputs\[["']prepare["']\]|prepared?)\.path\(""")
    assert not {name for name, text in texts.items() if around.search(text)}


@pytest.fixture
def talks(tmp_path: Path) -> Talks:
    return Talks.of(tmp_path, labels_of(SHAPE, 3), 3, trainable=False)


def test_of_all_stages_two_open_labels_of_test_cases(talks: Talks) -> None:
    volumes = Volumes(talks.prepare)
    opening = set()
    for stage in recipes():
        for purpose in (stage, f"{stage}: anything"):
            try:
                assert volumes.labels(["t0"], purpose)["t0"].any()
            except LeakError:
                continue
            opening.add(purpose)
    assert OPENS_TEST == ("evaluate", "interact")
    assert opening == {purpose for stage in OPENS_TEST for purpose in (stage, f"{stage}: anything")}
    for near in ("interaction", "evaluated", "evaluate test", "Interact", "", ": interact", "x: evaluate"):
        with pytest.raises(LeakError, match="only evaluate and interact open labels of test cases"):
            volumes.labels(["t0"], near)


class Watched(Clicks):
    """Clicks that remember what they saw."""

    def say(self, scene: Scene) -> Said:
        SEEN.append(scene.truth.copy())
        return super().say(scene)


SEEN: list[NDArray[np.bool_]] = []


def test_a_user_sees_the_objects_of_the_cases_that_it_prompts_and_nothing_else(talks: Talks) -> None:
    """Label files of training cases are not even there."""
    SEEN.clear()
    labels = labels_of(SHAPE, 3)
    talks("one", prompter=Watched(number=2), split=_split(max_test=1))
    assert [one.tolist() for one in SEEN] == [
        (labels["t0"] == label).tolist() for label in (1, 2) for _ in range(2)
    ]


def _split(**fields: Any) -> Any:
    from sfrbench.stages.settings import SplitSettings

    return SplitSettings(**fields)


def guess_of(talks: Talks, labels: dict[str, NDArray[np.uint8]]) -> Any:
    """A predict artefact with these maps."""
    folder = talks.folder / "guess"
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for case, label in labels.items():
        np.save(folder / "labels" / f"{case}.npy", label)
    return artefact_of("predict", folder)


def test_a_user_who_goes_by_a_prediction_opens_no_label(tmp_path: Path) -> None:
    labels = labels_of(SHAPE, 3)
    talks = Talks.of(tmp_path, labels, 3, trainable=False)
    for file in (tmp_path / "prepared" / "labels").iterdir():
        file.unlink()
    talks = Talks(talks.folder, artefact_of("prepare", tmp_path / "prepared"))
    guess = {case: np.zeros(SHAPE, np.uint8) for case in labels}
    for number, label in enumerate(guess.values()):
        label[1:4, 2:5, 1:3] = 1
        label[8 : 10 + number, 6:9, 4:7] = 2
    talk = talks(prompter=Boxer(guess=True), guess=guess_of(talks, guess))
    ledger = talk.read_json("ledger.json")
    assert (ledger["labels_opened"], ledger["looks"]) == ([], {})
    assert ledger["prompts"] == {"t0": 2, "t1": 2}
    for case, label in guess.items():
        assert np.array_equal(maps_of(talk, case)[1], label)  # of boxes that are filled
        assert all(one["dice"] == [] for one in said_of(talk, case).values())  # what is true it does not know
    with pytest.raises(Exception, match=r"labels/t0\.npy"):
        talks("truth", prompter=Boxer())


@pytest.mark.parametrize(
    ("guess", "what"), [(np.full(SHAPE, 3), r"not 0\.\.2"), (np.zeros((2, 2, 2)), r"shape \[2, 2, 2\]")]
)
def test_a_prediction_that_is_none_of_the_volume(talks: Talks, guess: NDArray[Any], what: str) -> None:
    made = guess_of(talks, {"t0": guess.astype(np.uint8)})
    with pytest.raises(DataError, match=what):
        talks(prompter=Boxer(guess=True), guess=made)


def test_what_is_opened_is_cases_times_rounds(tmp_path: Path) -> None:
    """Of every promptable cell: three foundations, users of 1 to 4 rounds, 2 and 3 cases."""
    for number, (cases, user) in enumerate(
        [(2, Boxer()), (3, Corrector(number=4)), (2, Clicks(number=3)), (3, Clicks(number=1))]
    ):
        talks = Talks.of(tmp_path / str(number), labels_of(SHAPE, 3, cases), 3)
        for name in ("Ball", "LaterBall"):
            talk = talks(name, prompter=user, foundation=getattr(prompted, name)())
            ledger = talk.read_json("ledger.json")
            assert ledger["purpose"] == "interact: prompts"
            assert ledger["labels_opened"] == [f"t{case}" for case in range(cases)]
            assert sum(ledger["looks"].values()) == cases * user.rounds
            said = {case: said_of(talk, case) for case in ledger["looks"]}
            counted = {
                case: sum(Said.of(one).count for own in told.values() for one in own["said"])
                for case, told in said.items()
            }
            assert ledger["prompts"] == counted
            assert all(count <= 2 * user.rounds for count in counted.values())


def test_validation_cases_are_prompted_by_their_own_labels(tmp_path: Path) -> None:
    """With ``score: val`` no test label is opened."""
    talks = Talks.of(tmp_path, labels_of(SHAPE, 2), 2, train=3)
    rng = np.random.default_rng(0)
    for case in ("r0", "r1", "r2"):
        np.save(tmp_path / "prepared" / "labels" / f"{case}.npy", rng.integers(0, 2, SHAPE).astype(np.uint8))
    talks = Talks(talks.folder, artefact_of("prepare", tmp_path / "prepared"))
    talk = talks(prompter=Corrector(number=2), split=_split(val=1), subset="val")
    opened = talk.read_json("ledger.json")["labels_opened"]
    assert len(opened) == 1
    assert opened[0].startswith("r")
