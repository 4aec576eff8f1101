"""Which names something new may have. Every check raises ``InputError``."""

from __future__ import annotations

import importlib.machinery
import keyword
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from sfrbench.errors import InputError, shorter
from sfrbench.files.yamlio import read_value

LONGEST = 30  # with more, lines of the templates would have to be broken
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def check_name(name: str, taken: Iterable[str], of: str) -> None:
    """A name for a file and for specifications that is none of ``taken``, the names ``of`` what ships."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        hint = f"a letter, then letters, digits and '_', at most {LONGEST}: as in my_method"
        raise _refused(f"'{shorter(name)}' cannot be a name", hint)
    if keyword.iskeyword(name):
        raise _refused(f"'{name}' is a word of Python")
    if not isinstance(read_value(name, "NAME"), str):  # 'null' would mean none
        raise _refused(f"'{name}' is no text in a specification")
    if name in set(taken):
        raise _refused(f"'{name}' is the name of {of} that ships with sfrbench")


def check_module(name: str, folder: Path) -> None:
    """The name of a module in ``folder`` that hides no other one."""
    if name in sys.stdlib_module_names:
        raise _refused(f"'{name}' is a module of Python's own, which {name}.py would hide")
    here = {folder.resolve(), Path.cwd()}
    others = [path for path in sys.path if path and Path(path).resolve() not in here]
    found = importlib.machinery.PathFinder.find_spec(name, others)
    if found is not None and found.origin is not None:  # without one: any folder of that name
        raise _refused(f"'{name}' is an installed module, {found.origin}, which {name}.py would hide")


def class_name(name: str) -> str:
    """``my_method`` to ``MyMethod``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _refused(what: str, hint: str = "choose another one, such as my_method") -> InputError:
    return InputError(what, where="NAME", hint=hint)
