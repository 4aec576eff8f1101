"""Where a user's data are: --data, then $SFRBENCH_DATA, then the configuration file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfrbench.errors import InputError, NotReadyError


def config_file() -> Path:
    """``$XDG_CONFIG_HOME/sfrbench/config.yaml``, by default ``~/.config/sfrbench/config.yaml``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "sfrbench" / "config.yaml"


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/sfrbench``, by default ``~/.cache/sfrbench``: what can be found out again."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sfrbench"


def config(section: str) -> dict[str, Any]:
    """One section of the configuration file, a mapping; empty where file or section is absent."""
    found, where = _section(section)
    return _mapping(section, found, where)


def configured_weights() -> list[Path]:
    """The folders of the section ``weights``, which is a folder, or a mapping of any names to folders."""
    found, where = _section("weights")
    folders = [found] if isinstance(found, str) else _mapping("weights", found, where).values()
    return [Path(str(folder)) for folder in folders]


def _mapping(section: str, found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        hint = f"{section}: {{name: folder}}"
        raise InputError(f"'{section}' must be a mapping", where=where, hint=hint)
    return dict(found)


def _section(name: str) -> tuple[Any, str]:
    """What stands under a name in the configuration file, and where."""
    path = config_file()
    if not path.is_file():
        return {}, str(path)
    from sfrbench.files.yamlio import load

    document = load(path)
    return document.data.get(name) or {}, document.where(name)


def workspace() -> Path:
    """Where runs are kept where nothing else is said: ``$SFRBENCH_WORKSPACE``, ``workspace:`` of the
    configuration file, or ``runs``."""
    given = os.environ.get("SFRBENCH_WORKSPACE")
    if given:
        return _expanded(Path(given), f"SFRBENCH_WORKSPACE={given}")
    path = config_file()
    if path.is_file():
        from sfrbench.files.yamlio import load

        document = load(path)
        configured = document.data.get("workspace")
        if isinstance(configured, str) and configured:
            return _expanded(Path(configured), document.where("workspace"))
        if configured is not None:
            hint = "workspace: /path/of/a/folder"
            raise InputError("'workspace' must be a folder", where=document.where("workspace"), hint=hint)
    return Path("runs")


def data_root(name: str, folder: str, cli: Mapping[str, Path]) -> Path | None:
    """The folder that holds the data of the card ``name``, or of the dataset's own ``folder``; see
    ``folder_of``."""
    return folder_of([each for each in (name, folder) if each], cli)


def folder_of(names: Sequence[str], cli: Mapping[str, Path]) -> Path | None:
    """The folder of data that have one of these names; None if no place names it.

    Each place is asked for the names in their order: the ``--data NAME=DIR`` options (``cli``), the parts of
    ``$SFRBENCH_DATA`` (folders that hold one folder per dataset, or ``NAME=DIR``), the section ``data`` of
    the configuration file. Raises ``InputError`` for a ``--data`` or configured folder that does not exist,
    and ``NotReadyError`` where a part of ``$SFRBENCH_DATA`` is no folder.
    """
    for each in names:
        if each in cli:
            return _existing(Path(cli[each]), f"--data {each}={cli[each]}")
    shelves, single = _shelves(os.environ.get("SFRBENCH_DATA", ""))
    for each in names:
        if each in single:
            return _existing(Path(single[each]), f"SFRBENCH_DATA: {each}={single[each]}")
    for base in shelves:
        shelf = _expanded(Path(base), f"SFRBENCH_DATA={base}")
        if not shelf.is_dir():
            hint = "set it to the folder that holds one folder per dataset"
            raise NotReadyError(f"SFRBENCH_DATA={base} is not a folder", hint=hint)
        for each in names:
            if (shelf / each).is_dir():
                return shelf / each
    configured = config("data")
    for each in names:
        if each in configured:
            return _existing(Path(str(configured[each])), f"{config_file()}: data.{each}")
    return None


def _shelves(text: str) -> tuple[list[str], dict[str, str]]:
    """The parts of ``$SFRBENCH_DATA``: folders of datasets, and single ones as ``NAME=DIR``."""
    parts = [part for part in text.split(os.pathsep) if part]
    single = [part.partition("=") for part in parts if "=" in part and not Path(part).is_dir()]
    return [part for part in parts if "=" not in part or Path(part).is_dir()], {
        name: folder for name, _, folder in single
    }


def _existing(path: Path, where: str) -> Path:
    path = _expanded(path, where)
    if not path.is_dir():
        hint = "give the folder that holds the dataset"
        raise InputError(f"there is no folder {path}", where=where, hint=hint)
    return path


def _expanded(path: Path, where: str) -> Path:
    """``~`` and ``~user`` as folders."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: {error}", where=where, hint="give the whole path") from error
