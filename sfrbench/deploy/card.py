"""The card of an export: MODEL_CARD.md, or README.md for a hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sfrbench.components.base import Foundation
from sfrbench.deploy.cell import Finished
from sfrbench.deploy.hub import LOADS, front_matter
from sfrbench.deploy.scores import Scored, scored
from sfrbench.files.units import counted
from sfrbench.places import weights
from sfrbench.report.facts.assemble import info_of
from sfrbench.report.facts.info import ReportInfo
from sfrbench.report.render.captions import protocol_text
from sfrbench.report.render.style import DASH, number, scaled, stamp
from sfrbench.report.render.tables import markdown
from sfrbench.results.line import Stat
from sfrbench.stages.finetune import recipe as finetune
from sfrbench.stages.predict.recipe import PredictSettings

#: By this a card is known as one.
CARD_SIGN = "`sfrbench.load_model(folder)`"
#: Runs in the folder of the export; needs numpy and onnxruntime only.
EXAMPLE = """\
import json
import numpy as np
import onnxruntime

config = json.load(open("config.json", encoding="utf-8"))
session = onnxruntime.InferenceSession("model.onnx")
patch = np.zeros(config["input"]["patch"], np.float32)  # of a prepared volume, see Input
logits = session.run(["logits"], {"image": patch[None, None]})[0]  # batch, class, x, y, z
labels = logits.argmax(axis=1)[0]  # class numbers, in the order of config["classes"]
"""

_HEAD = """\
# {title}

{warning}

{facts}

## Input and output

{inputs}

## Scores

{scores}

## Use

```python
{example}```

With sfrbench installed, `sfrbench.load_model(folder)` gives the same network in torch, from
`model.safetensors`.
{loads}
A whole scan takes sliding windows of the patch with the stride above,
{mean}, and the way to the network's grid and back: `sfrbench predict` does all of it.
The largest difference between ONNX and torch in the logits was {differences} when this was written.

## Intended use and limits

{limits}

## Licence

{licence}
"""


def model_card(cell: Finished, facts: Mapping[str, Any], *, hub: bool = False) -> str:
    """Markdown; every name of a user's is escaped. For a hub it begins with what that reads."""
    info = info_of(cell.experiment, None)
    found = scored(cell, info)
    differences = facts["onnx_against_torch"]["largest_difference"]
    title = f"{cell.cell.label} on {cell.cell.components['dataset'].card.label}"
    text = _HEAD.format(
        title=markdown(title),
        warning=f"**{markdown(stamp(cell.experiment.profile))}** A research model; not a medical device.",
        facts=_table(("", ""), _facts(cell, facts)),
        inputs=_inputs(facts),
        scores=_scores(cell, info, found),
        example=EXAMPLE,
        mean=_mean(facts["input"]["windows"]),
        differences=", ".join(f"{value:.1e} on a {name} patch" for name, value in differences.items()),
        limits="\n".join(f"* {line}" for line in _limits(cell, facts)),
        licence=_licence(cell),
        loads=LOADS if hub else "",
    )
    return front_matter(cell, title, found) + text if hub else text


def _mean(windows: Mapping[str, str]) -> str:
    """How windows are put together."""
    plain = {name: PredictSettings.later_fields[name] for name in windows}
    if windows == plain:
        return "the mean of the softmax over windows"
    said = ", ".join(f"{name} {value}" for name, value in windows.items() if value != plain[name])
    return f"put together as the protocol says ({said})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines_ = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines_)


