"""Where the shipped cards, experiments and report definitions lie, in every kind of install."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

from sfrbench.errors import NotReadyError

Shipped = Literal["registry", "experiments", "reports"]


def shipped(name: Shipped) -> Path:
    """The folder of shipped files called ``name``.

    A wheel holds it inside the package as ``sfrbench/_<name>``. An editable install and an unpacked
    source archive have it beside the package. Raises ``NotReadyError`` where it is at neither place.
    """
    package = Path(str(files("sfrbench")))
    inside = package / f"_{name}"
    if inside.is_dir():
        return inside
    checkout = package.parent
    # beside an installed package lie folders of other packages: a checkout is known by its pyproject.toml
    beside = checkout / name
    if beside.is_dir() and (checkout / "pyproject.toml").is_file():
        return beside
    raise NotReadyError(
        f"the shipped folder '{name}' is missing: neither {inside} nor {beside} of a checkout exists",
        where=str(package),
        hint="the install is incomplete; install sfrbench again, or run it from a complete checkout",
    )
