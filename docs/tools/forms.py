"""What may stand in a specification, a card and the configuration file, made from their schemas and models."""

from __future__ import annotations

from docs.tools.words import code, docstring, fields, plain, table, value
from sfrbench.catalog.cards import Card
from sfrbench.catalog.schema import Definitions, Schema
from sfrbench.components.base import KINDS
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import load
from sfrbench.report.items import kinds
from sfrbench.run.executors.ray.settings import RaySettings
from sfrbench.run.executors.settings import LocalSettings
from sfrbench.run.executors.slurm.settings import Resources, SlurmSettings
from sfrbench.spec import checks, predictions, search
from sfrbench.spec.model import PROFILES, SWITCHES
from sfrbench.spec.reader import SpecFile
from sfrbench.stages.finder import named_stages, recipes

#: What a section holds where its model says "anything".
_HOLDS = {
    "dataset": "a [component](components/dataset.md)",
    "protocol": "a [component](components/protocol.md)",
    "base": "[choices](#choices)",
    "arms": "list of [arms](#arms)",
    "axes": "mapping: [path](#choices) → list of values",
    "exclude": "list of [exclusions](#exclude-and-points)",
    "points": "list of [points](#exclude-and-points)",
    "seeds": "list of whole numbers",
    "stages": "list of [stages](#stages)",
    "report": "list of [report items](report-items.md)",
    "search": "a [search](#search)",
    "profiles": "mapping: [profile](profiles.md) → what differs in it",
}


def pages() -> dict[str, str]:
    return {
        "reference/specification.md": specification(),
        "reference/report-items.md": report_items(),
        "reference/profiles.md": profiles(),
        "reference/cards.md": cards(),
        "reference/configuration.md": configuration(),
    }


def _model(cls: type, definitions: Definitions, *, partly: bool = False) -> str:
    return fields(definitions.model(cls, partly=partly), definitions)


def specification() -> str:
    definitions = Definitions()
    whole = definitions.model(SpecFile)
    required = whole.get("required", ())
    rows = []
    for name, schema in whole["properties"].items():
        default = "required" if name in required else value(schema["default"])
        rows.append((code(name), _HOLDS.get(name, "text"), default, plain(schema["description"])))
    switches = [(code(name), " or ".join(map(value, each))) for name, each in SWITCHES.items()]
    heads = ", ".join(f"[`{kind}`](components/{kind}.md)" for kind in KINDS)
    return f"""# Specification

One YAML file is one experiment. `sfrbench validate FILE` finds every fault of it at once; `sfrbench schema` prints its
JSON Schema, with which editors complete and check as you type.

## Keys

{table(("key", "may be", "default", "meaning"), rows)}

## Choices

A choice is a component or one of its fields, by path: `stitch: grid`, `stitch: {{name: grid, scale: 4}}` and, apart,
`stitch.scale: 4`. The heads are {heads}, and two switches:

{table(("switch", "may be"), switches)}

`pseudo` says how SAM's pseudo-labels reach re-training: not at all, of whole volumes made once, or of each crop as it
comes. `score` says which cases are scored.

## Arms

Beside choices that differ from `base`, an arm has

{table(("key", "may be", "meaning"), _ARM)}

As a mapping, `predictions` has

{_model(predictions.Entry, definitions)}

## exclude and points

An exclusion leaves points of the axes out:

{_model(checks.ExclusionEntry, definitions)}

An entry of `points` has choices that hold at some points only:

{_model(checks.LocalEntry, definitions)}

`when` is a mapping of axes (and `arm`, `seed`) to a value or a list of values.

## Stages

{table(("stage", "what it does", "takes"), _stages())}

## Search

{_model(search.Section, definitions, partly=True)}

A value of `params` is `card` (the range that the card states), `[low, high]`, `{{low: …, high: …, log: true, step: …}}` or
`{{choices: [...]}}`.
"""


_ARM = (
    ("`name`", "text", "how reports and other commands call it; required"),
    ("`label`", "text", "how tables call it; without one, its name"),
    ("`stages`", "list of [stages](#stages)", "what runs of it, in the place of the experiment's"),
    ("`without`", "list of axes", "axes that mean nothing to it: it stands once"),
    ("`predictions`", "a folder, or a mapping", "label maps that another tool made, instead of stages"),
)


