"""Which nodes the trials of studies need, whichever experiment they are of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sfrbench.run.wanted import User
from sfrbench.search.storage import default_storage, faults_of, open_storage
from sfrbench.search.studies import nodes_of

if TYPE_CHECKING:
    import optuna


def users_in(workspace: Path, storage: str | None = None) -> list[User]:
    """The studies of a workspace's own database, and of another one where it is given.

    Raises ``SfrbenchError`` where one cannot be read.
    """
    own = workspace / "studies.db"
    urls = [default_storage(workspace)] if own.is_file() else []
    urls += [storage] if storage is not None and storage not in urls else []
    return [user for url in urls for user in _users(url)]


def _users(url: str) -> Iterator[User]:
    import optuna

    opened = open_storage(url)
    with faults_of(url, reading=True):
        names = optuna.get_all_study_names(opened)
        studies = [optuna.load_study(study_name=name, storage=opened) for name in names]
        users = [_user(study.study_name, study.get_trials(deepcopy=False)) for study in studies]
    yield from users


def _user(name: str, trials: list[optuna.trial.FrozenTrial]) -> User:
    """A study; the checkpoints of trials that were pruned are nobody's to go on with."""
    nodes = {trial.number: frozenset(nodes_of(trial)) for trial in trials}
    goes_on = [nodes[trial.number] for trial in trials if trial.state.name != "PRUNED"]
    experiment = name.rpartition("-")[0]
    return User(experiment, "study", name, frozenset().union(*nodes.values()), frozenset().union(*goes_on))
