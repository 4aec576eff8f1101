"""``python -m sfrbench``."""

from sfrbench.cli import main

main(prog_name="sfrbench")
