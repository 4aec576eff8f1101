"""Cards and experiments as ``sfrbench list`` shows them: found by words, as a table or as plain lines."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sfrbench.catalog.cards import Card
from sfrbench.errors import InputError, shorter
from sfrbench.files.terminal import clean, echo, roomy
from sfrbench.spec.shipped import experiments, title

EXPERIMENT = "experiment"
LABELS_FROM = 100  # columns of a terminal that has room for labels


@dataclass(frozen=True)
class Entry:
    """One line: a card, or an experiment, which has no label."""

    kind: str
    name: str
    label: str
    summary: str

    def has(self, word: str) -> bool:
        """Whether a word stands in its name, label or summary, in whatever case."""
        return any(word.lower() in text.lower() for text in (self.name, self.label, self.summary))


def entries(cards: Sequence[Card]) -> list[Entry]:
    """The cards, and then the experiments that ship."""
    found = [Entry(card.kind, card.name, card.label, " ".join(card.summary.split())) for card in cards]
    return [*found, *(Entry(EXPERIMENT, name, "", title(path)) for name, path in experiments().items())]


def chosen(listed: Sequence[Entry], words: Sequence[str]) -> list[Entry]:
    """Those that all words fit: a word is a kind, or stands in the texts. Raises ``InputError`` with what is
    near where there are none."""
    kinds = {entry.kind for entry in listed}
    found = list(listed)
    for word in words:
        found = [entry for entry in found if (entry.kind == word if word in kinds else entry.has(word))]
    if found or not words:
        return found
    lost = next(
        (word for word in words if word not in kinds and not any(one.has(word) for one in listed)), ""
    )
    if not lost:
        what = f"nothing has all of {', '.join(words)} in its name, label or summary"
        raise InputError(what, hint="leave out one of them")
    what = f"no kind, name, label or summary has '{shorter(lost)}'"
    raise InputError(
        what, hint=f"{_near(lost, listed)}kinds: {', '.join(dict.fromkeys(e.kind for e in listed))}"
    )


def _near(word: str, listed: Sequence[Entry]) -> str:
    """The cards whose names or labels come closest to a word; else words of summaries that do."""
    named: dict[str, str] = {entry.kind: entry.kind for entry in listed}
    for entry in listed:
        for text in (entry.name, *entry.name.split("_"), entry.label, *entry.label.split()):
            named.setdefault(text.lower(), f"{entry.kind}/{entry.name}")
    told = {each: each for entry in listed for each in re.findall(r"\w+", entry.summary.lower())}
    for known in (named, told):
        close = difflib.get_close_matches(word.lower()[:80], [*known], n=3, cutoff=0.7)
        if close:
            return f"near: {', '.join(dict.fromkeys(known[text] for text in close))}   "
    return ""


def show(found: Sequence[Entry], roots: Sequence[object]) -> None:
    """A table as wide as the terminal; elsewhere, and where that is narrow, a line for each."""
    said = "cards from " + ", ".join(map(str, roots))
    if roomy(sys.stdout):
        _table(found, said)
        return
    echo(said)
    aligned = [] if sys.stdout.isatty() else found
    width = max((len(f"{entry.kind}/{entry.name}") for entry in aligned), default=0)
    for entry in found:
        echo(f"{f'{entry.kind}/{entry.name}':<{width}}  {entry.summary}")


def _table(found: Sequence[Entry], said: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    wide = console.width >= LABELS_FROM
    for kind, group in groupby(found, key=lambda entry: entry.kind):
        listed = list(group)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True, overflow="ellipsis", min_width=20)
        if wide and kind != EXPERIMENT:
            table.add_column(max_width=26)
        table.add_column(ratio=1)
        for entry in listed:
            name = Text(f"  {clean(entry.name)}", style="bold")
            labels = [clean(entry.label)] if wide and kind != EXPERIMENT else []
            table.add_row(name, *map(Text, labels), Text(clean(entry.summary)))
        console.print(Text(f"{kind}  ({len(listed)})", style="bold underline"))
        console.print(table)
    console.print(Text(clean(said)), soft_wrap=True)
