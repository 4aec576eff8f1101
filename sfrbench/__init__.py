"""Ablation and benchmark harness for SFR: stitching, fine-tuning, re-training (Li et al., TMI 2025).

For notebooks and scripts, loaded when they are first asked for:

* ``load_results(experiment, ...)``: the tidy frame, one row per cell, case, class and metric;
* ``load_report(experiment, ...)``: that frame, and the tables and figures made of it;
* ``load_model(folder)``: the network of a folder that ``sfrbench export`` wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfrbench.version import __version__

if TYPE_CHECKING:
    from sfrbench.api import Report, load_report, load_results
    from sfrbench.deploy.load import load_model

__all__ = ["Report", "__version__", "load_model", "load_report", "load_results"]


def __getattr__(name: str) -> Any:
    if name in ("Report", "load_report", "load_results"):
        from sfrbench import api

        return getattr(api, name)
    if name == "load_model":
        from sfrbench.deploy.load import load_model

        return load_model
    raise AttributeError(f"module 'sfrbench' has no attribute '{name}'")
