"""Tables of features: how far apart labelled and unlabelled cases lie, and how arms differ in that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sfrbench.maths.gaps import DRAWS, OVERLAP, RELATIVE, W1, Array
from sfrbench.report.facts.info import ReportInfo
from sfrbench.report.items.features.gaps import Gap, classes_of, mean_of
from sfrbench.report.items.pairs.table import difference
from sfrbench.report.render import captions
from sfrbench.report.render.style import DASH, number, p_value, signed
from sfrbench.report.render.tables import Entry, Notes, Table
from sfrbench.results.axes import axis_text

_COLUMNS = (
    "Cases",
    "Correct (%)",
    "W1",
    "W1 / sd",
    "95 % interval",
    "by chance",
    "p",
    "Overlap",
    "95 % interval",
    "seeds",
)
_KEYS = (
    "cases",
    "correct",
    "w1",
    "w1_sd",
    "w1_sd_95",
    "w1_sd_by_chance",
    "p",
    "overlap",
    "overlap_95",
    "seeds",
)
_CAPTION = (
    "How far apart features of {of} voxels that are predicted correctly lie in labelled and in unlabelled "
    "training cases."
)
_RULES = (
    "Features in front of the output convolution, averaged over channels; labelled / unlabelled. Correct: "
    "the share of voxels that are predicted correctly.",
    "W1: Wasserstein-1 distance between both distributions; each network has a scale of its own, so only "
    "W1 / sd, in pooled standard deviations, can be compared.",
    "By chance: its mean where the same cases are dealt at random into groups of these sizes; p: how often "
    "that is as far apart. A small group lies further off by chance alone.",
    f"Overlap: area under the lower of both densities. ± over seeds; intervals: {DRAWS} draws of cases and "
    "seeds.",
    "Intervals of W1 / sd lie too high where there is no gap, and a single labelled case is not drawn anew, "
    "so they do not cover another choice of it. A seed without a correct voxel in one of the groups has no "
    "distance.",
)
_BOUNDS = ("95 % interval", "by chance")
_PAIR_KEYS = (
    "difference",
    "w1_sd",
    "w1_sd_95",
    "w1_sd_by_chance",
    "overlap",
    "overlap_95",
    "overlap_by_chance",
    "seeds",
)
_PAIRS_CAPTION = "Differences A − B of W1 / sd and of overlap, over the seeds that have both."
_PAIRS_RULES = (
    "W1 / sd below 0: labelled and unlabelled cases lie closer together in A.",
    "Arms at one point share cases and draws; points do not, since their labelled cases differ.",
    "By chance: the same difference where cases are dealt at random. More labelled cases make a group that "
    "lies closer by its size alone, so a smaller distance at a later point says something only where it goes "
    "beyond that.",
)


@dataclass(frozen=True)
class Pair:
    """Two lines whose difference stands in a row."""

    late: Gap
    early: Gap

    @property
    def name(self) -> str:
        return f"{self.late.name} − {self.early.name}"

    def behind(self) -> dict[str, Any]:
        """What the difference stands on: both lines."""
        return difference(self.name, {"difference": self.name}, self.late, self.early)


def tables(
    info: ReportInfo, lines: Sequence[Gap], name: str
) -> list[tuple[Table, Sequence[Gap] | Sequence[Pair]]]:
    """Distances of each line, and the differences of lines where there are two to compare; each table with
    what its rows stand on."""
    paths = list(info.axes)
    rows, data, notes = [], [], Notes()
    for line in lines:
        values = _values(line)
        names = [line.label, *(axis_text(line.axes[path]) for path in paths)]
        rows.append(_marked([*names, *values], notes, line.unseen))
        texts = ["" if text == DASH else text for text in (*names, *values)]
        record = dict(zip(("label", *paths, *_KEYS), texts, strict=True))
        data.append({"arm": line.arm, **record, "profile": info.profile, "note": line.unseen})
    of = f"{lines[0].of}" if lines[0].of in ("foreground", "background") else f"'{lines[0].of}'"
    distances = Table(
        name,
        "Features of labelled and unlabelled cases.",
        _CAPTION.format(of=of),
        ("Method", *paths, *_COLUMNS),
        tuple(rows),
        notes.listed,
        tuple(data),
        captions.tail(info),
        1 + len(paths),
        rules=_RULES,
    )
    pairs = list(_pairs(lines))
    if not pairs:
        return [(distances, lines)]
    return [(distances, lines), (_pairs_table(info, pairs, f"{name}_differences"), pairs)]


def _marked(texts: Sequence[str], notes: Notes, said: str) -> tuple[Entry, ...]:
    """A row, with a mark at its name where there is something to say of it."""
    return (Entry(texts[0], marks=notes.mark(said) if said else ""), *(Entry(text) for text in texts[1:]))


def _values(line: Gap) -> list[str]:
    observed, draws = line.observed, line.draws
    low, high = _interval(draws)
    mean = mean_of(observed)
    beaten = line.permuted[:, RELATIVE] >= mean[RELATIVE]
    p = (1 + int(beaten.sum())) / (1 + len(beaten)) if not np.isnan(mean[RELATIVE]) else None
    sides = [(one.labelled, one.unlabelled) for one in line.members]
    return [
        f"{len(sides[0][0])} / {len(sides[0][1])}",
        " / ".join(_correct([pair[side] for pair in sides], line) for side in (0, 1)),
        f"{mean[W1]:.3g}" if not np.isnan(mean[W1]) else DASH,
        spread_text(observed[:, RELATIVE]),
        f"{number(low[RELATIVE])}–{number(high[RELATIVE])}" if not np.isnan(low[RELATIVE]) else DASH,
        number(float(mean_of(line.permuted)[RELATIVE])),
        p_value(p),
        spread_text(observed[:, OVERLAP]),
        f"{number(low[OVERLAP])}–{number(high[OVERLAP])}" if not np.isnan(low[OVERLAP]) else DASH,
        str(int((~np.isnan(observed[:, W1])).sum())),
    ]


def _correct(groups: Sequence[Mapping[str, tuple[Any, Any]]], line: Gap) -> str:
    """The share of voxels that are predicted correctly, mean over seeds."""
    chosen = classes_of(line.members[0].classes, line.of)
    shares = []
    for group in groups:
        total = sum((counts[chosen].sum(axis=0) for _, counts in group.values()), start=np.zeros(2, int))
        shares += [100 * total[1] / total[0]] if total[0] else []
    return f"{np.mean(shares):.1f}" if shares else DASH


def _pairs(lines: Sequence[Gap]) -> Iterator[Pair]:
    """Later arm minus earlier at the same point; later value of one axis minus its first, for one arm."""
    for index, late in enumerate(lines):
        for early in lines[:index]:
            differ = _apart(late, early)
            own = [line for line in lines if line.arm == late.arm and _apart(line, late) <= differ]
            if (early.arm != late.arm and not differ) or (len(differ) == 1 and early is own[0]):
                yield Pair(late, early)


def _apart(one: Gap, other: Gap) -> set[str]:
    """The axes on which two lines stand at different points."""
    return {path for path in one.axes if axis_text(one.axes[path]) != axis_text(other.axes[path])}


def _difference(late: Gap, early: Gap) -> tuple[Array, tuple[Array, Array], Array, int]:
    """(3,), its interval, what chance gives, and over how many seeds: those that have a distance in both."""
    seeds = late.known_seeds & early.known_seeds
    nothing = np.full(3, np.nan)
    if not seeds:
        return nothing, (nothing, nothing), nothing, 0
    one, other = (
        replace(line, members=[member for member in line.members if member.seed in seeds])
        if len(seeds) < len(line.members)
        else line  # keeps what it has computed
        for line in (late, early)
    )
    chance = mean_of(one.permuted) - mean_of(other.permuted)
    return (
        mean_of(one.observed) - mean_of(other.observed),
        _interval(one.draws - other.draws),
        chance,
        len(seeds),
    )


def _pairs_table(info: ReportInfo, pairs: Sequence[Pair], name: str) -> Table:
    rows, data, notes = [], [], Notes()
    for pair in pairs:
        late, early = pair.late, pair.early
        gap, (low, high), chance, seeds = _difference(late, early)
        texts = [pair.name]
        for which in (RELATIVE, OVERLAP):
            known = not np.isnan(low[which])
            texts += [
                signed(gap[which]),
                f"{signed(low[which])} to {signed(high[which])}" if known else DASH,
                signed(chance[which]),
            ]
        texts.append(str(seeds))
        said = "; ".join(f"{line.name}: {line.unseen}" for line in (late, early) if line.unseen)
        rows.append(_marked(texts, notes, said))
        bare = ["" if text == DASH else text.replace("+", "") for text in texts[1:]]
        record = {"a": late.arm, "b": early.arm, **dict(zip(_PAIR_KEYS, [texts[0], *bare], strict=True))}
        data.append({**record, "profile": info.profile, "note": said})
    return Table(
        name,
        "Differences of the distance.",
        _PAIRS_CAPTION,
        ("A − B", *("W1 / sd", *_BOUNDS), *("Overlap", *_BOUNDS), "seeds"),
        tuple(rows),
        notes.listed,
        tuple(data),
        captions.tail(info),
        rules=_PAIRS_RULES,
    )


def _interval(draws: Array) -> tuple[Array, Array]:
    if np.isnan(draws).all(axis=0).any():
        return np.full(3, np.nan), np.full(3, np.nan)
    low, high = np.nanpercentile(draws, (2.5, 97.5), axis=0)
    return np.asarray(low), np.asarray(high)


def spread_text(values: Array) -> str:
    """Mean ± standard deviation (n - 1) of what is known."""
    known = values[~np.isnan(values)]
    if not known.size:
        return DASH
    return number(float(known.mean())) + (f" ± {number(float(known.std(ddof=1)))}" if known.size > 1 else "")
