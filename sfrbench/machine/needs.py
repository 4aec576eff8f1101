"""What this machine has: data, weights, a device; and what a plan still lacks here."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sfrbench.components.base import Component, Dataset, Foundation, Stitch
from sfrbench.errors import (
    InputError,
    NotReadyError,
    Problem,
    SfrbenchError,
    did_you_mean,
    problem_of,
    shorter,
)
from sfrbench.files.atomic import nearest
from sfrbench.files.roots import BESIDE
from sfrbench.machine import accelerator, predicted
from sfrbench.machine.refusal import Wish, refusal
from sfrbench.places import locations, weights
from sfrbench.plan.build import Plan
from sfrbench.plan.resolve import Resolved
from sfrbench.stages.external.files import Predictions, fingerprint
from sfrbench.stages.recipe import Score
from sfrbench.store.fingerprints import Fingerprints
from sfrbench.version import __version__

ABSENT = "absent"


@dataclass
class Machine:
    """Places and devices of one run. ``data`` holds the ``--data NAME=DIR`` options."""

    workspace: Path
    data: Mapping[str, Path] = field(default_factory=dict)
    device: str = "auto"
    _asked: set[str] = field(default_factory=set)
    _roots: dict[str, Path | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", self.device):
            hint = did_you_mean(self.device, ("auto", "cpu", "cuda", "cuda:N", "mps"))
            raise InputError(f"no device '{shorter(self.device)}'", where="--device", hint=hint)

    @cached_property
    def fingerprints(self) -> Fingerprints:
        return Fingerprints(self.workspace / "fingerprints.json")

    def root(self, resolved: Resolved) -> Path | None:
        """The data folder of a dataset, where there is one."""
        dataset = cast(Dataset, resolved.component)
        if not dataset.needs_root:
            return None
        name = resolved.card.name
        self._asked.update((name, dataset.folder))
        if name not in self._roots:
            self._roots[name] = locations.data_root(name, dataset.folder, self.data)
        return self._roots[name]

    def folder(self, name: str) -> Path | None:
        """The folder of data other than datasets, such as natural images, if there is one."""
        self._asked.add(name)
        return locations.folder_of([name], self.data)

    def unused(self, plan: Plan) -> list[str]:
        """The names of ``--data`` that nothing of a plan asks for."""
        if self.data:
            self.lacks(plan)  # asks for all
        return [name for name in self.data if name not in self._asked]

    def fingerprint(self, resolved: Resolved) -> str:
        """Content hash of a dataset's files; 'none' for generated data, 'absent' where it is not here."""
        dataset = cast(Dataset, resolved.component)
        if not dataset.needs_root:
            return "none"
        root = self.root(resolved)
        if root is None:
            return ABSENT
        try:
            return self.fingerprints.of(dataset.source_files(root), root)
        except (SfrbenchError, OSError):
            return ABSENT  # what is wrong is said by ``lacks`` and by ``data check``

    def predicted(self, dataset: Resolved, given: Predictions, score: Score) -> str:
        """Content hash of another tool's results of the cases that are scored; 'absent' where they or the
        lists of cases are not here."""
        try:
            files = predicted.look(given, self._scored(dataset, score)).of
            found = fingerprint(files, self.fingerprints.hash_of)
        except (SfrbenchError, OSError):
            return ABSENT  # what is wrong is said by ``lacks``
        self.fingerprints.save()
        return found

    def _scored(self, resolved: Resolved, score: Score) -> tuple[str, ...]:
        dataset, root = cast(Dataset, resolved.component), self.root(resolved)
        return predicted.scored_cases(dataset, root, score)

    def lacks(self, plan: Plan) -> list[Problem]:
        """The data, weights and images that a plan needs and this machine does not have."""
        problems: dict[Problem, None] = {}
        for resolved in _datasets(plan):
            problems.update(dict.fromkeys(self._lacks_data(resolved)))
        for cell in plan.cells:
            if "foundation" in cell.components:
                problems.update(
                    dict.fromkeys(lacks_of(cast(Foundation, cell.components["foundation"].component)))
                )
            if "backbone" in cell.components:
                problems.update(dict.fromkeys(lacks_package(cell.components["backbone"].component)))
            if "stitch" in cell.components:
                problems.update(dict.fromkeys(self._lacks_images(cell.components["stitch"])))
        for arm, given, cases, classes in self._brought(plan):
            problems.update(dict.fromkeys(predicted.lacks(arm, given, cases, classes)))
        return list(problems)

    def _brought(self, plan: Plan) -> Iterator[tuple[str, Predictions, tuple[str, ...], int]]:
        """Arms of another tool's results, with the cases that they are scored on and the number of classes;
        of data that are not here ``lacks`` tells."""
        given = {arm.name: arm.predictions for arm in plan.spec.arms if arm.predictions is not None}
        seen = set()
        for cell in plan.cells:
            resolved, score = cell.components["dataset"], cast(Score, cell.score)
            if cell.arm in given and (cell.arm, resolved.digest, score) not in seen:
                seen.add((cell.arm, resolved.digest, score))
                with suppress(SfrbenchError, OSError):
                    cases = self._scored(resolved, score)
                    classes = cast(Dataset, resolved.component).class_names(self.root(resolved))
                    yield cell.arm, given[cell.arm], cases, len(classes)

    def remarks(self, plan: Plan) -> list[str]:
        """What users should know of the lists of a plan's datasets; of broken ones ``lacks`` tells."""
        texts: dict[str, None] = {}
        for resolved in _datasets(plan):
            dataset, root = cast(Dataset, resolved.component), self.root(resolved)
            if root is None and dataset.needs_root:
                continue
            with suppress(SfrbenchError, OSError):
                said = dataset.remarks(root)
                texts.update((f"data {resolved.card.name}: {remark}", None) for remark in said)
        for arm, given, cases, _ in self._brought(plan):
            with suppress(OSError):
                texts.update(dict.fromkeys(predicted.remarks(arm, given, cases)))
        return list(texts)

    def lacks_place(self) -> list[Problem]:
        """What would keep a run from writing to the workspace, as far as can be seen without writing."""
        there = nearest(self.workspace)
        if not there.is_dir():
            return [problem_of(OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there)))]
        if not os.access(there, os.W_OK | os.X_OK):
            number = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
            return [problem_of(OSError(number, os.strerror(number), str(there)))]
        return []

    def _lacks_data(self, resolved: Resolved) -> list[Problem]:
        from sfrbench.machine.datacheck import check_lists

        dataset, name = cast(Dataset, resolved.component), resolved.card.name
        root = self.root(resolved)
        if root is None and dataset.needs_root:
            remedy = f"give --data {name}=DIR, or set SFRBENCH_DATA to the folder that holds it"
            return [Problem(f"data {name}", "no folder with this dataset is known", remedy)]
        try:
            check_lists(dataset, root)
        except SfrbenchError as error:
            return [replace(fault, where=fault.where or f"data {name}") for fault in error.problems]
        except OSError as error:
            return [
                Problem(
                    f"data {name}", f"{error.strerror}: {error.filename}", f"see 'sfrbench data check {name}'"
                )
            ]
        return []

    def _lacks_images(self, resolved: Resolved) -> list[Problem]:
        try:
            cast(Stitch, resolved.component).located(self.folder)
        except SfrbenchError as error:
            return list(error.problems)
        return []

    def torch_device(self, profile: str = "") -> str:
        """The device that stages run on; ``profile``: of a run that needs an accelerator. Imports torch.

        Raises ``NotReadyError`` with what is missing."""
        if self.device == "cpu":
            return "cpu"
        answer = accelerator.read()
        problem = refusal(answer, Wish(self.device, profile))
        if problem is not None:
            raise NotReadyError.of([problem])
        return answer.device(self.device)


