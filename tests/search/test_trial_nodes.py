"""What trials stand on is kept, whichever database knows of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from sfrbench.errors import SfrbenchError, StoreError
from sfrbench.files.urls import sqlite_url
from sfrbench.run.leftovers import Survey
from sfrbench.run.leftovers import survey as look
from sfrbench.search.storage import open_storage
from sfrbench.search.trial_nodes import users_in
from sfrbench.store.locks import is_held
from sfrbench.store.store import Store
from tests.support.leftovers import link, make
from tests.support.searches import SPEC, search, study_of

RUNS = Path("runs")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which nothing but a search of one trial was run; the gate was closed while it noted."""
    folder = tmp_path_factory.mktemp("trials")
    held: list[bool] = []
    noted = optuna.trial.Trial.set_user_attr

    def note(trial: optuna.trial.Trial, key: str, value: Any) -> None:
        if key == "nodes":
            held.append(is_held(RUNS / "store" / "locks" / "clean.lock"))
        noted(trial, key, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(optuna.trial.Trial, "set_user_attr", note)
        Path("small.yaml").write_text(SPEC)
        search("--trials", "1")
    assert held == [True]
    return folder


@pytest.fixture
def _copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


def survey(storage: str | None = None) -> Survey:
    return look(RUNS, lambda place: users_in(place, storage))


@pytest.mark.usefixtures("_copy")
def test_everything_that_a_search_made_is_needed() -> None:
    store, other = Store(RUNS / "store"), link("retrain", "other")
    made = {
        (stage, record["key"])
        for stage in ("prepare", "retrain", "evaluate")
        for record in store.records(stage)
    }
    make(store, other)
    found = survey()
    assert made <= found.needed
    assert {each.item.link for each in found.leftovers} == {other}
    (user,) = (user for user in found.users if user.what == "study")
    assert (user.name, user.source) == ("small-smoke", study_of().name)


@pytest.mark.usefixtures("_copy")
def test_the_checkpoint_of_a_trial_that_was_pruned_is_nobodys() -> None:
    study = optuna.load_study(
        study_name=study_of().name, storage=open_storage(sqlite_url(RUNS / "studies.db"))
    )
    trained = {"pruned": optuna.trial.TrialState.PRUNED, "failed": optuna.trial.TrialState.FAIL}
    for name, state in trained.items():
        node = link("retrain", name)
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=study.trials[0].params,
                distributions=study.trials[0].distributions,
                user_attrs={"nodes": {"0": {"retrain": node}}},
            )
        )
        scratch = Store(RUNS / "store").scratch(*node)
        scratch.mkdir(parents=True)
        (scratch / "checkpoint.pt").touch()
    found = survey()
    assert {link("retrain", name) for name in trained} <= found.needed
    assert [each.item.link for each in found.leftovers] == [link("retrain", "pruned")]


@pytest.mark.usefixtures("_copy")
@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + b"x" * 5000])
def test_studies_that_cannot_be_read_stop_everything(content: bytes) -> None:
    (RUNS / "studies.db").write_bytes(content)
    with pytest.raises(SfrbenchError, match=r"studies\.db|search-small-smoke"):
        survey()


@pytest.mark.usefixtures("_copy")
def test_a_trial_whose_nodes_cannot_be_read_stops_everything() -> None:
    study = optuna.load_study(
        study_name=study_of().name, storage=open_storage(sqlite_url(RUNS / "studies.db"))
    )
    trial = study.ask()
    trial.set_user_attr("nodes", {"0": "retrain"})
    with pytest.raises(StoreError, match=r"nodes(.|\n)*studies\.db|studies\.db(.|\n)*nodes"):
        survey()


@pytest.mark.usefixtures("_copy")
def test_studies_elsewhere_are_asked_for() -> None:
    Path("runs/studies.db").rename("elsewhere.db")
    with pytest.raises(StoreError, match=r"--storage"):
        survey()
    assert survey(sqlite_url(Path("elsewhere.db"))).leftovers == []
