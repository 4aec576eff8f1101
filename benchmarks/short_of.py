"""Runs short of disk, inodes, open files, memory or rights, and with MLflow servers that are of no use.

    python benchmarks/short_of.py                      everything; disk and inodes need root, for a tmpfs
    python benchmarks/short_of.py --only files memory

Each run must end with 0, 1 or 2 and without a traceback, and a run without the shortage must finish the work.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import useless_servers
from kills import command, fresh, peaceful

QUIET = ("--tracking-uri", "none")
LIMIT_S = 300.0


def limited(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


def tried(name: str, folder: Path, *more: str, limit: Callable[[], None] | None = None) -> bool:
    """One run; says how it ended, and whether that was well."""
    began = time.monotonic()
    done = subprocess.run(
        command(folder, "run", *more), capture_output=True, text=True, check=False, preexec_fn=limit,
        timeout=LIMIT_S,
    )  # fmt: skip
    said = (done.stdout + done.stderr).strip()
    well = done.returncode in (0, 1, 2) and "Traceback" not in said
    last = done.stderr.strip().splitlines()[-1:] or said.splitlines()[-1:] or [""]
    seconds = time.monotonic() - began
    print(
        f"{'ok' if well else 'BAD'}  {name}: exit {done.returncode}, {seconds:.0f} s  {last[0].strip()[:100]}"
    )
    if not well:
        print(said[-1500:])
    return well


@contextmanager
def tmpfs(place: Path, option: str) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def small_disks(place: Path, options: list[str]) -> list[bool]:
    """Disks of several sizes; each is made large afterwards, and the run goes on."""
    found = []
    for option in options:
        folder = fresh(place, option.replace("=", ""))
        with tmpfs(folder / "runs", option):
            found.append(tried(option, folder))
            subprocess.run(["mount", "-o", "remount,size=2g,nr_inodes=0", str(folder / "runs")], check=True)
            peaceful(folder)
    return found


def disk(place: Path) -> list[bool]:
    return small_disks(
        place, [f"size={kilobytes}k" for kilobytes in (8, 64, 200, 400, 800, 1200, 1600, 2400, 3200, 4800)]
    )


def inodes(place: Path) -> list[bool]:
    return small_disks(place, [f"nr_inodes={count}" for count in (2, 4, 6, 9, 12, 20, 30, 50, 80, 120)])


def under_limits(place: Path, kind: int, values: tuple[int, ...], name: str) -> list[bool]:
    folder, found = fresh(place, name), []
    for value in values:
        found.append(tried(f"{name} {value}", folder, limit=limited(kind, value)))
    peaceful(folder)
    return found


def sizes(place: Path) -> list[bool]:
    return under_limits(place, resource.RLIMIT_FSIZE, (100, 20_000, 200_000), "file size")


def files(place: Path) -> list[bool]:
    return under_limits(place, resource.RLIMIT_NOFILE, (8, 12, 20, 32), "open files")


def memory(place: Path) -> list[bool]:
    return under_limits(place, resource.RLIMIT_AS, tuple(n << 20 for n in (150, 400, 900)), "memory")


def rights(place: Path) -> list[bool]:
    folder = fresh(place, "rights")
    (folder / "runs").write_text("a file")
    found = [tried("a workspace that is a file", folder, *QUIET)]
    (folder / "runs").unlink()
    (folder / "runs").symlink_to("/proc/none")
    return [*found, tried("a workspace that cannot be", folder, *QUIET)]


def servers(place: Path) -> list[bool]:
    folder, found = fresh(place, "servers"), []
    for kind in useless_servers.KINDS:
        with useless_servers.useless_server(kind) as address:
            found.append(tried(f"a server that {kind}", folder, "--tracking-uri", f"http://{address}"))
    return found


KINDS = {f.__name__: f for f in (disk, inodes, sizes, files, memory, rights, servers)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="short-") as place:
        for name in given.only:
            if name in ("disk", "inodes") and os.geteuid() != 0:
                print(f"left out: {name} (needs root)")
                continue
            found += KINDS[name](Path(place))
    print(f"{len(found)} runs, {found.count(False)} ended badly")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
