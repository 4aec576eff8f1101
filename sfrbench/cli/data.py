"""The commands that look after datasets: where they are, what is wrong with them, preparing them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli import complete
from sfrbench.files.terminal import echo

if TYPE_CHECKING:
    from sfrbench.machine.datacheck import CaseReport, Summary
    from sfrbench.machine.needs import Machine
    from sfrbench.plan.resolve import Resolved


def register(data: click.Group) -> None:
    """Hang the commands on the command line."""
    for command in (data_list, data_check, data_prepare):
        data.add_command(command)


REGISTRY = "more cards; their classes are code that runs, so a folder that you trust"
WORKSPACE = "$SFRBENCH_WORKSPACE, or runs"


def workspace() -> Path:
    """The default of ``--workspace``."""
    from sfrbench.places import locations

    return locations.workspace()


def _pairs(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, Path]:
    found = {}
    for value in values:
        name, equals, folder = value.partition("=")
        if not equals or not name or not folder:
            raise click.BadParameter(f"'{value}': write NAME=DIR")
        try:
            found[name] = Path(folder).expanduser()
        except RuntimeError as error:
            raise click.BadParameter(f"'{value}': {error}") from error
    return found


#: ``--data NAME=DIR``, of every command that reads data.
data_option = click.option(
    "--data", callback=_pairs, multiple=True, metavar="NAME=DIR", help="where a dataset lies"
)


def profile_option(told: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--profile``, of every command that reads a specification for one."""
    return click.option(
        "--profile", default="paper", show_default=True, help=told, shell_complete=complete.profiles
    )


def _one_dataset(function: Callable[..., Any]) -> Callable[..., Any]:
    """NAME and the options that say where and what it is."""
    registry = click.Path(path_type=Path)
    for option in (
        click.option("--registry", multiple=True, type=registry, metavar="DIR", help=REGISTRY),
        click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE", help="a field of the dataset"),
        data_option,
        click.argument("name", shell_complete=complete.datasets),
    ):
        function = option(function)
    return function


def _machine(data: Mapping[str, Path], workspace: Path = Path("runs")) -> Machine:
    from sfrbench.machine.needs import Machine

    return Machine(workspace, data)


def _dataset(name: str, registry: Sequence[Path], sets: Sequence[str], **fields: Any) -> Resolved:
    """The dataset of a card with the fields of ``--set``, as in a specification."""
    from pydantic import ValidationError

    from sfrbench.catalog.cards import Catalog
    from sfrbench.catalog.faults import describe, hint
    from sfrbench.errors import InputError, Problem
    from sfrbench.files.yamlio import read_value
    from sfrbench.plan.resolve import Resolved, unflatten

    card = Catalog.read(registry).card("dataset", name)
    for text in sets:
        path, equals, raw = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: has no '='", hint="write --set FIELD=VALUE")
        fields[path.removeprefix("dataset.")] = read_value(raw, f"--set {text}")
    try:
        return Resolved.of(card.component(unflatten(fields)), card)
    except ValidationError as error:
        cls = card.component_class
        faults = [Problem(f"dataset {name}", describe(each), hint(each, cls)) for each in error.errors()]
        raise InputError.of(faults) from error


def _root(machine: Machine, resolved: Resolved) -> Path | None:
    from sfrbench.components.base import Dataset
    from sfrbench.errors import NotReadyError

    root = machine.root(resolved)
    assert isinstance(resolved.component, Dataset)
    if root is None and resolved.component.needs_root:
        name = resolved.card.name
        raise NotReadyError(
            f"no folder with '{name}' is known", hint=f"give --data {name}=DIR, or set SFRBENCH_DATA"
        )
    return root


@click.command("list")
@data_option
def data_list(data: Mapping[str, Path]) -> None:
    """Datasets, where they lie, and how many cases they hold."""
    for name, place, counts in datasets_here(data):
        if counts is None:
            echo(f"{name:<14} not here (give --data {name}=DIR, or set SFRBENCH_DATA)")
            continue
        if counts.faults:
            echo(f"{name:<14} BROKEN {place or ''}\n  {counts.faults[0]}")
            continue
        classes = ", ".join(counts.classes[1:])
        train = f"{counts.train} train" + (
            f" ({counts.without_label} without a label)" * bool(counts.without_label)
        )
        echo(f"{name:<14} {train}, {counts.test} test, {classes}  {place or 'generated'}")


def datasets_here(data: Mapping[str, Path]) -> Iterator[tuple[str, Path | None, Summary | None]]:
    """Name and folder of every dataset that has a card, and what is in it; none: it is not here. A folder
    that is configured and not there is a fault of its dataset, and hides no other one."""
    from sfrbench.catalog.cards import Catalog
    from sfrbench.components.base import Dataset
    from sfrbench.errors import InputError, NotReadyError
    from sfrbench.machine.datacheck import Summary, summary
    from sfrbench.plan.resolve import Resolved

    machine = _machine(data)
    for card in Catalog.read().cards("dataset"):
        resolved = Resolved.of(card.component({}), card)
        dataset = resolved.component
        assert isinstance(dataset, Dataset)
        try:
            root = machine.root(resolved)
        except (InputError, NotReadyError) as error:
            if card.name in data or dataset.folder in data:  # a slip in this very command
                raise
            yield card.name, None, Summary(faults=error.problems)
            continue
        missing = root is None and dataset.needs_root
        yield card.name, root, None if missing else summary(dataset, root)


