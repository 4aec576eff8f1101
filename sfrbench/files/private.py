"""Takes the names of a machine's folders, of its user and of itself out of what is sent away."""

from __future__ import annotations

import getpass
import os
import platform
import re

_NAME = r"[^\s/\\'\"`:,;()<>\[\]{}|*?]+[/\\]"
#: The folders before a file's name, in a path from the root or of a drive, or from a home folder.
_FOLDERS = re.compile(rf"(?<![\w.…:/\\])(?:(?:[A-Za-z]:)?[/\\](?:{_NAME})+|~[\w.-]*[/\\](?:{_NAME})*)")


def without_places(text: str) -> str:
    """A message without folders, user and host: ``/home/me/x/a.nii: bad`` becomes ``…/a.nii: bad``."""
    text = _FOLDERS.sub("…/", text.replace(os.path.expanduser("~") + os.sep, "~/"))
    for name, instead in ((platform.node(), "HOST"), (_user(), "USER")):
        if len(name) > 2 and name not in ("root", "localhost"):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return ""
