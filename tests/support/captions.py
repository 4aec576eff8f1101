"""What a caption may be: one sentence that is read at a glance."""

from __future__ import annotations

import html
import re
from pathlib import Path

WORDS = 30


def faults(caption: str) -> list[str]:
    """What is wrong with a caption; abbreviations of one letter and numbers end no sentence."""
    sentences = re.split(r"(?<=[^\W\d_]{2}[.!?])\s+|(?<=[)\d%][.!?])\s+(?=[^\W\d_])", caption.strip())
    found = [] if len(sentences) == 1 else [f"{len(sentences)} sentences"]
    found += [] if re.search(r"[.!?]$", caption) else ["no end"]
    count = len(caption.split())
    return found + ([f"{count} words"] if not 0 < count <= WORDS else [])


def check_page(page: Path) -> int:
    """Every caption of a report's page, without its title and small print; how many there are."""
    found = re.findall(r"<figcaption>(.*?)</figcaption>", page.read_text(encoding="utf-8"), re.DOTALL)
    for whole in found:
        assert whole.startswith("<b>"), whole
        caption = html.unescape(re.sub(r"<b>.*?</b>|<small>.*?</small>", "", whole)).strip()
        assert not faults(caption), (caption, faults(caption))
    return len(found)
