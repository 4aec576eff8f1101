"""Time and memory of preparing LA cases: ``python benchmarks/prepare_memory.py --data DIR``.

DIR holds ``2018LA_Seg_Training Set`` in UA-MT's layout. Its h5 files are linked under new ids, so that there
are as many cases as asked for; without DIR, files of the same size are made from noise. For each number of
cases: a run, the same command again (which does nothing), the largest resident memory of any process. Then a
run that is killed after a third of the cases and goes on, and one with a truncated file, which is named while
the others are kept. The bound that we hold ourselves to is 1 GB for each process, however many cases.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER, FILE = "2018LA_Seg_Training Set", "mri_norm2.h5"


def sources(data: Path | None, scratch: Path) -> list[Path]:
    """Real files, or three of noise in LA's size."""
    if data is not None:
        return sorted((data / FOLDER).glob(f"*/{FILE}"))
    import h5py
    import numpy as np

    rng, made = np.random.default_rng(0), []
    for number in range(3):
        shape = (200 + 20 * number, 150, 88)
        made.append(scratch / f"noise{number}.h5")
        with h5py.File(made[-1], "w") as file:
            image = rng.standard_normal(shape, dtype=np.float32)
            file.create_dataset("image", data=image, compression="gzip")
            label = np.zeros(shape, np.uint8)
            label[60:120, 50:100, 20:60] = 1
            file.create_dataset("label", data=label, compression="gzip")
    return made


def lay_out(root: Path, files: list[Path], count: int) -> Path:
    """A data folder of ``count`` cases, a fifth of them for the test."""
    ids = [f"C{number:04d}" for number in range(count)]
    for number, case in enumerate(ids):
        (root / FOLDER / case).mkdir(parents=True)
        (root / FOLDER / case / FILE).symlink_to(files[number % len(files)].resolve())
    cut = count - max(count // 5, 1)
    for name, part in (("train", ids[:cut]), ("test", ids[cut:])):
        (root / f"{name}.list").write_text("\n".join(part) + "\n")
    return root


def command(root: Path, workspace: Path, workers: int) -> list[str]:
    ours = [sys.executable, "-m", "sfrbench", "data", "prepare", "la", "--profile", "paper"]
    return [*ours, "--data", f"la={root}", "--workspace", str(workspace), "--workers", str(workers)]


def tree(pid: int) -> list[int]:
    """A process and its children (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [pid, *(each for child in children.read_text().split() for each in tree(int(child)))]
    except OSError:
        return [pid]


def resident(pid: int) -> float:
    """The largest memory that a process has had so far, MB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), default=0.0)


def watch(arguments: list[str], until: tuple[Path, int] | None = None) -> tuple[int, float, float, str]:
    """Status, seconds, largest memory of any process, output; killed once ``until`` (store, cases) holds."""
    started, most = time.perf_counter(), 0.0
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        most = max([most, *map(resident, tree(process.pid))])
        if until is not None and len(list(until[0].glob("partial/prepare-*/cases/*.json"))) >= until[1]:
            os.kill(process.pid, signal.SIGKILL)
            until = None
        time.sleep(0.01)
    said = process.stdout.read() if process.stdout else ""
    return process.returncode, time.perf_counter() - started, most, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="UA-MT's LA folder")
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="3 and 6 cases")
    options = parser.parse_args()
    counts, workers = [3, 6] if options.small else options.cases, options.workers
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        files = sources(options.data, scratch)
        for count in counts:
            root = lay_out(scratch / f"la{count}", files, count)
            for name in ("first run", "second run"):
                status, seconds, most, said = watch(command(root, scratch / f"runs{count}", workers))
                done = "reuses" if "reuse prepare" in said else "prepares"
                show(count, name, f"status {status}, {done}", seconds, most)
        root = scratch / f"la{counts[-1]}"
        killed(root, scratch / "killed", counts[-1], workers)
        truncated(root, scratch / "broken", counts[-1], workers)


def show(count: int, name: str, what: str, seconds: float, most: float) -> None:
    print(f"{count:4d} cases, {name:<10}  {what:<30} {seconds:6.1f} s {most:6.0f} MB", flush=True)


def killed(root: Path, workspace: Path, count: int, workers: int) -> None:
    """A run killed after a third of the cases, and the run that goes on."""
    store = workspace / "store"
    status, seconds, most, _ = watch(command(root, workspace, workers), (store, count // 3))
    before = {path.stem: path.stat().st_mtime_ns for path in store.glob("partial/*/cases/*.json")}
    images = {path.stem: path.stat().st_mtime_ns for path in store.glob("partial/*/images/*.npy")}
    show(count, "killed", f"status {status}, {len(before)} finished", seconds, most)
    status, seconds, most, _ = watch(command(root, workspace, workers))
    after = {path.stem: path.stat().st_mtime_ns for path in store.glob("prepare/*/images/*.npy")}
    same = sum(after.get(case) == images[case] for case in before)
    show(count, "goes on", f"status {status}, {same} untouched", seconds, most)


def truncated(root: Path, workspace: Path, count: int, workers: int) -> None:
    """A run with half a file among the others."""
    broken = root / FOLDER / "C0001" / FILE
    whole = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(whole[: len(whole) // 2])
    status, seconds, most, said = watch(command(root, workspace, workers))
    kept = len(list(workspace.glob("store/partial/prepare-*/cases/*.json")))
    show(count, "truncated", f"status {status}, {kept} are kept", seconds, most)
    named = next((line for line in said.splitlines() if "case C0001" in line), "NOT NAMED")
    print(f"      {named.replace(str(root), '…')}")


if __name__ == "__main__":
    main()
