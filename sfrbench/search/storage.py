"""Where studies are kept: the database that Optuna opens, and what it says where that is broken or gone."""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.errors import InputError, SfrbenchError, StoreError, chain
from sfrbench.files.databases import (
    Turn,
    Waiting,
    engine_options,
    is_postgres,
    one_at_a_time,
    with_driver,
)
from sfrbench.files.urls import check_answers, masked, sqlite_file, sqlite_url, without_secrets_of
from sfrbench.run.experiment import Experiment

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

MAX_RETRY = 3  # a trial that kills its worker more often than this has failed
AWAY_S = 300.0  # for a server that went away and may come back
_GO_ON = "finished trainings are in the store: the same command goes on with them"
_APART = "make another database: studies and MLflow need one each"
_MOVE = "move it away: finished trainings are in the store, and the same search goes on with them"


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
    """The storage of a URL.

    Raises ``InputError`` where it cannot be opened, ``NotReadyError`` where there is no driver for it.

    With a ``heartbeat`` in seconds, a trial that was silent for three of them is run again by another worker,
    and a server that goes away is waited for.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    address = with_driver(url)
    extra: dict[str, Any] = {"engine_kwargs": engine_options(address)}
    if heartbeat is not None:
        extra |= {
            "heartbeat_interval": heartbeat,
            "grace_period": 3 * heartbeat,
            "heartbeat_stale_trial_callback": retry(MAX_RETRY),
        }
    storage: Any
    try:
        check_answers(address)
        with one_at_a_time(address, "tables of studies") as versions:
            if not all(version.startswith("v") for version in versions):
                raise InputError("holds MLflow's tables", where=f"--storage {masked(url)}", hint=_APART)
            # Optuna fills braces in
            storage = _storage_class()(address.replace("{", "{{").replace("}", "}}"), **extra)
    except SfrbenchError:
        raise
    except Exception as error:  # of the database's driver, whichever it is
        what = f"cannot be opened: {_said(error, url)[:200]}"
        raise InputError(what, where=f"--storage {masked(url)}", hint=_remedy(error, url)) from None
    if heartbeat is not None and not url.startswith("sqlite"):
        name = f"the database of studies {masked(url)}"
        storage.waiting = Waiting(storage.engine, name, AWAY_S, _GO_ON)
    opened: optuna.storages.RDBStorage = storage
    return opened


def _remedy(error: Exception, url: str) -> str:
    """What to do about a database that cannot be opened."""
    file = sqlite_file(url) if url.startswith("sqlite") else None
    if file is not None and file.is_file():
        return f"if {file} is broken, move it away: finished trainings are in the store"
    if is_postgres(url) and "password" in str(error):
        return "a password stands in the URL, which $SFRBENCH_STORAGE may hold, or in ~/.pgpass"
    missing = re.search(r'database "([^"]+)" does not exist', str(error))
    if missing is not None:
        return f"make it, as its server's administrator: createdb {missing[1]}"
    return "a database by URL, such as sqlite:////data/studies.db or postgresql://user@host/studies"


def _said(error: BaseException, url: str) -> str:
    """The first line of what a database says, without the secrets of its address."""
    from sqlalchemy.exc import DBAPIError

    drivers = next((str(each.orig) for each in chain(error) if isinstance(each, DBAPIError)), None)
    return without_secrets_of(url, drivers or f"{type(error).__name__}: {error}").splitlines()[0]


def turn_of(storage: optuna.storages.RDBStorage, study: str) -> Turn | None:
    """A worker's turn to ask a study for a trial, where the database gives turns to workers everywhere."""
    return Turn(storage.engine, f"asks {study}") if is_postgres(storage.url) else None


def _storage_class() -> Any:
    import optuna

    class Storage(optuna.storages.RDBStorage):
        waiting: Waiting | None = None

        def _get_stale_trial_ids(self, study_id: int) -> list[int]:
            """While a server is away nobody can give a sign of life: then all get the time to give one."""
            heartbeat = self.get_heartbeat_interval() or 0
            if self.waiting is not None and time.monotonic() - self.waiting.back < 2 * heartbeat:
                return []
            return super()._get_stale_trial_ids(study_id)

        def record_heartbeat(self, trial_id: int) -> None:
            """Called by a thread of its own, whose errors would end it and print a traceback.

            The trial itself meets the same error when it next reports, and says it.
            """
            try:
                super().record_heartbeat(trial_id)
            except (optuna.exceptions.StorageInternalError, StoreError) as error:
                log.debug("no heartbeat of trial %d: %s", trial_id, error)

    return Storage


@contextmanager
def faults_of(url: str, *, reading: bool = False) -> Iterator[None]:
    """Turns what Optuna says of a database that is gone, out of reach or broken into a ``StoreError``.

    Optuna and SQLAlchemy end in errors of any kind where tables are gone or hold odd things. While nothing
    but the database is at work (``reading``), all of them are the database's.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except Exception as error:
        said = next((each for each in chain(error) if isinstance(each, SfrbenchError)), None)
        if said is not None:
            raise said from None
        file = sqlite_file(url)
        if file is not None and not (file.is_file() and file.stat().st_size):  # SQLite makes it anew, empty
            raise StudiesRemoved.at(url) from error
        kinds = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
        its_own = next((each for each in chain(error) if isinstance(each, kinds)), None)
        if its_own is None and not reading:
            raise
        broken = reading and (its_own is None or file is not None)
        told = _said(its_own or error, url)[:200]
        what = f"the database of studies {'is broken' if broken else 'fails'}: {told}"
        raise StoreError(what, where=masked(url), hint=_MOVE if broken else _GO_ON) from error


def retry(limit: int | None = None) -> optuna.storages.RetryHeartbeatStaleTrialCallback:
    """Puts a trial whose worker is gone in line again, with the same values."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=limit)
