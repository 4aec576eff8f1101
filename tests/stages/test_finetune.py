"""The finetune stage beyond its loop: fixed views that are encoded once, and the loss on small maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sfrbench.components.base import Component, Finetune
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.finetune.parts import Parts
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext, no_progress
from sfrbench.engine.volumes import Volumes
from sfrbench.errors import DataError
from sfrbench.maths.sampling import draw_view
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.finetune.data import Canvases
from sfrbench.stages.finetune.views import FixedViews
from sfrbench.store.store import Artefact
from tests.support.prepared import FAST, make_prepared
from tests.support.stages import settings_of


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return make_prepared(tmp_path_factory.mktemp("prepared") / "a")


def context(
    prepared: Artefact, folder: Path, tuned: Finetune, labeled: int = 2, kill_at: int | None = None
) -> StageContext:
    (folder / "out").mkdir(parents=True, exist_ok=True)

    def progress(done: int, total: int, **values: float) -> None:
        if done == kill_at:
            raise KeyboardInterrupt

    components: dict[str, Component] = {
        "stitch": GridStitch(),
        "foundation": SamToy(canvas=96),
        "finetune": tuned,
    }
    return StageContext(
        components,
        settings_of(finetune, split={"labeled": labeled}, patch=[16, 16, 32], rot_flip=True),
        {"prepare": prepared},
        1,
        folder / "out",
        folder / "scratch",
        progress=no_progress if kill_at is None else progress,
    )


def parts(**fields: Any) -> Parts:
    chosen = {"steps": 12, "batch": 2, "checkpoint_every": 4, "optim": FAST, "views": 3}
    return Parts.model_validate({**chosen, **fields})


def test_from_the_second_epoch_on_the_encoder_does_not_run(prepared: Artefact, tmp_path: Path) -> None:
    ctx = context(prepared, tmp_path, parts())
    model = finetune.build_model(ctx, 2)
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    model.image_encoder.register_forward_hook(count)
    batch = finetune.make_batches(ctx, Volumes(prepared), model)
    seen = []
    for step in range(9):  # three epochs of 2 cases x 3 views, two at a step
        batch(step)
        seen.append(runs)
    assert seen == [2, 4, 6, 6, 6, 6, 6, 6, 6]
    assert ctx.notes["encoder_runs"] == 6


def test_stored_embeddings_train_like_the_encoder(prepared: Artefact, tmp_path: Path) -> None:
    ctx = context(prepared, tmp_path, parts(views=1), labeled=1)
    model = finetune.build_model(ctx, 2)
    batch = finetune.make_batches(ctx, Volumes(prepared), model)
    images: list[torch.Tensor] = []
    model.image_encoder.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0]))
    first, labels = batch(0)
    again, labels_again = batch(1)
    assert torch.equal(first, again)
    assert torch.equal(labels, labels_again)
    assert labels.dtype == torch.int64
    assert set(labels.unique().tolist()) == {0, 1, 255}
    assert len(images) == 1
    torch.testing.assert_close(model(images[0][:, :1]), first[:1], atol=1e-5, rtol=1e-5)


def test_views_resume_to_the_bit(prepared: Artefact, tmp_path: Path) -> None:
    finetune.run(context(prepared, tmp_path / "whole", parts()))
    with pytest.raises(KeyboardInterrupt):
        finetune.run(context(prepared, tmp_path / "killed", parts(), kill_at=8))
    ctx = context(prepared, tmp_path / "killed", parts())
    finetune.run(ctx)
    assert ctx.notes["resumed_at"] == 4
    assert ctx.notes["encoder_runs"] == 0
    for file in ("adapter.safetensors", "history.csv", "model.json"):
        whole, killed = (tmp_path / name / "out" / file for name in ("whole", "killed"))
        assert whole.read_bytes() == killed.read_bytes()


def test_a_view_does_not_depend_on_how_many_there_are(prepared: Artefact, tmp_path: Path) -> None:
    stored = []
    for count, labeled in ((1, 1), (4, 2)):
        folder = tmp_path / str(count)
        finetune.run(context(prepared, folder, parts(views=count, steps=4 * count), labeled))
        stored.append({path.name: load_file(path) for path in (folder / "scratch" / "views").iterdir()})
    few, many = stored
    assert (len(few), len(many)) == (1, 8)
    for name, view in few.items():
        assert torch.equal(view["embedding"], many[name]["embedding"])
        assert torch.equal(view["label"], many[name]["label"])
    assert len({view["embedding"].numpy().tobytes() for view in many.values()}) == 8


def test_a_view_is_written_as_a_whole(tmp_path: Path) -> None:
    image, label = torch.rand(1, 8, 8), torch.full((8, 8), 255)
    for precision in (torch.float32, torch.bfloat16):
        folder = tmp_path / str(precision)
        views = FixedViews(folder, ["a.b"], 1, lambda *_: (image, label), lambda x, p=precision: x.to(p))
        embedding, labels = views.batch(views.found(views.names * 2), "cpu")
        assert views.encoded == 1
        assert embedding.dtype == precision
        assert torch.equal(embedding, image.expand(2, 1, 8, 8).to(precision))
        assert torch.equal(labels, label.expand(2, 8, 8))
        assert [path.name for path in folder.iterdir()] == ["a.b.0.safetensors"]


def test_labels_are_shrunk_to_the_middle_of_each_cell() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 2, 2], labels[0, 6, 6] = 1, 255
    assert finetune.shrink(labels, (2, 2)).tolist() == [[[1, 0], [0, 255]]]
    assert torch.equal(finetune.shrink(labels, (8, 8)), labels)


def test_loss_on_small_maps_differs_and_the_default_is_the_canvas(prepared: Artefact, tmp_path: Path) -> None:
    written = {}
    for name, fields in {"plain": {}, "full": {"loss_on": "full"}, "low": {"loss_on": "low_res"}}.items():
        tuned = Lora.model_validate({"steps": 2, "batch": 1, "optim": FAST, **fields})
        finetune.run(context(prepared, tmp_path / name, tuned))
        written[name] = (tmp_path / name / "out" / "history.csv").read_bytes()
    assert written["plain"] == written["full"] != written["low"]


@pytest.mark.parametrize("views", [None, 3])
def test_a_single_labelled_case_comes_once_or_fills_the_batch(
    prepared: Artefact, tmp_path: Path, views: int | None
) -> None:
    """Batch 2: the authors' loader gives batches of one; with three views of the case 2 and 1 by turns."""
    sizes = {}
    for short in ("repeat", "shrink"):
        ctx = context(prepared, tmp_path / short, parts(views=views, short_batch=short), labeled=1)
        batch = finetune.make_batches(ctx, Volumes(prepared), finetune.build_model(ctx, 2))
        made = [batch(step) for step in range(4)]
        assert all(len(logits) == len(targets) for logits, targets in made)
        sizes[short] = [len(logits) for logits, _ in made]
    assert sizes["repeat"] == [2] * 4
    assert sizes["shrink"] == ([1] * 4 if views is None else [2, 1, 2, 1])