def _stages() -> list[tuple[str, str, str]]:
    rows = []
    for name, recipe in recipes().items():
        module = __import__(f"sfrbench.stages.{name}.recipe", fromlist=["RECIPE"])
        told = (module.__doc__ or "").strip().partition("\n\n")[0].partition(": ")[2] or ""
        inputs = ", ".join(code(each) for each in dict.fromkeys(sum(map(tuple, recipe.inputs.values()), ())))
        rows.append((code(name), plain(" ".join(told.split())), inputs))
    return rows


def report_items() -> str:
    definitions = Definitions()
    parts = [
        "# Report items",
        "An entry under `report:` is a mapping with the key that names its kind, and further fields. Tables come as HTML, "
        "CSV, Markdown and LaTeX, figures as PNG and SVG.",
    ]
    for name, cls in kinds().items():
        parts += [f"## {name} {{#{name}}}", docstring(cls), _model(cls, definitions)]
    return "\n\n".join(parts) + "\n"


def profiles() -> str:
    parts = [
        "# Profiles",
        "A profile is laid over the whole specification; it is part of every key and stands on every output. Its own keys "
        "under `profiles:` of a specification win over these. What it gives to a component applies where the component "
        "has such a field.",
    ]
    for name in PROFILES:
        document = load(shipped("experiments") / "profiles" / f"{name}.yaml")
        body = "\n".join(line for line in document.text.splitlines() if not line.startswith("# "))
        parts += [f"## {name}", f"```yaml\n{body.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def cards() -> str:
    definitions = Definitions()
    return f"""# Cards

A card is the file `registry/KIND/NAME.yaml`; a folder of yours is given with `--registry DIR`. It names a class and what
is particular: a preset is one card. The shipped ones are listed under [components](components/index.md).

{_model(Card, definitions)}

`preset` holds fields of the class by name or as groups; `search` the ranges of a [search](specification.md#search);
`needs` is `gpu`, `weights` or `data`, and `figures` are facts that are shown and not used.

A card of a dataset is such a card: its class says how cases are read, its fields which are labelled, patches and windows;
see [datasets](components/dataset.md). `sfrbench schema card` and `sfrbench schema dataset` print the schemas.
"""


def configuration() -> str:
    definitions = Definitions()
    sections = (("local", LocalSettings), ("slurm", SlurmSettings), ("ray", RaySettings))
    parts = [
        "# Configuration file",
        "`~/.config/sfrbench/config.yaml` (or below `$XDG_CONFIG_HOME`) says what is particular to a machine or a site. "
        "Nothing in it is part of a key. `sfrbench schema config` prints its schema.",
        table(
            ("key", "meaning"),
            [
                ("`workspace`", "where runs are kept; default: `runs`"),
                ("`data`", "mapping: dataset → folder of its data"),
                ("`weights`", "mapping: any name → a folder of weight files"),
                ("`executors`", "mapping with `local`, `slurm` and `ray`, below"),
            ],
        ),
    ]
    for name, cls in sections:
        parts += [f"## executors: {name}", _model(cls, definitions)]
    parts += ["`stages` is a mapping: stage → what differs for its jobs:", _model(Resources, definitions)]
    parts += ["## Environment", table(("variable", "meaning"), _VARIABLES)]
    return "\n\n".join(parts) + "\n"


_VARIABLES = (
    ("`SFRBENCH_DATA`", "folders that hold one folder per dataset, or `NAME=DIR`; several with a colon between"),
    ("`SFRBENCH_WORKSPACE`", "where runs are kept"),
    ("`SFRBENCH_WEIGHTS`", "a folder of weight files"),
    ("`SFRBENCH_REGISTRY`", "folders of cards, for `load_report` and `load_results` in Python"),
    ("`SFRBENCH_STORAGE`", "database of searches, as `--storage`"),
    ("`SFRBENCH_TRACKING_URI`", "MLflow's store, as `--tracking-uri`"),
    ("`SFRBENCH_LIMITS`", 'how much a file or a plan may hold, as in `"cells=100000 values=1000000"`'),
    ("`SFRBENCH_ATTENTION`", "`fused`: SAM's attention by torch's own kernel, also where there is Triton"),
)
