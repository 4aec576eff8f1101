"""The command line: ``main`` and what it is made of."""

import sys

try:
    from sfrbench.cli.commands import main
except KeyboardInterrupt:  # Ctrl-C while the program is loaded
    sys.exit(130)

__all__ = ["main"]
