"""How a search is run, and when it has had enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sfrbench.plan.space import Space, grid_size
from sfrbench.plan.study import Study
from sfrbench.spec.model import Search

HEARTBEAT = 20  # seconds between signs of life of a running trial


@dataclass(frozen=True)
class Options:
    """How a search is run; nothing here changes what the study is."""

    storage: str | None = None
    tracking_uri: str | None = None
    heartbeat: int = HEARTBEAT
    trials: int | None = None  # instead of the specification's budget
    hours: float | None = None
    executor: Literal["inline", "local", "slurm", "ray"] = "inline"  # that runs this worker
    job: tuple[str, str] = ("", "")  # of a cluster: its id, and the file that its output goes to


@dataclass(frozen=True)
class Budget:
    """Finished trials, and hours in finished trials, of the whole study."""

    trials: int | None
    hours: float | None

    @classmethod
    def of(cls, search: Search, space: Space, options: Options) -> Budget:
        given = options.trials is not None or options.hours is not None
        trials = options.trials if given else search.trials
        if search.sampler == "grid":
            trials = min(grid_size(space), trials or grid_size(space))
        return cls(trials, options.hours if given else search.hours)

    def next_step(self, study: Study) -> Literal["go", "wait", "done"]:
        """``wait``: what is left runs elsewhere, and is this worker's to run if its worker dies."""
        running = len(study.of("running"))
        if self.hours is not None and study.hours >= self.hours:
            return "wait" if running else "done"
        if self.trials is None or len(study.finished) + running < self.trials:
            return "go"
        return "wait" if running else "done"
