"""The command that sets two runs of one experiment against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sfrbench.files.terminal import echo

if TYPE_CHECKING:
    from sfrbench.compare.runs import Comparison, MetricRow


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--experiment", default=None, help="which, where the workspaces hold several")
@click.option("--profile", default=None, help="which, where the workspaces hold several")
@click.option(
    "--metric", "metrics", multiple=True, default=("dice", "jaccard", "asd", "hd95"), show_default=True
)
@click.option(
    "--subset", default=None, help="test, val, unlabelled, 'unlabelled round 1', 'round 1'; default: test"
)
@click.option("--csv", "file", type=click.Path(path_type=Path), help="write the numbers here as well")
def compare(
    a: Path,
    b: Path,
    experiment: str | None,
    profile: str | None,
    metrics: Sequence[str],
    subset: str | None,
    file: Path | None,
) -> None:
    """Compare two runs of one experiment: A − B on the cases and seeds that both have.

    A and B are workspaces, reports, or frames that 'sfrbench results' wrote.
    """
    from sfrbench.compare.runs import compare as compared
    from sfrbench.compare.runs import data, known_metric
    from sfrbench.compare.sides import load_sides

    names = [known_metric(name) for name in metrics]
    comparison = compared(*load_sides(a, b, experiment, profile), names, subset)
    for line in _lines(comparison):
        echo(line)
    if file is not None:
        import pandas as pd

        from sfrbench.files.atomic import atomic_file
        from sfrbench.files.sheets import csv_of

        with atomic_file(file) as temporary:
            temporary.write_text(csv_of(pd.DataFrame(data(comparison))), encoding="utf-8", newline="")
        echo(f"{len(comparison.rows)} rows: {file}")


def _lines(both: Comparison) -> Iterator[str]:
    from sfrbench.compare.sides import commits

    for name, side in zip("AB", both.sides, strict=True):
        code = f", code {' '.join(commits(side))}" if side.report else ""
        yield f"{name}: {side.name}, {side.what}{code}"
    if both.sides[0].what != both.sides[1].what:
        yield "A and B are of different experiments or profiles"
    yield f"A − B on shared cases ({both.subset}), classes and seeds; paired, interval over cases and seeds"
    yield "better, worse: A by the metric, whatever the sign"
    yield ""
    yield from _table(both.rows)
    yield ""
    for arm, said in both.work.items():
        yield f"{arm}: {said}"
    for name, cells in zip("AB", both.only, strict=True):
        if cells:
            yield f"only in {name}: {'; '.join(cells)}"


def _table(rows: Sequence[MetricRow]) -> Iterator[str]:
    from sfrbench.maths.metric_names import METRICS
    from sfrbench.report.render.style import DASH, judged, number, p_value, signed

    heads = ("arm", "metric", "A", "B", "A − B", "95 % interval", "p", "n", "seeds", "")
    texts = [heads]
    for row in rows:
        gap = row.difference
        known = gap is not None and gap.low is not None
        texts.append(
            (
                ", ".join(part for part in (row.arm, row.point) if part),
                f"{METRICS[row.metric].label} ({row.unit})",
                number(row.a),
                number(row.b),
                judged(gap.mean, METRICS[row.metric].larger) if gap else DASH,
                f"{signed(gap.low)} to {signed(gap.high)}" if gap and known else DASH,
                p_value(row.p),
                str(gap.cases if gap else 0),
                str(gap.seeds if gap else 0),
                row.note,
            )
        )
    widths = [max(len(line[index]) for line in texts) for index in range(len(heads))]
    for line in texts:
        cells = [
            text.ljust(width) if index < 2 else text.rjust(width)
            for index, (text, width) in enumerate(zip(line[:-1], widths[:-1], strict=True))
        ]
        yield "  ".join([*cells, line[-1]]).rstrip()
