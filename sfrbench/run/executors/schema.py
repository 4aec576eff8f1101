"""JSON Schema of the user's configuration file."""

from __future__ import annotations

from sfrbench.catalog.schema import Definitions, Schema, finished
from sfrbench.run.executors.ray.settings import RaySettings
from sfrbench.run.executors.settings import ExecutorSettings, LocalSettings
from sfrbench.run.executors.slurm.settings import SlurmSettings
from sfrbench.stages.finder import recipes

#: What counts as an absent section.
_EMPTY: Schema = {"enum": [None, False, 0, "", []]}


def config_schema() -> Schema:
    """Sections that nobody reads may stand there."""
    definitions = Definitions()
    named: dict[str, type[ExecutorSettings]] = {
        "local": LocalSettings,
        "slurm": SlurmSettings,
        "ray": RaySettings,
    }
    executors = {name: _or_empty(definitions.model(cls)) for name, cls in named.items()}
    executors["slurm"]["anyOf"][0]["properties"]["stages"]["propertyNames"] = {"enum": sorted(recipes())}
    told = "where runs are kept; default: runs"
    workspace: Schema = {"type": ["string", "null"], "minLength": 1, "description": told}
    folder, folders = "a folder of weight files", "several: any name -> a folder of weight files"
    section: Schema = {
        "type": "object",
        "properties": executors,
        "additionalProperties": False,
        "description": "what a site says of its machines",
    }
    whole: Schema = {
        "type": "object",
        "properties": {
            "workspace": workspace,
            "data": _folders("dataset -> folder of its data"),
            "weights": {"anyOf": [{"type": "string", "description": folder}, _folders(folders)]},
            "executors": _or_empty(section),
        },
    }  # fmt: skip
    return finished("The configuration file of sfrbench", whole, definitions)


def _folders(told: str) -> Schema:
    return _or_empty({"type": "object", "description": told})


def _or_empty(schema: Schema) -> Schema:
    return {"anyOf": [schema, _EMPTY]}
