"""Tables of what may stand in a specification, a card and the configuration file, made from their models."""

from __future__ import annotations

import ast
import importlib

from docs.tools.pages import ROOT
from docs.tools.words import code, docstring, fields, paragraphs, plain, table, value
from sfrbench.catalog.cards import Card
from sfrbench.catalog.schema import Definitions
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import load
from sfrbench.report.items import kinds
from sfrbench.run.executors.ray.settings import RaySettings
from sfrbench.run.executors.settings import LocalSettings
from sfrbench.run.executors.slurm.settings import Resources, SlurmSettings
from sfrbench.spec import checks, predictions, search
from sfrbench.spec.model import PROFILES, SWITCHES
from sfrbench.spec.reader import SpecFile
from sfrbench.stages.finder import recipes

#: What a section holds where its model says "anything".
_HOLDS = {
    "dataset": "a [component](components/dataset.md)",
    "protocol": "a [component](components/protocol.md)",
    "base": "[choices](#choices)",
    "arms": "list of [arms](#arms)",
    "axes": "[axes](#axes)",
    "exclude": "list of [exclusions](#exclude-and-points)",
    "points": "list of [points](#exclude-and-points)",
    "seeds": "list of whole numbers",
    "stages": "list of [stages](#stages)",
    "report": "list of [report items](report-items.md)",
    "search": "a [search](#search)",
    "profiles": "mapping: [profile](profiles.md) → what differs",
}
_ARM = (
    ("`name`", "text", "how reports and other commands call it; required"),
    ("`label`", "text", "how tables call it; without one, its name"),
    ("`stages`", "list of [stages](#stages)", "what runs of it, in the place of the experiment's"),
    ("`without`", "list of axes", "axes that mean nothing to it: it stands once"),
    ("`predictions`", "a folder, or a mapping", "label maps that another tool made, instead of stages"),
)


def tables() -> dict[str, str]:
    """Name -> Markdown of what a page has at ``<!-- made: NAME -->``."""
    models: dict[str, type] = {
        "predictions": predictions.Entry,
        "exclude": checks.ExclusionEntry,
        "points": checks.LocalEntry,
        "card": Card,
        "local": LocalSettings,
        "slurm": SlurmSettings,
        "ray": RaySettings,
        "resources": Resources,
    }
    return {
        "specification": _sections(),
        "switches": table(
            ("switch", "may be"),
            [(code(name), " or ".join(map(value, each))) for name, each in SWITCHES.items()],
        ),
        "arms": table(("key", "may be", "meaning"), _ARM),
        "artefacts": _artefacts(),
        "stages": table(("stage", "what it does", "takes"), _stages()),
        "search": _model(search.Section, partly=True),
        "items": _items(),
        "profiles": _profiles(),
        **{name: _model(cls) for name, cls in models.items()},
    }


def _model(cls: type, *, partly: bool = False) -> str:
    definitions = Definitions()
    return fields(definitions.model(cls, partly=partly), definitions)


def _sections() -> str:
    whole = Definitions().model(SpecFile)
    rows = []
    for name, schema in whole["properties"].items():
        default = "required" if name in whole["required"] else value(schema["default"])
        told = plain(schema["description"].partition(";")[0] if name == "search" else schema["description"])
        rows.append((code(name), _HOLDS.get(name, "text"), default, told))
    return table(("key", "may be", "default", "meaning"), rows)


def _stages() -> list[tuple[str, str, str]]:
    rows = []
    for name, recipe in recipes().items():
        told = importlib.import_module(f"sfrbench.stages.{name}.recipe").__doc__ or ""
        first = " ".join(told.partition("\n\n")[0].partition(": ")[2].split())
        inputs = dict.fromkeys(stage for stages in recipe.inputs.values() for stage in stages)
        rows.append((code(name), plain(first), ", ".join(map(code, inputs))))
    return rows


def _artefacts() -> str:
    """What the ``run`` of each stage says that it takes and writes; read, not imported: that loads torch."""
    parts = []
    for name in recipes():
        source = ROOT / "sfrbench" / "stages" / name / "run.py"
        functions = ast.parse(source.read_text(encoding="utf-8")).body
        (run,) = (each for each in functions if isinstance(each, ast.FunctionDef) and each.name == "run")
        parts += [f"### {name}", paragraphs(ast.get_docstring(run) or "")]
    return "\n\n".join(parts)


def _items() -> str:
    parts = []
    for name, cls in kinds().items():
        parts += [f"## {name} {{#{name}}}", docstring(cls), _model(cls)]
    return "\n\n".join(parts)


def _profiles() -> str:
    parts = []
    for name in PROFILES:
        text = load(shipped("experiments") / "profiles" / f"{name}.yaml").text
        parts += [f"## {name}", f"```yaml\n{text.strip()}\n```"]
    return "\n\n".join(parts)
