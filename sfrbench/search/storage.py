"""Where studies are kept: the database that Optuna opens, and what it says where that is broken or gone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.errors import InputError, SfrbenchError, StoreError
from sfrbench.files.urls import check_answers, masked, sqlite_file, sqlite_url, without_secrets_of
from sfrbench.run.experiment import Experiment

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

MAX_RETRY = 3  # a trial that kills its worker more often than this has failed
_GO_ON = "finished trainings are in the store: the same command goes on with them"


class StudiesRemoved(StoreError):
    """The database file of the studies was removed during a search."""

    @classmethod
    def at(cls, url: str) -> StudiesRemoved:
        return cls("the database of studies was removed", where=masked(url), hint=_GO_ON)


def default_storage(workspace: Path) -> str:
    return sqlite_url(workspace / "studies.db")


def storage_url(experiment: Experiment, storage: str | None) -> str:
    """Where the studies of an experiment are; ``storage`` as given by the user."""
    return storage or default_storage(experiment.machine.workspace)


def open_storage(url: str, heartbeat: int | None = None) -> optuna.storages.RDBStorage:
    """The storage of a URL. Raises ``InputError`` where it cannot be opened.

    With a ``heartbeat`` in seconds, a trial that was silent for three of them is run again by another worker.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    extra: dict[str, Any] = {}
    if url.startswith("sqlite"):
        extra["engine_kwargs"] = {"connect_args": {"timeout": 60}}
    if heartbeat is not None:
        extra |= {
            "heartbeat_interval": heartbeat,
            "grace_period": 3 * heartbeat,
            "heartbeat_stale_trial_callback": retry(MAX_RETRY),
        }
    try:
        check_answers(url)
        # Optuna fills braces in
        return _storage_class()(url.replace("{", "{{").replace("}", "}}"), **extra)
    except Exception as error:  # of the database's driver, whichever it is
        what = f"cannot be opened: {type(error).__name__}: {_said(error, url)[:200]}"
        hint = "a database by URL, such as sqlite:////data/studies.db or postgresql://user@host/studies"
        file = sqlite_file(url) if url.startswith("sqlite") else None
        if file is not None and file.is_file():
            hint = f"if {file} is broken, move it away: finished trainings are in the store"
        raise InputError(what, where=f"--storage {masked(url)}", hint=hint) from None


def _said(error: Exception, url: str) -> str:
    """The first line of what a database says, without the secrets of its address."""
    return without_secrets_of(url, str(error) or type(error).__name__).splitlines()[0]


def _storage_class() -> type[optuna.storages.RDBStorage]:
    import optuna

    class Storage(optuna.storages.RDBStorage):
        def record_heartbeat(self, trial_id: int) -> None:
            """Called by a thread of its own, whose errors would end it and print a traceback.

            The trial itself meets the same error when it next reports, and says it.
            """
            try:
                super().record_heartbeat(trial_id)
            except optuna.exceptions.StorageInternalError as error:
                log.debug("no heartbeat of trial %d: %s", trial_id, error)

    return Storage


@contextmanager
def storage_faults(experiment: Experiment, storage: str | None) -> Iterator[None]:
    """Turns what Optuna says of a database that is gone or out of reach into a ``StoreError``."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    url = storage_url(experiment, storage)
    try:
        yield
    except Exception as error:  # Optuna ends in errors of any kind where its tables are gone
        file = sqlite_file(url)
        if file is not None and not (file.is_file() and file.stat().st_size):  # SQLite makes it anew, empty
            raise StudiesRemoved.at(url) from error
        if not isinstance(error, optuna.exceptions.StorageInternalError | SQLAlchemyError):
            raise
        told = _said(error, url)
        raise StoreError(f"the database of studies {told}", where=masked(url), hint=_GO_ON) from error


def retry(limit: int | None = None) -> optuna.storages.RetryHeartbeatStaleTrialCallback:
    """Puts a trial whose worker is gone in line again, with the same values."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=limit)


@contextmanager
def readable(url: str) -> Iterator[None]:
    """Turns whatever a database of studies with odd contents leads to into a ``StoreError``."""
    try:
        yield
    except SfrbenchError:
        raise
    except Exception as error:  # Optuna and SQLAlchemy end in errors of any kind
        hint = "move it away: finished trainings are in the store, and the same search goes on with them"
        what = f"the database of studies is broken: {type(error).__name__}: {_said(error, url)[:200]}"
        raise StoreError(what, where=masked(url), hint=hint) from error
