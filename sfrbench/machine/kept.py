"""What was found out about a machine, kept in the user's cache folder for as long as certain facts hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from sfrbench.files.atomic import canonical, read_state, write_atomic
from sfrbench.places.locations import cache_folder


class Kept(BaseModel):
    """A finding, and the ``facts`` that it holds for; a subclass names its ``folder``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: ClassVar[str]

    facts: dict[str, str]

    @classmethod
    def under(cls, facts: Mapping[str, str]) -> Self | None:
        """What was found under these facts before; none where there is no sound file of it."""
        found = read_state(cls._file(facts), cls)
        return found if found is not None and found.facts == facts else None

    def keep(self) -> None:
        """Put it into the cache folder, where that can be written; otherwise it is found out again."""
        try:
            write_atomic(self._file(self.facts), self.model_dump_json(indent=1))
        except OSError:
            return

    @classmethod
    def _file(cls, facts: Mapping[str, str]) -> Path:
        """``$XDG_CACHE_HOME/sfrbench/<folder>/<facts>.json``, by default under ``~/.cache``."""
        name = hashlib.sha256(canonical(dict(facts)).encode()).hexdigest()[:16]
        return cache_folder() / cls.folder / f"{name}.json"