@click.command("check")
@_one_dataset
@click.option(
    "--contact-sheet",
    "sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="draw a slice of every case with its label; FILE-2.png and so on where one page is not enough",
)
def data_check(
    name: str, data: Mapping[str, Path], registry: Sequence[Path], sets: Sequence[str], sheet: Path | None
) -> None:
    """Read every case of dataset NAME and say what is wrong.

    Exit status: 0 sound, 1 where a case is broken, a test case has the image of a training case, or no
    training case has a foreground voxel.
    """
    from sfrbench.components.base import Dataset
    from sfrbench.errors import InputError
    from sfrbench.machine.datacheck import by_class, examine, no_foreground

    resolved = _dataset(name, registry, sets)
    assert isinstance(resolved.component, Dataset)
    root = _root(_machine(data), resolved)
    pages = None
    if sheet is not None:
        from sfrbench.report.render.contact import ContactSheet

        if sheet.suffix.lower() != ".png":
            raise InputError(f"--contact-sheet {sheet}: not a .png", hint="give a name that ends with .png")
        pages = ContactSheet(sheet, resolved.component.class_names(root), name)
    reports = []
    for report, case in examine(resolved.component, root):
        reports.append(report)
        echo(_case_line(report))
        if pages is not None:
            pages.add(report, case)
    for line in by_class(reports, resolved.component.class_names(root)):
        echo(line)
    for remark in resolved.component.remarks(root):
        echo(f"note: {remark}")
    lacking, hopeless = no_foreground(resolved.component, root, reports)
    if lacking:
        echo(f"{'BROKEN' if hopeless else 'note:'} {lacking}")
    broken = sum(not report.sound for report in reports)
    twins = sum(report.duplicate_of is not None for report in reports)
    leaks = sum(report.leak for report in reports)
    said = f"{len(reports)} cases, {broken} broken, {twins} with the image of another case"
    echo(said + (f", {leaks} of them across training and test" if leaks else ""))
    for page in pages.close() if pages is not None else ():
        echo(f"contact sheet: {page}")
    sys.exit(1 if broken or leaks or hopeless else 0)


def _case_line(report: CaseReport) -> str:
    if not report.sound:
        return "\n".join(f"{report.case}  {report.subset}  BROKEN  {fault}" for fault in report.faults)
    line = f"{report.case}  {report.subset}  {_grid(report.shape, report.spacing)}"
    if report.raw_shape != report.shape:
        line += f" (raw {_grid(report.raw_shape, report.raw_spacing)})"
    low, high = report.intensity or (float("nan"), float("nan"))
    volumes = ", ".join(f"{name} {_ml(ml)} ml" for name, ml in report.volumes.items())
    volumes = volumes or ("no foreground" if report.labelled else "NO LABEL")
    line += f"  {report.orientation or '-'}  [{low:.4g}, {high:.4g}]  {volumes}"
    if report.volumes and report.absent:
        line += f"; without {', '.join(report.absent)}"
    if report.duplicate_of:
        leak = " (a training and a test case)" if report.leak else ""
        line += f"  SAME IMAGE AS {report.duplicate_of}{leak}"
    return line + "".join(f"  note: {note}" for note in report.notes)


def _ml(volume: float) -> str:
    return f"{volume:.1f}" if volume >= 0.05 else f"{volume:.2g}"


def _grid(shape: Sequence[int], spacing: Sequence[float]) -> str:
    return f"{'x'.join(map(str, shape))} {'x'.join(f'{side:.4g}' for side in spacing)} mm"


@click.command("prepare")
@_one_dataset
@profile_option("the profile that will use it")
@click.option("--workspace", type=click.Path(path_type=Path), default=workspace, show_default=WORKSPACE)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="processes, each with one case in memory; in a specification: dataset.workers",
)
def data_prepare(
    name: str,
    data: Mapping[str, Path],
    registry: Sequence[Path],
    sets: Sequence[str],
    profile: str,
    workspace: Path,
    workers: int | None,
) -> None:
    """Prepare the volumes of dataset NAME, as the experiments of a profile will find them.

    Broken cases are named at the end and the others are kept: the next time only those are read that were
    not finished.
    """
    from sfrbench.cli import console
    from sfrbench.plan.graph import prepare_node
    from sfrbench.plan.reasons import earlier
    from sfrbench.run.executors.node import Worker
    from sfrbench.run.prepared import noted
    from sfrbench.spec.reader import read_profile
    from sfrbench.store.store import Store

    read_profile(profile)
    machine = _machine(data, workspace)
    resolved = _dataset(name, registry, sets, **({} if workers is None else {"workers": workers}))
    _root(machine, resolved)
    store = Store(workspace / "store")
    node = prepare_node(resolved, profile, machine.fingerprint)
    with noted(workspace, store, f"{name}-{profile}", node):
        if store.has(node.stage, node.key):
            echo(f"reuse {console.named(node)}  same key")
        else:
            if note := earlier(store):
                echo(f"note: {note}")
            store.open()
            listener = console.PlainListener()
            Worker.of(store, machine, profile).run(
                node, lambda done, total, **values: listener.node_progress(node, done, total, dict(values))
            )
    echo(f"prepared: {store.folder(node.stage, node.key)}")