def _datasets(plan: Plan) -> list[Resolved]:
    return list(
        {cell.components["dataset"].digest: cell.components["dataset"] for cell in plan.cells}.values()
    )


def lacks_of(foundation: Foundation) -> list[Problem]:
    """The package of an extra that a foundation needs and the weight file, where they are not here."""
    problems = lacks_package(foundation)
    if foundation.weights is not None:
        try:
            weights.find(foundation.weights)
            foundation.check_weights()
        except NotReadyError as error:
            problems += error.problems
    return problems


def lacks_package(component: Component) -> list[Problem]:
    """The package of an extra that a component needs, where it is not here."""
    try:
        component.check_installed()
    except NotReadyError as error:
        return list(error.problems)
    return []


def cores() -> int:
    """How many cores this process may use, where a scheduler or ``taskset`` gives it fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Versions and hardware, for records and reports. Never imports what it names."""
    packages = (
        "torch",
        "numpy",
        "scipy",
        "segment-anything",
        "peft",
        "mlflow",
        "optuna",
        "nibabel",
        "pandas",
        "monai",
        "transformers",
    )
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "sfrbench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that holds this package; empty for an installed wheel, and where
    there is no git."""
    if not (BESIDE / ".git").exists() or shutil.which("git") is None:
        return {}
    ask = ["git", "-C", str(BESIDE)]
    commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    status = subprocess.run([*ask, "status", "--porcelain"], capture_output=True, text=True, check=False)
    if commit.returncode:
        return {}
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
