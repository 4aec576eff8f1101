"""A database of studies with odd contents: one message, what is wrong, that it may be moved away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from sfrbench.errors import SfrbenchError
from sfrbench.machine.needs import Machine
from sfrbench.report.items import kinds
from sfrbench.run.experiment import Experiment, open_experiment
from sfrbench.search.storage import default_storage, open_storage
from sfrbench.search.studies import read_study, study_name
from tests.support.searches import SPEC


@pytest.fixture
def searched(tmp_path: Path) -> Experiment:
    """An experiment whose study has two complete trials."""
    (tmp_path / "small.yaml").write_text(SPEC)
    (tmp_path / "runs").mkdir()
    experiment = open_experiment(
        str(tmp_path / "small.yaml"), "smoke", Machine(tmp_path / "runs"), items=kinds()
    )
    storage = open_storage(default_storage(tmp_path / "runs"))
    study = optuna.create_study(study_name=study_name(experiment), storage=storage, direction="maximize")
    for number in range(2):
        space = {
            path: optuna.distributions.CategoricalDistribution(values.choices)
            for path, values in experiment.plan.space.items()
        }
        trial = optuna.trial.create_trial(
            value=50.0 + number,
            params={path: values.choices[number] for path, values in experiment.plan.space.items()},
            distributions=space,
            user_attrs={"ran": 3, "reused": 1, "nodes": {"0": {"retrain": ["retrain", "abc"]}}},
        )
        study.add_trial(trial)
    return experiment


def test_a_sound_study_is_read(searched: Experiment) -> None:
    study = read_study(searched)
    assert study is not None
    assert [trial.value for trial in study.trials] == [50.0, 51.0]
    assert study.nodes == 8
    assert study.trials[0].facts["nodes"]["0"]["retrain"] == ["retrain", "abc"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE trial_user_attributes SET value_json = '[1]'", "says of its"),
        ("UPDATE trial_user_attributes SET value_json = 'no JSON'", "JSONDecodeError"),
        ("DELETE FROM trial_params", "is complete and has no values"),
        ("UPDATE trial_params SET distribution_json = '{}'", "is broken"),
        ("UPDATE trials SET state = 'DONE'", "is broken"),
        ("DROP TABLE trial_values", "is complete and has no values"),
    ],
)
def test_odd_contents_are_one_message(searched: Experiment, change: str, told: str) -> None:
    path = searched.machine.workspace / "studies.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(SfrbenchError, match=told) as caught:
        read_study(searched)
    assert "studies.db" in str(caught.value)
    assert "move it away" in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "junk"])
def test_a_damaged_file_is_one_message(searched: Experiment, damage: str) -> None:
    path = searched.machine.workspace / "studies.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3] if damage == "cut" else b"no database at all " * 500)
    with pytest.raises(SfrbenchError, match="move it away") as caught:
        read_study(searched)
    assert "studies.db" in str(caught.value)
