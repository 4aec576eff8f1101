"""Why a run does not get the accelerator that it wants: one message, which says what part is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfrbench.errors import Problem
from sfrbench.files.units import counted
from sfrbench.machine.accelerator import CUDA_HIDES, HIP_HIDES, ROCR_HIDES, Answer, Card, codes
from sfrbench.machine.driver import Driver

#: The CUDA of PyTorch's wheels, newest first, by the newest CUDA that a driver runs: one of the same major
#: version is enough for it. PyTorch 2.6 or newer has been built for each.
_WHEELS = (((13, 0), "cu130"), ((12, 0), "cu126"), ((11, 0), "cu118"))
_ROCM = "rocm6.4"
#: The driver that each major version of CUDA needs at least, on Linux.
_NEEDS = {"13": "580", "12": "525.60.13", "11": "450.80.02"}
UNTESTED = (
    "Apple's GPU (mps) is used; sfrbench is untested on it: compare a small run with --device cpu first"
)


@dataclass(frozen=True)
class Wish:
    """The device that is asked for, and by whom."""

    device: str  # auto, cpu, cuda, cuda:N, mps
    profile: str = ""  # that needs an accelerator; empty: the profile needs none
    gpus: tuple[str, ...] = ()  # of --gpus

    @property
    def insists(self) -> bool:
        """Whether a processor alone will not do."""
        return bool(self.gpus or self.profile if self.device == "auto" else self.device != "cpu")

    def problem(self, what: str, hint: str = "") -> Problem:
        """In the words of whoever asks."""
        if self.gpus:
            return Problem(f"--gpus {','.join(self.gpus)}", what, _joined(hint, "or leave it out"))
        if self.device != "auto":
            return Problem(f"--device {self.device}", what, _joined(hint, "or use --device cpu"))
        other = "or use --profile cpu, or insist with --device cpu"
        return Problem("gpu", f"profile '{self.profile}' needs a GPU: {what}", _joined(hint, other))


def refusal(answer: Answer, wish: Wish) -> Problem | None:
    """What is missing of what is wished for; None where it can be had, or nothing is insisted on."""
    if not wish.insists:
        return None
    if not answer.torch:
        return wish.problem(f"torch cannot be imported: {answer.fault}", "install it anew")
    if wish.device == "mps":
        return (
            None
            if answer.mps
            else wish.problem(f"torch {answer.torch} is {answer.kind}, and sees no GPU of Apple's")
        )
    if not answer.cards:
        takes_mps = answer.mps and wish.device == "auto" and not wish.gpus
        return None if takes_mps else wish.problem(*_none(answer))
    if wish.gpus:
        return _of_gpus(answer, wish)
    card = answer.card(wish.device)
    if card is not None and answer.runs(card):
        return None
    if card is None and wish.device != "auto":
        return wish.problem(
            f"there is no such card: torch sees {_told(answer.cards)}", "their numbers begin with cuda:0"
        )
    return wish.problem(*_unfit(answer, [card] if card else answer.cards))


def lack(answer: Answer) -> tuple[str, str]:
    """Why no GPU can be used, and what to do; empty where one can."""
    if answer.usable or not answer.torch:
        return "", ""
    return _unfit(answer, answer.cards) if answer.cards else _none(answer)


def known(answer: Answer | None) -> str:
    """The GPUs of this machine by what torch said, in a line."""
    if answer is None:
        return "not known yet; 'sfrbench doctor' asks torch"
    names = [card.name for card in answer.usable] or ["Apple's, untested"] * answer.mps
    return ", ".join(names) or f"none: {lack(answer)[0]}"


def fallback(answer: Answer) -> str:
    """Why a GPU that is here is left alone where nobody insists on it; empty where there is none to miss."""
    what, hint = lack(answer)
    if not what or not answer.driver.any:
        return ""
    return f"the processor computes, as no GPU can be used: {what}\n    {hint}"


def _of_gpus(answer: Answer, wish: Wish) -> Problem | None:
    """What is wrong with the cards of ``--gpus``, which are named as CUDA_VISIBLE_DEVICES names them."""
    seen = {card.visible: card for card in answer.cards}
    unknown = [name for name in wish.gpus if name not in seen]
    if unknown:
        shown = ", ".join(f"{name} ({card.name})" for name, card in seen.items())
        return wish.problem(f"no GPU {', '.join(unknown)} is seen here", f"seen: {shown}")
    unfit = [seen[name] for name in wish.gpus if not answer.runs(seen[name])]
    return wish.problem(*_unfit(answer, unfit)) if unfit else None


def _unfit(answer: Answer, cards: Sequence[Card]) -> tuple[str, str]:
    """Cards that this build has no code for."""
    names = ", ".join(dict.fromkeys(f"{card.name} ({card.arch})" for card in cards))
    what = f"torch {answer.torch} has no code for {names}; it has {' '.join(answer.archs)}"
    if answer.build == "rocm":
        return what, "see which cards AMD's ROCm runs on, and PyTorch's builds for it"
    newest = max((code.version for code in codes(answer.archs)), default=(0, 0))
    if max(card.capability for card in cards) > newest:
        return what, f"a newer build may have it: {_pip(answer.driver)}"
    return what, f"an older build may have it: {_pip(Driver(cuda='12.0'))}"


def _none(answer: Answer) -> tuple[str, str]:
    """Why torch sees no card, and what to do."""
    driver = answer.driver
    if answer.build == "cpu":
        if not driver.any:
            hint = f"on a machine with a GPU, install its driver, and then: {_pip(driver)}"
            return f"torch {answer.torch} is {answer.kind}, and no driver of a GPU is here", hint
        cards = "" if driver.cards is None else f", with {counted(driver.cards, 'card')}"
        return f"torch {answer.torch} is {answer.kind}; {driver} is here{cards}", _pip(driver)
    return _no_rocm(answer) if answer.build == "rocm" else _no_cuda(answer)


def _no_cuda(answer: Answer) -> tuple[str, str]:
    driver = answer.driver
    if driver.fault:
        hint = "after an update of the driver, restart the machine; 'nvidia-smi' has to work first"
        return f"the NVIDIA driver does not answer: {driver.fault}", hint
    if not driver.nvidia and driver.amd:
        return f"torch {answer.torch} is {answer.kind}, and the GPU here is AMD's", _pip(driver)
    if not driver.nvidia:
        hint = "install the driver until 'nvidia-smi' shows the card; start a container with '--gpus all'"
        return "no NVIDIA driver is here", hint
    major = answer.version.partition(".")[0]
    if driver.cuda and int(driver.cuda.partition(".")[0]) < int(major):
        newer = f"install driver {_NEEDS.get(major, 'of a newer series')} or newer, or: "
        return f"{driver} is too old: torch {answer.torch} is {answer.kind}", f"{newer}{_pip(driver)}"
    if driver.cards == 0:
        hint = "see 'nvidia-smi -L'; start a container with '--gpus all', ask a cluster for a GPU"
        return f"{driver} is here, but no card", hint
    return _hidden(answer, (CUDA_HIDES,)) or _unknown(answer)


def _no_rocm(answer: Answer) -> tuple[str, str]:
    driver = answer.driver
    if driver.amd == "closed":
        what = "this user may not open AMD's driver (/dev/kfd)"
        return what, "become a member of the groups 'render' and 'video', and log in anew"
    if not driver.amd and driver.nvidia:
        return f"torch {answer.torch} is {answer.kind}, and the GPU here is NVIDIA's", _pip(driver)
    if not driver.amd:
        hint = "install amdgpu's driver; start a container with '--device /dev/kfd --device /dev/dri'"
        return "no driver of AMD's is here (/dev/kfd)", hint
    return _hidden(answer, (HIP_HIDES, ROCR_HIDES, CUDA_HIDES)) or _unknown(answer)


def _hidden(answer: Answer, names: Sequence[str]) -> tuple[str, str] | None:
    """That a variable hides every card, where that is certain: the first name that is none ends the list."""
    cards = answer.driver.cards
    for name in names:
        given = answer.facts.get(name)
        if given is None:
            continue
        first = given.partition(",")[0].strip()
        none = first in ("", "-1", "NoDevFiles")
        if none or (cards is not None and first.isdigit() and int(first) >= cards):
            does = "hides every GPU" if none else "names no GPU that is here"
            many = "" if cards is None else f" ({counted(cards, 'card')})"
            tool = "nvidia-smi -L" if answer.build == "cuda" else "rocm-smi"
            return f"{name}={given!r} {does}{many}", f"unset {name}, or name cards that '{tool}' shows"
    return None


def _unknown(answer: Answer) -> tuple[str, str]:
    said = f": {answer.fault}" if answer.fault else ""
    many = f" has {counted(answer.driver.cards, 'card')}" if answer.driver.cards is not None else " is here"
    return f"{answer.driver}{many}, and torch cannot use any{said}", "'sfrbench doctor' says more"


def _pip(driver: Driver) -> str:
    """How to get a torch that uses the GPU here, or, where none is here, a usual one."""
    wheels = "cu126"
    if driver.nvidia and driver.cuda:
        major, _, minor = driver.cuda.partition(".")
        newest = int(major), int(minor or 0)
        wheels = next((name for needed, name in _WHEELS if newest >= needed), "cu118")
    elif driver.amd:
        wheels = _ROCM
    index = f"--index-url https://download.pytorch.org/whl/{wheels}"
    return f"pip uninstall -y torch && pip install 'torch>=2.6' {index}"


def _told(cards: Sequence[Card]) -> str:
    return f"{len(cards)}, " + ", ".join(f"cuda:{card.index} ({card.name})" for card in cards)


def _joined(hint: str, other: str) -> str:
    """Two ways out, the second of them ``or …``."""
    return f"{hint}\n    {other}" if hint else other.removeprefix("or ")
