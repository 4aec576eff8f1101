"""Datasets that were prepared ahead of the experiments that will use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfrbench.files.units import now
from sfrbench.plan.graph import Node
from sfrbench.run.begun import begun
from sfrbench.run.experiment import Entry, Journal
from sfrbench.store.store import Store


@contextmanager
def noted(workspace: Path, store: Store, name: str, node: Node) -> Iterator[None]:
    """Have the workspace's journal say, once the node is there, that it is wanted: ``clean`` keeps it.

    ``name``: of the dataset and the profile.
    """
    title, started = f"data {name}", now()
    with begun(workspace, store, title, [(node.stage, node.key)]) as ended:
        yield
        entry = Entry(stage=node.stage, key=node.key, status="ran", reason="prepared", seconds=0.0, log="")
        journal = Journal(started=started, ended=now(), tracking_fault=None, nodes=[entry])
        if journal.write(workspace / "journal" / f"{title}.json"):
            ended()
