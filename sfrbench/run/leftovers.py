"""What a workspace's store holds that nobody needs any more, and removing it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sfrbench.errors import InputError, StoreError
from sfrbench.plan.schedule import behind
from sfrbench.run.wanted import Studies, User, users_of
from sfrbench.stages.recipe import Link
from sfrbench.store.contents import Contents, Item
from sfrbench.store.locks import is_held
from sfrbench.store.removal import Reason, Removed, remove
from sfrbench.store.store import Store

_ENDED = {
    "damaged": "it was set aside when its node was made anew",
    "temporary": "the process that wrote it is gone",
}
_NOBODY = "no experiment recorded here needs it"


@dataclass(frozen=True)
class Leftover:
    """Something that can go, and why."""

    item: Item
    reason: str


@dataclass(frozen=True)
class Survey:
    """What lies in a store and who needs it, at one moment."""

    store: Store
    contents: Contents
    users: Sequence[User]

    @cached_property
    def needed(self) -> frozenset[Link]:
        """All nodes that somebody needs, with what went into them."""
        return self.behind(link for user in self.users for link in user.nodes)

    def behind(self, links: Iterable[Link]) -> frozenset[Link]:
        """Nodes and the inputs of those that are there, and theirs."""
        there = self.contents.artefacts
        return frozenset(behind(links, lambda link: there[link].inputs if link in there else ()))

    @cached_property
    def _goes_on(self) -> frozenset[Link]:
        return frozenset(link for user in self.users for link in user.goes_on)

    def reason(self, item: Item) -> str:
        """Why something can go, as far as the disk says now; empty for what stays."""
        if item.linked:  # it may be others' as well
            return ""
        if item.kind in _ENDED:
            return _ENDED[item.kind]
        if item.kind == "work":
            return "" if self.store.folder(*item.link).is_dir() else "its node is gone"
        done = item.kind in ("checkpoint", "failure") and self.store.has(*item.link)
        if done:
            return "its node is done"
        if item.kind == "checkpoint":
            return "" if item.link in self._goes_on else "no experiment recorded here goes on with it"
        return "" if item.link in self.needed else _NOBODY

    @cached_property
    def leftovers(self) -> list[Leftover]:
        """Everything that can go, lock files last."""
        found = [Leftover(item, reason) for item in self.contents.items if (reason := self.reason(item))]
        return sorted(found, key=lambda each: each.item.kind == "lock")

    def check(self) -> None:
        """Raises ``StoreError`` where somebody works here of whom no record says what else he needs."""
        for item in self.contents.items:
            if item.kind == "lock" and item.link not in self.needed and is_held(item.path):
                told = (
                    f"a process works on {item.stage} {item.key[:12]}, and no record says what else it needs"
                )
                raise StoreError(told, where=str(item.path), hint="wait until it has ended")


def contents_of(workspace: Path) -> tuple[Store, Contents]:
    """What lies in the store of a workspace. Raises ``InputError`` where there is none."""
    store = Store(workspace / "store")
    if not store.root.is_dir():
        hint = "name the folder that --workspace names in other commands"
        raise InputError("no workspace with a store", where=str(workspace), hint=hint)
    return store, Contents.of(store)


def survey(workspace: Path, studies: Studies) -> Survey:
    """Look at a workspace. Raises ``StoreError`` where it cannot be told for certain what is needed."""
    store, contents = contents_of(workspace)
    found = Survey(store, contents, users_of(workspace, store, studies))
    found.check()
    return found


def clean(workspace: Path, studies: Studies, leftovers: Sequence[Leftover]) -> Removed:
    """Remove those of ``leftovers`` that still nobody needs."""

    def ask() -> tuple[Contents, Reason]:
        now = survey(workspace, studies)
        return now.contents, now.reason

    return remove(Store(workspace / "store"), [each.item for each in leftovers], ask)
