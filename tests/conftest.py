"""What every test may count on: few threads, no telemetry, no window system, no settings of the user."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.places import ROOT
from tests.support.postgres import Server, lacking, running

# Read when torch, numpy and mlflow are first imported, so they are set before any test module is. Processes
# that share the cores get one thread each: several that wait for one another are many times slower. All
# follow OMP_NUM_THREADS: torch takes its number of threads from MKL's.
_cores = "1" if "PYTEST_XDIST_WORKER" in os.environ else str(min(2, os.cpu_count() or 1))
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = _cores
_threads = os.environ.setdefault("OMP_NUM_THREADS", _cores)
for _name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = _threads
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ["MPLBACKEND"] = "Agg"
# The processes of the tests are many: what Python compiles for one serves all.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
#: Folders whose files share runs that take seconds (fixtures of scope "package").
TOGETHER = ("tests/deploy",)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """``-n auto`` is a process more than there are cores: many tests wait for servers and other processes."""
    from sfrbench.machine.needs import cores

    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else cores() + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files go to a process, and with them all files of a folder whose tests share finished runs."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    """Files go to the processes in the order below, not by their numbers of tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes none is left alone with a long file in the end: files with slow tests come first,
    then those with many tests."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        count = Counter(item.path for item in items)
        items.sort(key=lambda item: (-slow[item.path], -count[item.path]))


@pytest.fixture(autouse=True, scope="session")
def _no_waits_for_the_disk() -> Iterator[None]:
    """What is written outlives a process that is killed; it need not outlive the power of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which raises for the same handles
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_user_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A configuration file in the home folder of whoever runs the tests does not change them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real volumes, one folder per dataset: $SFRBENCH_DATA, else ../shared/data."""
    given = os.environ.get("SFRBENCH_DATA")
    folder = Path(given).expanduser() if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set SFRBENCH_DATA")
    return folder


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """The folder of pretrained weights: $SFRBENCH_WEIGHTS, else ~/.cache/sfrbench/weights."""
    given = os.environ.get("SFRBENCH_WEIGHTS")
    folder = Path(given).expanduser() if given else Path.home() / ".cache" / "sfrbench" / "weights"
    if not folder.is_dir():
        pytest.skip(f"no pretrained weights: {folder} does not exist; run 'sfrbench weights get lite_medsam'")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for these tests."""
    fault = lacking()
    if fault is not None:
        pytest.skip(fault)
    with running() as server:
        yield server
