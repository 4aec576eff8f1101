"""README.md as an index of packages shows it: links to files lead nowhere there, and are their text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_FENCE = re.compile(r"^ *(```|~~~)")
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]+)[^)]*\)")
_ELSEWHERE = ("#", "http://", "https://", "mailto:")


def plain(link: re.Match[str]) -> str:
    """A link to another site or within the page as it is; of any other, what it shows."""
    if link["to"].startswith(_ELSEWHERE) and not (link["image"] and link["to"].startswith("#")):
        return link[0]
    return link["text"]


def long_description(text: str) -> str:
    """Markdown without relative links and images; code blocks stay as they are."""
    lines, fenced = [], False
    for line in text.splitlines(keepends=True):
        fenced ^= bool(_FENCE.match(line))
        lines.append(line if fenced else _LINK.sub(plain, line))
    return "".join(lines)


class LongDescription(MetadataHookInterface):
    """Called by hatchling where it writes the metadata of a wheel or a source archive."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": long_description(text)}
