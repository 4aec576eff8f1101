"""Datasets that were prepared ahead of the experiments that will use them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sfrbench.errors import problem_of
from sfrbench.files.atomic import write_atomic
from sfrbench.plan.graph import Node
from sfrbench.run.begun import begun
from sfrbench.run.experiment import Entry, Journal
from sfrbench.store.store import Store

log = logging.getLogger(__name__)


@contextmanager
def noted(workspace: Path, store: Store, name: str, node: Node) -> Iterator[None]:
    """Have the workspace's journal say, once the node is there, that it is wanted: ``clean`` keeps it.

    ``name``: of the dataset and the profile.
    """
    title = f"data {name}"
    started = _now()
    with begun(workspace, store, title, [(node.stage, node.key)]) as ended:
        yield
        entry = Entry(stage=node.stage, key=node.key, status="ran", reason="prepared", seconds=0.0, log="")
        journal = Journal(started=started, ended=_now(), tracking_fault=None, nodes=[entry])
        try:
            write_atomic(workspace / "journal" / f"{title}.json", journal.model_dump_json(indent=1))
        except OSError as error:  # the volumes are in the store
            log.warning("that these data are wanted cannot be noted: %s", problem_of(error))
        else:
            ended()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
