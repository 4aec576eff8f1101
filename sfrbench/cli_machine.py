"""The commands that look after data, weights and the machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sfrbench.datacheck import CaseReport
    from sfrbench.machine import Machine
    from sfrbench.resolve import Resolved


def register(main: click.Group, data: click.Group, weights: click.Group) -> None:
    """Hang the commands on the command line."""
    for command in (data_list, data_check, data_prepare):
        data.add_command(command)
    for command in (weights_list, weights_get, weights_check):
        weights.add_command(command)
    main.add_command(doctor)


def _pairs(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, Path]:
    found = {}
    for value in values:
        name, equals, folder = value.partition("=")
        if not equals or not name or not folder:
            raise click.BadParameter(f"'{value}': write NAME=DIR")
        found[name] = Path(folder).expanduser()
    return found


#: ``--data NAME=DIR``, of every command that reads data.
data_option = click.option(
    "--data", callback=_pairs, multiple=True, metavar="NAME=DIR", help="where a dataset lies"
)


def _machine(data: Mapping[str, Path], workspace: Path = Path("runs")) -> Machine:
    from sfrbench.machine import Machine

    return Machine(workspace, data)


def _dataset(name: str, registry: Sequence[Path] = (), fields: dict[str, Any] | None = None) -> Resolved:
    from sfrbench.catalog import Catalog
    from sfrbench.resolve import Resolved

    card = Catalog.read(registry).card("dataset", name)
    return Resolved.of(card.component(fields or {}), card)


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
    from sfrbench.catalog import Catalog
    from sfrbench.components.base import Dataset
    from sfrbench.datacheck import summary
    from sfrbench.resolve import Resolved

    machine = _machine(data)
    for card in Catalog.read().cards("dataset"):
        resolved = Resolved.of(card.component({}), card)
        dataset = resolved.component
        assert isinstance(dataset, Dataset)
        root = machine.root(resolved)
        if root is None and dataset.needs_root:
            click.echo(f"{card.name:<14} not here (give --data {card.name}=DIR, or set SFRBENCH_DATA)")
            continue
        found = summary(dataset, root)
        if found.faults:
            click.echo(f"{card.name:<14} BROKEN {root}\n  {found.faults[0]}")
            continue
        place = root or "generated"
        classes = ", ".join(found.classes[1:])
        click.echo(f"{card.name:<14} {found.train} train, {found.test} test, {classes}  {place}")


@click.command("check")
@click.argument("name")
@data_option
def data_check(name: str, data: Mapping[str, Path]) -> None:
    """Read every case of dataset NAME and say what is wrong. Exit 1 where a case is broken."""
    from sfrbench.components.base import Dataset
    from sfrbench.datacheck import check

    machine = _machine(data)
    resolved = _dataset(name)
    assert isinstance(resolved.component, Dataset)
    reports = check(resolved.component, _root(machine, resolved))
    for report in reports:
        click.echo(_case_line(report))
    broken = [report for report in reports if not report.sound]
    twins = [report for report in reports if report.duplicate_of]
    click.echo(f"{len(reports)} cases, {len(broken)} broken, {len(twins)} with the image of another case")
    sys.exit(1 if broken else 0)


def _case_line(report: CaseReport) -> str:
    if not report.sound:
        return "\n".join(f"{report.case}  BROKEN  {fault}" for fault in report.faults)
    shape = "x".join(map(str, report.shape))
    spacing = "x".join(f"{side:g}" for side in report.spacing)
    volumes = ", ".join(f"{name} {ml:.1f} ml" for name, ml in report.volumes.items()) or "no foreground"
    low, high = report.intensity or (float("nan"), float("nan"))
    line = f"{report.case}  {report.subset}  {shape}  {spacing} mm  {report.orientation or '-'}"
    line += f"  [{low:.4g}, {high:.4g}]  {volumes}"
    if report.duplicate_of:
        line += f"  SAME IMAGE AS {report.duplicate_of}"
    return line + "".join(f"  note: {note}" for note in report.notes)


@click.command("prepare")
@click.argument("name")
@data_option
@click.option("--profile", default="paper", show_default=True, help="the profile that will use it")
@click.option("--workspace", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
def data_prepare(name: str, data: Mapping[str, Path], profile: str, workspace: Path) -> None:
    """Prepare the volumes of dataset NAME, as the experiments of a profile will find them."""
    from sfrbench import console
    from sfrbench.executors.node import Worker
    from sfrbench.graph import prepare_node
    from sfrbench.spec_reader import read_profile
    from sfrbench.store import Store

    read_profile(profile)
    machine = _machine(data, workspace)
    resolved = _dataset(name)
    _root(machine, resolved)
    store = Store(workspace / "store")
    node = prepare_node(resolved, profile, machine.fingerprint)
    if store.has(node.stage, node.key):
        click.echo(f"reuse {console.named(node)}  same key")
    else:
        listener = console.PlainListener()
        Worker.of(store, machine, profile).run(
            node, lambda done, total, **values: listener.node_progress(node, done, total, dict(values))
        )
    click.echo(f"prepared: {store.folder(node.stage, node.key)}")


@click.command("list")
def weights_list() -> None:
    """Weight files, their licence, and whether they are here."""
    from sfrbench import weights

    for entry in weights.listing():
        click.echo(entry)


@click.command("get")
@click.argument("name")
def weights_get(name: str) -> None:
    """Fetch weight file NAME where that can be done, and verify it."""
    from sfrbench import weights

    click.echo(f"{name}: {weights.get(name)}")


@click.command("check")
@click.argument("name", required=False)
def weights_check(name: str | None) -> None:
    """Verify the weight files that are here (or file NAME) by size and hash."""
    from sfrbench import weights
    from sfrbench.errors import SfrbenchError

    bad = False
    for each in [name] if name else list(weights.CATALOGUE):
        try:
            click.echo(f"{each}: sound, {weights.check(each)}")
        except SfrbenchError as error:
            bad = bad or name is not None
            click.echo(f"{each}: {error}")
    sys.exit(1 if bad else 0)


@click.command()
@data_option
def doctor(data: Mapping[str, Path]) -> None:
    """What this machine has and can run."""
    import shutil

    import torch

    from sfrbench.locations import config_file
    from sfrbench.machine import environment, git_state
    from sfrbench.roots import shipped

    facts = environment()
    click.echo(f"sfrbench {facts['sfrbench']} {git_state().get('commit', '')[:10]}  Python {facts['python']}")
    click.echo(
        f"platform  {facts['platform']}, {facts['cpus']} CPUs, torch threads {torch.get_num_threads()}"
    )
    for name, version in facts["packages"].items():
        click.echo(f"  {name} {version}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            click.echo(f"GPU {index}  {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    else:
        click.echo("GPU       none: profiles cpu and smoke run here, profile paper wants a GPU")
    click.echo(f"disk      {shutil.disk_usage('.').free / 1e9:.0f} GB free here")
    click.echo(f"registry  {shipped('registry')}")
    there = config_file().is_file()
    click.echo(f"config    {config_file()}{'' if there else ' (none, which is fine)'}")
    click.echo("weights")
    weights_list.callback()  # type: ignore[misc]
    click.echo("data")
    data_list.callback(data)  # type: ignore[misc]
