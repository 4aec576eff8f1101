"""What MkDocs calls: the order of the pages, and the pages that are made from the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.tools import pictures, reference

#: Notes to whoever runs the blocks.
_NOTES = re.compile(r"^[ \t]*<!--\s*(?:run|page):.*?-->[ \t]*\n", re.MULTILINE)

#: A heading of an index, or an item of its lists that begins with a page of the same folder.
_LISTED = re.compile(r"^(?:## (.+)|- \[[^]]*\]\(([\w-]+\.md)\).*)$", re.MULTILINE)

#: Where a written page has something that is made from the code.
_MADE = re.compile(r"^<!-- made: ([\w-]+) -->$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Folders are sections. Pages follow one another as the folder's index has them, else by file name."""
    docs = Path(config.docs_dir)
    config.nav = [
        {"Home": "index.md"},
        *_section(docs, "Tutorials", "tutorials"),
        *_section(docs, "How-to", "how-to"),
        {"Reference": reference.nav()},
        *_section(docs, "Explanation", "explanation"),
        *_section(docs, "Results", "results"),
    ]
    return config


def _section(docs: Path, title: str, folder: str) -> list[Any]:
    """A section with the pages of a folder, its index first, then under the index's own headings those that
    it lists there; none where it has no pages."""
    names = [path.relative_to(docs).as_posix() for path in sorted((docs / folder).glob("*.md"))]
    names.sort(key=lambda name: Path(name).stem not in ("index", "README"))
    groups: dict[str, list[str]] = {}
    for heading, page in _LISTED.findall(_text(docs / folder / "index.md")):
        if heading:
            groups[heading] = []
        elif groups:
            groups[next(reversed(groups))].append(f"{folder}/{page}")
    listed = {name for group in groups.values() for name in group}
    rest = [name for name in names if name not in listed]
    return [{title: rest + [{heading: group} for heading, group in groups.items() if group]}] if names else []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    for path, data in pictures.files().items():
        files.append(File.generated(config, path, content=data))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return _MADE.sub(lambda found: reference.tables()[found[1]], _NOTES.sub("", markdown))
