"""What a node has trained is gone when it ends, before any garbage collection: else it stays on the GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sfrbench.engine.compiling import lack
from tests.support.places import ROOT

#: In a process of its own: what libraries leave behind at their first import counts, too.
PROGRAM = """
import gc
import sys
import weakref
from dataclasses import replace
from pathlib import Path

from sfrbench.catalog.cards import Catalog
from sfrbench.components.foundation import _compiled
from sfrbench.engine.compiling import compiled_code
from sfrbench.engine.context import StageContext
from sfrbench.stages.{stage} import run as behaviour
from tests.support.prepared import FAST, make_prepared
from tests.support.stages import settings_of

_compiled.BACKEND = "aot_eager"  # machine code refers to no network
folder = Path(sys.argv[1])
prepared = make_prepared(folder / "prepared")
catalog = Catalog.read()
chosen = {chosen}
components = dict((kind, catalog.card(kind, name).component(fields)) for kind, name, fields in chosen)
settings = settings_of(behaviour, split={{"labeled": 2}}, patch=[16, 16, 32], rot_flip=True, **{told})
(folder / "out").mkdir()
ctx = StageContext(components, settings, {{"prepare": prepared}}, 1, folder / "out", folder / "scratch")

seen = []
make = behaviour.{make}


def watched(*given):
    made = make(*given)
    model = {network}
    seen.extend(weakref.ref(part) for part in (model, *model.parameters()))
    return made


behaviour.{make} = watched
gc.collect()
gc.disable()
with compiled_code(components.values(), "cpu"):
    behaviour.run(ctx)
left = [one() for one in seen if one() is not None]
print(len(seen), len(left))
"""
CASES = {
    "finetune": {
        "stage": "finetune",
        "chosen": [
            ("stitch", "grid", {}),
            ("foundation", "sam_toy", {}),
            ("finetune", "lora", {"steps": 2}),
        ],
        "told": {},
        "make": "build_model",
        "network": "made",
    },
    "compiled finetune": {
        "stage": "finetune",
        "chosen": [
            ("stitch", "grid", {}),
            ("foundation", "sam_toy", {"compile": "blocks"}),
            ("finetune", "lora", {"steps": 2}),
        ],
        "told": {},
        "make": "build_model",
        "network": "made",
    },
    "retrain": {
        "stage": "retrain",
        "chosen": [("backbone", "vnet", {"filters": 2}), ("ssl", "mean_teacher", {"steps": 2})],
        "told": {"pseudo": "none"},
        "make": "build_models",
        "network": "made.student",
    },
}


@pytest.mark.parametrize("case", CASES)
def test_models_are_freed_when_their_node_ends(case: str, tmp_path: Path) -> None:
    if case.startswith("compiled") and lack("cpu") is not None:
        pytest.skip("no C++ compiler, without which such a node does not begin")
    program = PROGRAM.format(**CASES[case])
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    watched, left = map(int, done.stdout.split())
    assert watched > 20
    assert left == 0
