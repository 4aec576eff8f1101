"""The command line: ``main`` and what it is made of."""

from sfrbench.cli.commands import main

__all__ = ["main"]
