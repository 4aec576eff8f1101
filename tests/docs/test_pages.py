"""The code blocks of README.md and docs/: all are sound, and those that ask for it are run here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from docs.tools import blocks, reference
from docs.tools.pages import Block, Page, pages, read
from tests.support.loaded import Process
from tests.support.places import ROOT

PAGES = pages()
#: What a shell does more with than to start a program; such blocks are left to bash.
SHELL = re.compile(r"[|&;<>$`(){}*?~]|^\s*(export|cd|if|for|while)\b", re.MULTILINE)


def commands(text: str) -> list[list[str]] | None:
    """The words of each line, where all are plain calls of sfrbench; none: a shell has to read it."""
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    found = [words for words in lines if words]
    bare = re.sub(r"(^|\s)#.*", "", text)
    if not SHELL.search(bare) and all(words[0] == "sfrbench" for words in found):
        return [words[1:] for words in found]
    return None


def run(block: Block, folder: Path, scratch: Path) -> None:
    """A block, in processes that have loaded torch already where that can be."""
    env = blocks.environment() | {"PYTHONPATH": f"{ROOT}{os.pathsep}."}
    lines = commands(block.text) if block.language == "sh" else None
    if lines is None:
        done = blocks.run(block, folder, scratch)
        assert done.returncode == 0, f"{block.where}\n{done.stdout}"
    for words in lines or ():
        process = Process(*words, cwd=folder, env=env, stderr=subprocess.STDOUT)
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, f"{block.where}: sfrbench {shlex.join(words)}\n{said}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_sound(page: Page) -> None:
    assert page.faults() == []


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.of_suite], ids=lambda page: page.name)
def test_blocks_of_the_suite_run(page: Page, tmp_path: Path) -> None:
    if lacking := page.lacks():
        pytest.skip(f"this machine lacks {lacking}")
    folder = tmp_path / "page"
    folder.mkdir()
    for block in page.blocks:
        if block.file:
            blocks.write(block, folder)
        elif block.in_suite:
            run(block, folder, tmp_path)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_of_the_site_lead_somewhere(name: str) -> None:
    """Those of the site's own pages are checked when it is built."""
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    paths = [link.partition("#")[0] for link in links if "://" not in link]
    made = {f"docs/{path}" for path in reference.pages()}
    assert [path for path in paths if path and path not in made and not (ROOT / path).exists()] == []


TRIED = """\
# A page

<!-- page: needs phantom -->

```yaml title="cards/stitch/mine.yaml"
target: nothing:AtAll
```

<!-- run: suite -->
```sh
sfrbench --version   # plain
test -f cards/stitch/mine.yaml
export WORD="two words"
mkdir inner && cd inner
```

1. In a list:

    ```python
    import os
    from pathlib import Path

    assert os.environ["WORD"] == "two words"
    assert Path.cwd().name == "inner"
    ```

<!-- run: never, it would take a day -->
```sh
false
```

```text
what it says
```
"""


@pytest.fixture
def tried(tmp_path: Path) -> Page:
    path = tmp_path / "tried.md"
    path.write_text(TRIED, encoding="utf-8")
    return read(path)


def test_a_page_runs_as_if_in_one_terminal(tried: Page, capfd: pytest.CaptureFixture[str]) -> None:
    assert tried.faults() == []
    assert [block.runs for block in tried.blocks] == [False, True, True, False, False]
    assert blocks.run_page(tried)
    assert "tried.md:10: ok" in capfd.readouterr().out


def test_a_block_that_fails_is_shown_and_ends_its_page(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fails.md"
    path.write_text("```sh\necho why; false | true; exit 0\n```\n\n```sh\necho unreached\n```\n")
    assert blocks.main([str(path)]) == 1
    said = capfd.readouterr().out
    assert "fails.md:1: FAILED" in said
    assert "why" in said
    assert "unreached" not in said


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```yml\na: 1\n```\n", "1: 'yml' is none of yaml, python, sh, text"),
        ("```yaml\na: [1\n```\n", "1: "),
        ("```python\nx = = 1\n```\n", "1: invalid syntax"),
        ('```yaml title="../x.yaml"\na: 1\n```\n', "leads out"),
        ("<!-- run: suite -->\n\n```sh\ntrue\n```\n", "1: 'run: suite' does not stand right before a block"),
        ("<!-- run: suite -->\n```text\nout\n```\n", "2: this is not run"),
        ("<!-- run: never -->\n```sh\ntrue\n```\n", "neither 'suite' nor 'never, REASON'"),
        ("<!-- page: hippocampus -->\n", "is not 'page: needs"),
        ("```sh\ntrue\n```\n<!-- run: suite -->\n", "'run: suite' does not stand right before a block"),
        ("<!-- Run: never, it takes days -->\n```sh\ntrue\n```\n", "1: a note is <!-- run: ... -->"),
        ("<!-- run: never, it\ntakes days -->\n```sh\ntrue\n```\n", "1: a note is <!-- run: ... -->"),
        ("```yaml title=mine.yaml\na: 1\n```\n", '1: a title is written title="FILE"'),
        ('```yaml title="./"\na: 1\n```\n', "leads out"),
    ],
)
def test_what_is_wrong_with_a_block_is_found(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    (found,) = read(path).faults()
    assert f"page.md:{fault}" in found or fault in found


def test_an_open_block_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.md"
    path.write_text("```sh\ntrue\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md:1: this block is not closed"):
        read(path)
    assert blocks.main([str(path)]) == 2
    assert blocks.main([str(tmp_path / "no.md")]) == 2
    told = capfd.readouterr().err
    assert told.count("\n") == 2
    assert "page.md:1: this block is not closed" in told
    assert "no.md" in told


def test_lines_of_a_block_that_need_no_shell() -> None:
    text = "sfrbench plan x.yaml \\\n  --profile cpu   # what runs; and why?\n\nsfrbench list\n"
    assert commands(text) == [["plan", "x.yaml", "--profile", "cpu"], ["list"]]
    assert commands("sfrbench list | head\n") is None
    assert commands("export A=1\nsfrbench list\n") is None
