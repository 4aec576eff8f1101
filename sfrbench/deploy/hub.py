"""What the Hugging Face hub reads at the top of a model's README.md: tags, and scores as ``model-index``."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from sfrbench.deploy.cell import Finished
from sfrbench.deploy.scores import Scored

#: How to load what was downloaded; stands in the card of a hub alone.
LOADS = """
From a hub, with sfrbench and huggingface_hub installed:

```python
import sfrbench
from huggingface_hub import snapshot_download

network = sfrbench.load_model(snapshot_download("OWNER/NAME"))  # yours; (batch, 1, x, y, z) to logits
```
"""


def front_matter(cell: Finished, title: str, found: Scored | None) -> str:
    """The YAML block. It names no licence: which one holds is for those to say who know the data's terms."""
    own = cell.cell.components
    tags = ["medical-imaging", "3d-segmentation", "semi-supervised", own["backbone"].card.name]
    facts: dict[str, Any] = {
        "library_name": "sfrbench",
        "pipeline_tag": "image-segmentation",
        "tags": [*tags, *([own["ssl"].card.name] if "ssl" in own else [])],
    }
    if found is not None and found.scores:
        facts["model-index"] = [{"name": title, "results": [_result(cell, found)]}]
    return f"---\n{_yaml(facts)}---\n"


def _result(cell: Finished, found: Scored) -> dict[str, Any]:
    own = cell.cell.components
    told = {"protocol": own["protocol"].card.name, "cases": found.cases, "seed": cell.cell.seed}
    return {
        "task": {"type": "image-segmentation", "name": "3D medical image segmentation"},
        "dataset": {
            "type": own["dataset"].card.name,
            "name": own["dataset"].card.label,
            "split": found.subset,
        },
        "metrics": [
            {
                "type": score.metric,
                "name": score.name,
                "value": round(score.value, 4),
                "args": {**told, "unit": score.unit},
            }
            for score in found.scores
        ],
    }


def _yaml(facts: Mapping[str, Any]) -> str:
    """Block YAML on which readers of its versions 1.1 and 1.2 agree."""
    writer, text = YAML(), io.StringIO()
    writer.width = sys.maxsize
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.dump(_quoted(facts), text)
    return text.getvalue()


def _quoted(value: Any) -> Any:
    """The same with every text in quotes: without them ``no`` is false to one reader, ``1e4`` a number to
    the other."""
    if isinstance(value, Mapping):
        return {key: _quoted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_quoted(inner) for inner in value]
    return DoubleQuotedScalarString(value) if isinstance(value, str) else value
