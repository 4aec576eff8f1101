"""Runs the code blocks of the documentation as a reader would: ``python -m docs.tools.blocks [PAGE...]``.

The blocks of a page run in order, in one new folder, as if in one terminal: what a block exports, and the
folder that it changes to, hold for the next. After a block that fails the rest of its page is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from docs.tools.pages import ROOT, Block, Page, pages, read

#: Around each block: take up what the one before has left, and leave it to the next.
_BEFORE = 'if [ -f "$BLOCK_STATE" ]; then . "$BLOCK_STATE"; fi\n'
_AFTER = '\n{ export -p; printf "cd %q\\n" "$PWD"; } > "$BLOCK_STATE"\n'


def main(names: list[str]) -> int:
    """Run all blocks of these pages, or of all; returns 1 where a block failed, 2 where a page cannot be
    read."""
    try:
        chosen = [read(Path(name).resolve()) for name in names] or pages()
    except (OSError, ValueError) as error:  # no such page, no UTF-8, a block that is not closed
        print(error, file=sys.stderr)
        return 2
    faults = [fault for page in chosen for fault in page.faults()]
    for fault in faults:
        print(fault, file=sys.stderr)
    failed = 0 if faults else sum(not run_page(page) for page in chosen)
    never = [block for page in chosen for block in page.blocks if block.never]
    if never:
        print("never run:")
        for block in never:
            print(f"  {block.where}: {block.never}")
    if failed:
        print(f"pages with a block that fails: {failed}", file=sys.stderr)
    return 1 if faults or failed else 0


def run_page(page: Page) -> bool:
    """Whether all of a page's blocks did what they should; says how long each took, and what a failed one
    wrote."""
    if not any(block.runs for block in page.blocks):
        return True
    lacking = page.lacks()
    if lacking:
        print(f"{page.name}: left out, this machine lacks {lacking}")
        return True
    with tempfile.TemporaryDirectory(prefix="sfrbench-page-") as scratch:
        folder = Path(scratch, "page")
        folder.mkdir()
        for block in page.blocks:
            if block.file:
                write(block, folder)
            elif block.runs:
                started = time.monotonic()
                done = run(block, folder, Path(scratch))
                took = f"{time.monotonic() - started:.0f} s"
                print(f"{block.where}: {'ok' if done.returncode == 0 else 'FAILED'}, {took}", flush=True)
                if done.returncode:
                    print(f"{block.text}\n{done.stdout}\nexit status {done.returncode}", flush=True)
                    return False
    return True


def write(block: Block, folder: Path) -> Path:
    """A block as the file that its title names."""
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    return path


def run(block: Block, folder: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    """One block, by bash; ``scratch`` is where it leaves to the next what it exported."""
    script = block.text
    if block.language == "python":
        source = scratch / "block.py"
        source.write_text(block.text, encoding="utf-8")
        script = f'python - < "{source}"'
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{_BEFORE}{script}{_AFTER}"],
        cwd=folder,
        env=environment() | {"BLOCK_STATE": str(scratch / "state")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def environment() -> dict[str, str]:
    """This one, with the programs of this Python first on the PATH and the workspace where the page is."""
    own = {name: value for name, value in os.environ.items() if name != "SFRBENCH_WORKSPACE"}
    path = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", "")])
    return own | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
