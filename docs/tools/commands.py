"""A page for each command, made from click's own tree."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import click

from docs.tools.words import code, plain, table
from sfrbench.cli import main

#: Groups of commands as a reader meets them; those that are in none come last.
_GROUPS = {
    "Begin": ("new", "completion"),
    "Look": ("list", "show", "doctor", "schema", "validate", "plan", "conform"),
    "Run": ("run", "search", "status", "cancel", "clean"),
    "Results": ("results", "report", "trace", "compare", "track"),
    "Take home": ("predict", "export"),
    "Data and weights": ("data", "weights"),
}


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    return {f"reference/commands/{'-'.join(words)}.md": _page(words, each) for words, each in commands()}


def nav() -> list[Any]:
    """Each command's page by its words."""
    return [{" ".join(words): f"reference/commands/{'-'.join(words)}.md"} for words, _ in commands()]


def commands() -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by its words, in the order of ``_GROUPS``."""
    order = [name for names in _GROUPS.values() for name in names]
    order += sorted(set(main.commands) - set(order))
    return [found for name in order for found in _below((name,), main.commands[name])]


def _below(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _below((*words, name), inner)
    else:
        yield words, command


def tables() -> dict[str, str]:
    groups = {name: group for group, names in _GROUPS.items() for name in names}
    rows: dict[str, list[tuple[str, str]]] = {group: [] for group in (*_GROUPS, "Others")}
    for words, command in commands():
        link = f"[`sfrbench {' '.join(words)}`]({'-'.join(words)}.md)"
        rows[groups.get(words[0], "Others")].append((link, plain(command.get_short_help_str(200))))
    parts = [
        f"## {group}\n\n{table(('command', 'what it does'), each)}" for group, each in rows.items() if each
    ]
    return {"commands": "\n\n".join(parts)}


def _page(words: tuple[str, ...], command: click.Command) -> str:
    name = f"sfrbench {' '.join(words)}"
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    told = "\n\n".join(
        " ".join(plain(part).split()) for part in inspect.cleandoc(command.help or "").split("\n\n")
    )
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    rows = [_option(each, context) for each in options]
    parts = [f"# {name}", told, f"```text\n{usage}\n```"]
    if rows:
        parts += ["## Options", table(("option", "default", "what it does"), rows)]
    return "\n\n".join(parts) + "\n"


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    names = ", ".join(code(each) for each in sorted((*option.opts, *option.secondary_opts), key=len))
    shown = "" if option.is_flag else f" {code(option.make_metavar(context))}"
    told = plain(option.help or "")
    if option.multiple:
        told += " (may be given more than once)"
    if option.required:
        return names + shown, "required", told
    return names + shown, _default(option, context), told


def _default(option: click.Option, context: click.Context) -> str:
    if isinstance(option.show_default, str):
        return plain(option.show_default)
    default: Any = option.get_default(context, call=False)
    if option.is_flag or default in (None, (), "") or callable(default) or not _plain_value(default):
        return ""
    return code(str(default))


def _plain_value(default: object) -> bool:
    """click marks an option without a default by an object of its own."""
    return isinstance(default, (str, int, float))
