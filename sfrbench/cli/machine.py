"""The commands that look after weights and the machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from sfrbench.cli.data import data_list, data_option
from sfrbench.files.terminal import echo


def register(main: click.Group, weights: click.Group) -> None:
    """Hang the commands on the command line."""
    for command in (weights_list, weights_get, weights_check):
        weights.add_command(command)
    main.add_command(doctor)


@click.command("list")
def weights_list() -> None:
    """Weight files, their licence, and whether they are here."""
    from sfrbench.places import weights

    for entry in weights.listing():
        echo(entry)


@click.command("get")
@click.argument("name")
def weights_get(name: str) -> None:
    """Fetch weight file NAME where that can be done, and verify it."""
    from sfrbench.places import weights

    echo(f"{name}: {weights.get(name)}")


@click.command("check")
@click.argument("name", required=False)
def weights_check(name: str | None) -> None:
    """Verify the weight files that are here (or file NAME) by size and hash."""
    from sfrbench.errors import SfrbenchError
    from sfrbench.places import weights

    bad = False
    for each in [name] if name else list(weights.CATALOGUE):
        try:
            echo(f"{each}: sound, {weights.check(each)}")
        except SfrbenchError as error:
            bad = bad or name is not None
            echo(f"{each}: {error}")
    sys.exit(1 if bad else 0)


@click.command()
@data_option
def doctor(data: Mapping[str, Path]) -> None:
    """What this machine has and can run."""
    import shutil

    from sfrbench.files.roots import shipped
    from sfrbench.machine.needs import environment, git_state
    from sfrbench.places.locations import config_file

    facts = environment()
    echo(f"sfrbench {facts['sfrbench']} {git_state().get('commit', '')[:10]}  Python {facts['python']}")
    echo(f"platform  {facts['platform']}, {facts['cpus']} CPUs")
    for name, version in facts["packages"].items():
        echo(f"  {name} {version}")
    _doctor_torch()
    echo(f"disk      {shutil.disk_usage('.').free / 1e9:.0f} GB free here")
    echo(f"registry  {shipped('registry')}")
    there = config_file().is_file()
    echo(f"config    {config_file()}{'' if there else ' (none, which is fine)'}")
    echo("weights")
    weights_list.callback()  # type: ignore[misc]
    echo("data")
    data_list.callback(data)  # type: ignore[misc]


def _doctor_precisions(device: str) -> None:
    """The versions that decide the numbers of a GPU, and what it must not be asked for."""
    from sfrbench.machine.card import card_of, refusal

    card = card_of(device)
    if card is None:
        return
    echo("          compute capability {capability}, cuDNN {cudnn}".format(**card.facts))
    found = [refusal(card, precision, "precision", in_3d=True) for precision in ("tf32", "bf16")]
    for problem in filter(None, found):
        echo(f"          refused in a run: {problem.what}")


def _doctor_torch() -> None:
    """What needs torch: threads, GPUs, and whether the processor computes rightly; or that it is broken."""
    try:
        import torch
    except Exception as error:  # a broken installation raises OSError, RuntimeError and others
        echo(f"torch     cannot be imported: {type(error).__name__}: {error}")
        echo("          nothing can be trained or predicted here until it is installed anew")
        return
    from sfrbench.machine import selfcheck

    echo(f"torch     {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        echo(f"GPU {index}     {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        _doctor_precisions(f"cuda:{index}")
    if not torch.cuda.is_available():
        echo("GPU       none: profiles cpu and smoke run here, paper and released want a GPU")
    checked = selfcheck.run("cpu")
    selfcheck.keep(checked)
    echo(f"numbers   {checked} ({checked.seconds:.1f} s)")
    for fault in checked.faults:
        echo(f"  WRONG   {fault}")
    if checked.of("bf16"):
        echo("          runs on this CPU fall back to fp32 where bf16 is asked for")
    if checked.of("fp32"):
        echo("          fp32 itself is wrong here: results of this machine are not to be trusted")
