"""``sfrbench doctor``: what this machine has and can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli.data import data_list, data_option, datasets_here
from sfrbench.cli.weights import weights_list
from sfrbench.files.terminal import echo

if TYPE_CHECKING:
    from sfrbench.errors import Problem
    from sfrbench.machine.accelerator import Answer, Card
    from sfrbench.machine.selfcheck import SelfCheck


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="for programs")
def doctor(data: Mapping[str, Path], as_json: bool) -> None:
    """What this machine has and can run. What torch says of GPUs is kept for 'plan' and 'validate'."""
    import json
    import shutil

    from sfrbench.engine import compiling
    from sfrbench.files.roots import shipped
    from sfrbench.machine import accelerator
    from sfrbench.machine.needs import environment, git_state
    from sfrbench.places.locations import config_file

    facts, git, answer = environment(), git_state(), accelerator.ask()
    checked = _checked() if answer.torch else None
    free, registry, config = shutil.disk_usage(".").free, shipped("registry"), config_file()
    if as_json:
        found = {
            **facts,
            "git": git,
            "accelerator": _told(answer),
            "numbers": None if checked is None else checked.model_dump(mode="json"),
            "compile": compiling.lack(answer.device("auto")) is None,
            "slurm": not _lack_of_slurm(),
            "free_bytes": free,
            "registry": str(registry),
            "config": str(config) if config.is_file() else None,
            "weights": list(_weights()),
            "data": list(_data(data)),
        }
        echo(json.dumps(found, indent=1), fold=False)
        return
    echo(f"sfrbench {facts['sfrbench']} {git.get('commit', '')[:10]}  Python {facts['python']}")
    echo(f"platform  {facts['platform']}, {facts['cpus']} CPUs")
    for name, version in facts["packages"].items():
        echo(f"  {name} {version}")
    _print_torch(answer)
    if checked is not None:
        _print_numbers(checked)
    lacking = compiling.lack(answer.device("auto"))
    echo(f"compile   {'blocks' if lacking is None else f'none: {lacking.what}'}")
    if lacking is not None:
        echo(f"          {lacking.hint}")
    echo(f"SLURM     {_lack_of_slurm() or 'it answers, and submitit is here: --executor slurm'}")
    echo(f"disk      {free / 1e9:.0f} GB free here")
    echo(f"registry  {registry}")
    echo(f"config    {config}{'' if config.is_file() else ' (none, which is fine)'}")
    echo("weights")
    weights_list.callback()  # type: ignore[misc]
    echo("data")
    data_list.callback(data)  # type: ignore[misc]


def _lack_of_slurm() -> str:
    """What is missing for --executor slurm; empty: nothing that is seen from here."""
    from sfrbench.errors import NotReadyError, first_line
    from sfrbench.run.executors.slurm import ask, sbatch

    try:
        sbatch.ready()
        ask.queue()
    except NotReadyError as error:
        (problem,) = error.problems
        return f"none: {problem.what}; {problem.hint}"
    except ask.SlurmError as error:
        return f"none: {first_line(error, None)}"
    return ""


def _checked() -> SelfCheck:
    """Whether the processor computes rightly, found out anew."""
    from sfrbench.machine import selfcheck

    checked = selfcheck.run("cpu")
    checked.keep()
    return checked


def _told(answer: Answer) -> dict[str, Any]:
    """What torch says, for programs: with the device that ``auto`` takes, or what it lacks for a GPU."""
    from sfrbench.machine.refusal import lack

    what, remedy = lack(answer)
    return {
        **answer.model_dump(mode="json"),
        "usable": [card.index for card in answer.usable],
        "auto": answer.device("auto"),
        "lacks": what or answer.fault or None,
        "remedy": remedy or None,
    }


def _print_torch(answer: Answer) -> None:
    """Build, libraries, driver and cards; what is missing for a GPU, where none can be used."""
    from sfrbench.machine.card import dotted
    from sfrbench.machine.refusal import lack

    if not answer.torch:
        echo(f"torch     cannot be imported: {answer.fault}")
        echo("          nothing can be trained or predicted here until it is installed anew")
        return
    import torch

    cpu = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    echo(f"torch     {answer.torch}, {answer.kind}; {cpu}")
    if answer.cudnn is not None:
        rocm = answer.build == "rocm"
        echo(f"cuDNN     {f'MIOpen {answer.cudnn}' if rocm else dotted(answer.cudnn)}")
    echo(f"driver    {str(answer.driver).removeprefix('the ')}")
    for card in answer.cards:
        named = "" if card.visible == str(card.index) else f" ({card.visible} in CUDA_VISIBLE_DEVICES)"
        echo(f"GPU {card.index}     {card}{named}{'' if answer.runs(card) else ', NOT USABLE by this torch'}")
        for problem in _refused_precisions(answer, card):
            echo(f"          refused in a run: {problem.what}")
    if answer.mps:
        echo("GPU       Apple's (mps), on which sfrbench is untested")
    what, remedy = lack(answer)
    if what and not answer.mps:
        echo("GPU       none: profiles cpu and smoke run here, paper and released need a GPU")
        echo(f"          {what}")
        echo(f"          {remedy}")


def _refused_precisions(answer: Answer, card: Card) -> list[Problem]:
    """What a GPU must not be asked for."""
    from sfrbench.machine.card import cards_of, refusal

    known = cards_of(answer)[card.index]
    found = [refusal(known, wanted, "precision", in_3d=True) for wanted in ("tf32", "bf16")]
    return [problem for problem in found if problem is not None]


def _print_numbers(checked: SelfCheck) -> None:
    echo(f"numbers   {checked} ({checked.seconds:.1f} s)")
    for fault in checked.faults:
        echo(f"  WRONG   {fault}")
    if checked.of("bf16"):
        echo("          runs on this CPU fall back to fp32 where bf16 is asked for")
    if checked.of("fp32"):
        echo("          fp32 itself is wrong here: results of this machine are not to be trusted")


def _weights() -> Iterator[dict[str, Any]]:
    from sfrbench.places import weights

    for status in weights.statuses():
        place = None if status.path is None else str(status.path)
        state = {"verified": status.verified, "problem": status.problem or None}
        yield {"name": status.weight.name, "path": place, **state}


def _data(data: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    for name, place, counts in datasets_here(data):
        found = {"name": name, "here": counts is not None, "path": None if place is None else str(place)}
        if counts is not None:
            found |= {**asdict(counts), "faults": [str(fault) for fault in counts.faults]}
        yield found