def _facts(cell: Finished, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    own, split, trained = cell.cell, cell.split, facts["trained"]
    named = {kind: f"{markdown(r.card.label)} (`{r.card.name}`)" for kind, r in own.components.items()}
    cite = own.components["dataset"].card.cite
    rows = [
        ("Network", f"{named['backbone']}, {facts['parameters']:,} parameters"),
        ("Method", named["ssl"]),
        ("Data set", named["dataset"] + (f", cite {cite}" if cite else "")),
        ("Labelled cases", f"{len(split.labelled)}: {markdown(', '.join(split.labelled))}"),
        ("Unlabelled cases", str(len(split.unlabelled)) if _uses_unlabelled(cell) else "none used"),
        ("Classes", markdown(", ".join(f"{k} {name}" for k, name in enumerate(facts["classes"])))),
        ("Experiment", markdown(f"{facts['experiment']['name']}, cell {own.title} ({own.id})")),
        ("Profile", facts["experiment"]["profile"]),
        ("Protocol", f"{named['protocol']}, checkpoint {facts['checkpoint']}"),
        ("Trained", f"{trained['started']}, torch {trained['torch']}, {markdown(str(trained['device']))}"),
        ("Commit", _commit(trained)),
    ]
    if "foundation" in named:
        pseudo = f"{named['foundation']}, {named['finetune']}, {named['stitch']}"
        rows.insert(2, ("Pseudo-labels", pseudo))
    if facts["parameters_for_training_only"]:
        left = f"{facts['parameters_for_training_only']:,} parameters of heads that only training uses"
        rows.insert(1, ("Left out", left))
    return rows


def _uses_unlabelled(cell: Finished) -> bool:
    ssl: Any = cell.cell.components["ssl"].component
    return finetune.STAGE in cell.cell.nodes or bool(ssl.uses_unlabelled)


def _commit(trained: Mapping[str, Any]) -> str:
    if not trained["commit"]:
        return "not known: sfrbench was no checkout"
    return f"{trained['commit']}{', with changes' if trained['dirty'] else ''}"


def _inputs(facts: Mapping[str, Any]) -> str:
    given = facts["input"]
    median, least, largest = (
        " x ".join(f"{step:g}" for step in given["spacing_mm"][name])
        for name in ("median", "least", "largest")
    )
    rows = [
        ("Input", f"`image`, float32 (batch, 1, {', '.join(map(str, given['patch']))})"),
        (
            "Output",
            f"`logits`, float32 (batch, {len(facts['classes'])}, {', '.join(map(str, given['patch']))})",
        ),
        ("Patch, stride", f"{given['patch']}, {given['stride']} voxels"),
        ("Orientation", given["orientation"] or "that of the data set's files, which do not say it"),
        ("Voxels (mm)", median if least == largest else f"median {median}, from {least} to {largest}"),
        ("Intensities", markdown(given["normalisation"])),
    ]
    return _table(("", ""), rows)


def _scores(cell: Finished, info: ReportInfo, found: Scored | None) -> str:
    if found is None:
        return "This cell has not been scored."
    heads = ("", "this network", f"mean ± std over {len(found.seeds)} seeds")
    rows = [(markdown(score.name), number(score.value), _spread(score.seeds)) for score in found.scores]
    seeds = ", ".join(map(str, found.seeds))
    said = f"{found.cases} {found.subset} cases; seeds {seeds}, this one {cell.cell.seed}."
    return f"{said} {protocol_text(info)}\n\n{_table(heads, rows)}"


def _spread(many: Stat) -> str:
    return f"{number(many.mean)} ± {number(many.std)}" if many.n > 1 else DASH


def _limits(cell: Finished, facts: Mapping[str, Any]) -> list[str]:
    profile, caveat = facts["experiment"]["profile"], facts["input"]["caveat"]
    cases = counted(len(cell.split.labelled), "labelled case")
    said = [
        "For research on segmentation. Nothing here was tested for diagnosis or treatment.",
        f"It was trained with {cases} of one data set. On images of another scanner, sequence, age group or "
        "disease its scores do not hold.",
        "Voxel size, orientation and intensities must be those of the table above.",
    ]
    if scaled(profile):
        said.append(f"It is of profile {profile}, smaller and trained for less time than the paper's.")
    return said + ([f"{caveat[0].upper()}{caveat[1:]}."] if caveat else [])


def _licence(cell: Finished) -> str:
    own = cell.cell.components
    said = [
        "sfrbench sets no licence on weights that you train. They are made from the images and labels of "
        f"{markdown(own['dataset'].card.label)}; whoever passes them on keeps to the terms of those data.",
    ]
    if "foundation" in own:
        name = cast(Foundation, own["foundation"].component).weights
        if name is not None:
            weight = weights.entry(name)
            said.append(
                f"Pseudo-labels came from a model fine-tuned from {weight.file} ({weight.licence}, "
                f"{weight.source}); none of its weights are in these files."
            )
    said.append("The code of sfrbench is Apache-2.0.")
    return " ".join(said)