def test_a_short_batch_is_in_the_key_where_it_means_something() -> None:
    plain = Lora(batch=2).key_settings()
    assert "short_batch" not in plain
    assert Lora(batch=2, short_batch="shrink").key_settings() == {**plain, "short_batch": "shrink"}
    assert Lora(batch=1, short_batch="shrink").key_settings() == Lora(batch=1).key_settings()


def test_crops_are_drawn_as_the_settings_say(prepared: Artefact, tmp_path: Path) -> None:
    drawn = {}
    for crops in ("all", "released"):
        ctx = context(prepared, tmp_path / crops, parts(views=None))
        canvases = Canvases(
            replace(ctx, settings=ctx.settings.model_copy(update={"crops": crops})), Volumes(prepared)
        )
        case = Volumes(prepared).train[0]
        patches = [canvases.draw(case, np.random.default_rng(seed)) for seed in range(9)]
        shape = Volumes(prepared).image(case).shape
        assert [patch.view for patch in patches] == [
            draw_view(shape, (16, 16, 32), True, np.random.default_rng(seed), crops) for seed in range(9)
        ]
        drawn[crops] = [patch.view for patch in patches]
    assert drawn["all"] != drawn["released"]


@pytest.mark.parametrize("labeled", [1, 2])
def test_labels_without_a_class_are_refused_before_training(tmp_path: Path, labeled: int) -> None:
    make_prepared(tmp_path / "a")
    for case in ("case0", "case1")[:labeled]:
        np.save(tmp_path / "a" / "labels" / f"{case}.npy", np.zeros((20, 18, 30), np.uint8))
    empty = artefact_of("prepare", tmp_path / "a")
    ctx = context(empty, tmp_path / "f", parts(), labeled)
    with pytest.raises(DataError, match=f"none of the {labeled} labelled training cases has .*: case0"):
        finetune.run(ctx)
    assert not list(ctx.out.iterdir())


def test_one_label_without_a_class_among_others_trains(tmp_path: Path) -> None:
    make_prepared(tmp_path / "a")
    np.save(tmp_path / "a" / "labels" / "case0.npy", np.zeros((20, 18, 30), np.uint8))
    ctx = context(artefact_of("prepare", tmp_path / "a"), tmp_path / "f", parts(steps=1))
    finetune.run(ctx)
    assert (ctx.out / "adapter.safetensors").is_file()
