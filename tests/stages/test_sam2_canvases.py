"""SAM 2 on stitched canvases: it learns, resumes to the bit, and goes through the plan to labels and maps."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Component, Finetune
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.finetune.parts import Parts
from sfrbench.components.foundation.sam2 import Sam2Toy
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.engine.context import StageContext, no_progress
from sfrbench.errors import InputError
from sfrbench.plan.build import Plan, build_plan
from sfrbench.report.items import kinds
from sfrbench.spec.reader import read_spec
from sfrbench.stages.finetune import run as finetune
from sfrbench.store.store import Artefact
from tests.support.prepared import FAST, PATCH, make_prepared
from tests.support.runs import QUIET, here
from tests.support.stages import settings_of

STEPS = 24
TUNED: dict[str, Finetune] = {
    "lora": Lora.model_validate({"steps": STEPS, "batch": 1, "checkpoint_every": 8, "optim": FAST}),
    "views": Parts.model_validate(
        {"steps": STEPS, "batch": 1, "checkpoint_every": 8, "optim": FAST, "views": 2}
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return make_prepared(tmp_path_factory.mktemp("prepared") / "a")


def context(prepared: Artefact, folder: Path, tuned: Finetune, kill_at: int | None = None) -> StageContext:
    (folder / "out").mkdir(parents=True, exist_ok=True)

    def progress(done: int, total: int, **values: float) -> None:
        if done == kill_at:
            raise KeyboardInterrupt

    parts: dict[str, Component] = {
        "stitch": GridStitch(),
        "foundation": Sam2Toy(canvas=96),
        "finetune": tuned,
    }
    settings = settings_of(finetune, split={"labeled": 2}, patch=PATCH, rot_flip=True)
    return StageContext(
        parts,
        settings,
        {"prepare": prepared},
        1,
        folder / "out",
        folder / "scratch",
        progress=no_progress if kill_at is None else progress,
    )


@pytest.mark.parametrize("name", TUNED)
def test_it_learns_and_resumes_to_the_bit(name: str, prepared: Artefact, tmp_path: Path) -> None:
    whole = context(prepared, tmp_path / "whole", TUNED[name])
    finetune.run(whole)
    with (whole.out / "history.csv").open(encoding="utf-8") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    with pytest.raises(KeyboardInterrupt):
        finetune.run(context(prepared, tmp_path / "killed", TUNED[name], kill_at=16))
    again = context(prepared, tmp_path / "killed", TUNED[name])
    finetune.run(again)
    assert again.notes["resumed_at"] == 8
    for file in ("adapter.safetensors", "history.csv", "model.json"):
        assert (again.out / file).read_bytes() == (whole.out / file).read_bytes(), file


SPEC = """\
title: SAM 2 on canvases
dataset: {name: phantom, labeled: 2}
protocol: strict
base: {stitch: grid, foundation: sam2_1_small, finetune: lora, backbone: vnet, ssl: supervised}
arms:
  - {name: alone, stages: [finetune, predict, evaluate]}
  - {name: without_finer_maps, foundation.high_res: false, stages: [finetune, predict, evaluate]}
  - {name: sfr, pseudo: offline}
seeds: [0]
report: [{table: results}]
"""


def test_the_plan_goes_through_to_maps_and_labels(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    said = here("run", "spec.yaml", "--profile", "smoke", "--workspace", "runs", *QUIET, cwd=tmp_path).stdout
    assert " 0 failed, 0 blocked" in said
    records = {
        stage: [
            path.read_text(encoding="utf-8")
            for path in (tmp_path / "runs").glob(f"store/{stage}/*/record.json")
        ]
        for stage in ("finetune", "pseudolabel", "predict")
    }
    counts = {stage: len(found) for stage, found in records.items()}
    assert counts == {"finetune": 2, "pseudolabel": 1, "predict": 3}
    assert all("foundation/Sam2Toy" in text for text in records["finetune"] + records["pseudolabel"])
    assert sum("high_res" in text for text in records["finetune"]) == 1
    labels = list((tmp_path / "runs").glob("store/pseudolabel/*/labels/*.npy"))
    assert len(labels) == 6  # 8 training cases, of which 2 have labels of their own


def planned(tmp_path: Path, text: str = SPEC) -> Plan:
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    spec = read_spec(tmp_path / "spec.yaml", "smoke", (), items=kinds())
    return build_plan(spec, Catalog.read(), lambda dataset: "none")


def test_what_is_not_defined_for_its_encoder_is_refused(tmp_path: Path) -> None:
    arms = [f"{{name: {name}, finetune: {name}}}" for name in ("msa", "msa_relu", "samus", "sam3d_adapter")]
    kept = [
        f"{{name: {name}, finetune: {name}}}"
        for name in ("samed", "frozen", "decoder_only", "encoder_decoder", "full", "lora_r8")
    ]
    head, tail = SPEC.split("arms:\n")[0], "seeds: [0]\nreport: [{table: results}]\n"
    head += "stages: [finetune, predict, evaluate]\narms:\n"
    assert len(planned(tmp_path, head + "".join(f"  - {arm}\n" for arm in kept) + tail).cells) == len(kept)
    with pytest.raises(InputError) as caught:
        planned(tmp_path, head + "".join(f"  - {arm}\n" for arm in arms) + tail)
    said = str(caught.value)
    assert said.count("this foundation's image encoder is a Hiera") == len(arms)
    assert "finetune msa: it is defined for segment-anything's ViT and a TinyViT" in said
    assert "finetune samus: it is defined for segment-anything's ViT;" in said
    compiled = head + "  - {name: one, foundation.compile: blocks}\n" + tail
    with pytest.raises(InputError, match="compile"):
        planned(tmp_path, compiled)
