"""3DSAM-adapter: it is three-dimensional, attends as the source says, and is counted to the unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Component, Finetune, Foundation, Stitch
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.components.finetune import _sam3d
from sfrbench.components.finetune.sam3d_adapter import Sam3dAdapter
from sfrbench.components.foundation import _build
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.segmenter import SamSegmenter, load_trained, trained_state
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.components.stitch.slab3 import Slab3Stitch
from sfrbench.components.stitch.small_size import SmallSizeStitch
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import sam_forward
from sfrbench.engine.volumes import Volumes
from sfrbench.errors import InputError
from sfrbench.maths.labels import IGNORE
from sfrbench.stages.finetune import run as stage
from tests.support.prepared import make_prepared
from tests.support.stages import settings_of
from tests.support.vits import tiny


def toy(classes: int = 3, seed: int = 0, **fields: float) -> SamSegmenter:
    torch.manual_seed(seed)
    model = SamToy().build(classes, None)
    Sam3dAdapter.model_validate(fields).attach(model)
    return model


def slices(depth: int) -> Tensor:
    return torch.randn(depth, 1, 64, 64, generator=torch.Generator().manual_seed(depth))


# --- the encoder ------------------------------------------------------------


@pytest.mark.parametrize("sides", [(1, 8, 8), (5, 3, 8), (3, 11, 9), (10, 8, 17)])
@pytest.mark.parametrize("shifted", [False, True])
def test_a_block_is_plain_attention_in_shifted_windows(sides: tuple[int, ...], shifted: bool) -> None:
    """Against one attention over all tokens, written out, which sees the token's own window only."""
    torch.manual_seed(0)
    block = _sam3d.Block3d(SamToy().build(2, None).image_encoder.blocks[1], 0.5, shifted=shifted)
    nn.init.normal_(block.rel_pos_d, std=0.3)
    x = torch.randn(*sides, 32)
    places = torch.cartesian_prod(*(torch.arange(side) for side in sides))
    windows = torch.stack(
        [
            torch.div(places[:, axis] - (4 if shifted and side > 8 else 0), 8, rounding_mode="floor")
            for axis, side in enumerate(sides)
        ],
        1,
    )
    away = places[:, None] - places[None] + 7  # 15 distances in a window of 8
    seen = (windows[:, None] == windows[None]).all(-1)
    attn = block.attn
    with torch.no_grad():
        q, k, v = attn.qkv(x).reshape(len(places), 3, 2, 16).permute(1, 2, 0, 3)
        scores = q @ k.transpose(1, 2) / 4
        for axis, table in enumerate((block.rel_pos_d, attn.rel_pos_h, attn.rel_pos_w)):
            assert len(table) == 15  # the toy's global block on a canvas of 64
            scores = scores + torch.einsum("nqc,qkc->nqk", q, table[away[..., axis].clamp(0, 14)])
        mixed = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
        expected = attn.proj(mixed.transpose(0, 1).flatten(1)).reshape(x.shape)
        torch.testing.assert_close(block._attend(x), expected, atol=1e-5, rtol=1e-4)


def test_windows_come_back() -> None:
    x = torch.arange(4 * 6 * 8 * 2.0).reshape(4, 6, 8, 2)
    windows = _sam3d.to_windows(x, (2, 3, 4))
    assert windows.shape == (8, 24, 2)
    assert torch.equal(windows[1].reshape(2, 3, 4, 2), x[:2, :3, 4:])
    assert torch.equal(_sam3d.from_windows(windows, (2, 3, 4), (4, 6, 8)), x)


def test_position_tables_of_any_length_become_those_of_a_window() -> None:
    table = torch.arange(-13.0, 14.0)[:, None].expand(27, 2)
    places = _sam3d.relative(table, 5)[..., 0]
    assert places.shape == (5, 5)
    torch.testing.assert_close(places, -places.T)
    assert places[1, 0] == pytest.approx(27 / 15)  # what a query one further on adds
    assert torch.equal(
        _sam3d.relative(table, 8)[:5, :5, 0], places
    )  # a distance means the same in any window


def once(table: Tensor, size: int) -> np.ndarray:
    """Rows of a table at the centres of ``size`` equal parts of its length, linear between rows; float64."""
    rows = table.double().numpy()
    centres = (np.arange(size) + 0.5) * len(rows) / size - 0.5
    return np.stack([np.interp(centres, np.arange(len(rows)), column) for column in rows.T], 1)


@pytest.mark.parametrize("canvas", [64, 96, 128, 256])
def test_relative_positions_are_interpolated_once_from_the_checkpoint(canvas: int) -> None:
    """The toy's tables hold 15 distances in the global block and 7 in the other; a window has 15."""
    torch.manual_seed(0)
    state, model = _build.toy_state(), SamToy(canvas=canvas).build(2, None)
    Sam3dAdapter().attach(model)
    for index, length in ((0, 7), (1, 15)):
        block = model.image_encoder.get_submodule(f"blocks.{index}")
        pretrained = [state[f"image_encoder.blocks.{index}.attn.rel_pos_{axis}"] for axis in "hw"]
        tables = [block.attn.rel_pos_h, block.attn.rel_pos_w, block.rel_pos_d]
        wanted = [*pretrained, sum(pretrained) / 2]
        away = np.arange(8)[:, None] - np.arange(8) + 7
        for table, source in zip(tables, wanted, strict=True):
            assert len(table) == length  # as pretrained, whatever the canvas
            with torch.no_grad():
                np.testing.assert_allclose(_sam3d.relative(table, 8), once(source, 15)[away], atol=1e-7)
        assert [table.requires_grad for table in tables] == [False, False, True]
    assert model.pretrained_positions == {}


def test_the_way_by_a_canvas_of_512_was_far_off() -> None:
    """127 to 63 to 15 distances, as it was, against 127 to 15: what the tables above are protected from."""
    table = torch.randn(127, 64, generator=torch.Generator().manual_seed(0))
    twice = once(torch.from_numpy(once(table, 63)), 15)
    direct = once(table, 15)
    assert np.linalg.norm(twice - direct) > 0.15 * np.linalg.norm(direct)
    with torch.no_grad():
        away = np.arange(8)[:, None] - np.arange(8) + 7
        np.testing.assert_allclose(_sam3d.relative(table, 8), direct[away], atol=1e-4)


def test_positions_on_half_the_canvas_are_pooled_as_in_the_source() -> None:
    """avg_pool2d with kernel 2 of the absolute table (ImageEncoderViT_3d_v2)."""
    grid = torch.randn(1, 64, 64, 8, generator=torch.Generator().manual_seed(0))
    name = "image_encoder.pos_embed"

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image_encoder = nn.Module()
            self.image_encoder.pos_embed = nn.Parameter(torch.zeros(1, 32, 32, 8))

    found = _build.fit_positions({name: grid}, Half())[name]
    torch.testing.assert_close(found, grid.reshape(1, 32, 2, 32, 2, 8).mean((2, 4)))


def test_slices_are_interpolated_and_joined() -> None:
    """The same as patches of a volume whose depth was enlarged first, as in the source."""
    model = toy(slices_per_token=4)
    encoder, volume = model.image_encoder, slices(8).expand(-1, 3, -1, -1)
    enlarged = nn.functional.interpolate(
        volume.permute(1, 2, 3, 0).flatten(0, 2)[:, None], size=32, mode="linear", align_corners=False
    )
    enlarged = enlarged[:, 0].reshape(3, 64, 64, 32).permute(3, 0, 1, 2)
    with torch.no_grad():
        tokens = encoder._embed(encoder.patch_embed.proj(volume)) - encoder.pos_embed - 1
        patches = encoder.patch_embed.proj(enlarged)  # (32, C, 8, 8)
        for index in range(2):
            part = patches[16 * index : 16 * (index + 1)]
            joined = torch.einsum("dchw,cd->hwc", part, encoder.slice_embed.weight[:, 0])
            torch.testing.assert_close(tokens[index], joined + encoder.slice_embed.bias, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("depth", "per_token", "tokens"), [(1, 4, 1), (4, 4, 1), (5, 4, 2), (37, 4, 10), (7, 1, 7)]
)
def test_any_depth(depth: int, per_token: int, tokens: int) -> None:
    model = toy(slices_per_token=per_token)
    with torch.no_grad():
        assert model.encode(slices(depth)).shape == (4, 32, tokens, 8, 8)
        logits = model(slices(depth))
        assert logits.shape == (depth, 3, 16, 16)
        assert torch.isfinite(logits).all()
        assert model.segment(slices(depth)).shape == (depth, 3, 64, 64)


class PlusOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.mark.parametrize(("blocks", "ends"), [(2, [1, 1, 2, 2]), (12, [3, 6, 9, 12]), (32, [8, 16, 24, 32])])
def test_levels_lie_after_each_quarter_of_the_blocks(blocks: int, ends: list[int]) -> None:
    encoder = toy().image_encoder
    encoder.blocks = nn.ModuleList(PlusOne() for _ in range(blocks))
    encoder.necks = nn.ModuleList(nn.Identity() for _ in range(4))
    volume = slices(3).expand(-1, 3, -1, -1)
    with torch.no_grad():
        start = encoder._embed(encoder.patch_embed.proj(volume)).permute(3, 0, 1, 2)
        passed = (encoder(volume) - start).mean((1, 2, 3, 4))
    assert passed.tolist() == pytest.approx(ends, abs=1e-4)


# --- three-dimensional ------------------------------------------------------------


def test_the_order_of_slices_matters() -> None:
    model, volume = toy(), slices(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain, permuted = model.segment(volume), model.segment(volume[order])
        assert (permuted - plain[order]).abs().max() > 0.05 * plain.abs().max()
        changed = volume.clone()
        changed[6] += 1
        assert (model.segment(changed)[3] - plain[3]).abs().max() > 1e-4  # a slice sees its neighbours


def test_a_gradient_reaches_every_slice_and_all_that_is_new() -> None:
    model = toy()
    volume = slices(10).requires_grad_()
    model(volume)[4].square().sum().backward()
    assert volume.grad is not None
    assert volume.grad.flatten(1).abs().sum(1).gt(0).all()
    for name, value in model.named_parameters():
        assert (value.grad is not None) == value.requires_grad, name


def test_bf16_is_near_fp32() -> None:
    model = toy()
    with torch.no_grad():
        exact = model(slices(9))
        model.precision = "bf16"
        rough = model(slices(9))
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


# --- in training and inference ------------------------------------------------------------


def test_training_sees_all_slices_of_each_patch(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "a")
    tuned = Sam3dAdapter.model_validate({"batch": 2, "steps": 4})
    components: dict[str, Component] = {
        "stitch": UpsampledStitch(),
        "foundation": SamToy(),
        "finetune": tuned,
    }
    settings = settings_of(stage, split={"labeled": 2}, patch=[16, 12, 6], rot_flip=True)
    ctx = StageContext(components, settings, {"prepare": prepared}, 1, tmp_path / "out", tmp_path / "scratch")
    model = stage.build_model(ctx, 2)
    forwards: list[int] = []
    model.image_encoder.register_forward_pre_hook(lambda _, inputs: forwards.append(len(inputs[0])))
    logits, labels = stage.make_batches(ctx, Volumes(prepared), model)(0)
    assert forwards == [6, 6]
    assert logits.shape == (12, 2, 16, 16)
    assert labels.shape == (12, 64, 64)
    assert labels.dtype == torch.int64
    assert (labels == IGNORE).float().mean() == pytest.approx(0.25)  # the slices are 64 x 48
    alone = stage.step_loss(tuned, logits, labels)
    assert torch.isfinite(alone)


def test_slices_of_a_patch_are_predicted_together() -> None:
    model = toy().eval()
    patches = torch.randn(2, 16, 16, 6, generator=torch.Generator().manual_seed(3))
    result = sam_forward(model, UpsampledStitch(), 1)(patches)
    with torch.no_grad():
        for patch, found in zip(patches, result, strict=True):
            canvases = UpsampledStitch().to_canvases(patch[None], 64, 0.0)
            maps = UpsampledStitch().from_canvases(model.segment(canvases).softmax(1), (16, 16, 6))
            assert torch.equal(found, maps)


def test_saved_and_loaded_in_another_depth() -> None:
    model, other = toy(seed=0), toy(seed=5)
    for name, value in model.named_parameters():
        if value.requires_grad:
            nn.init.normal_(value, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    load_trained(other, trained_state(model))
    Sam3dAdapter().merge(other)
    with torch.no_grad():
        assert torch.equal(other(slices(7)), model(slices(7)))


# --- counts and refusals ------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 5])
def test_parameter_counts(classes: int) -> None:
    """Summed up by hand from the source's layers; the table's own figure is 114M."""
    with torch.device("meta"):
        model = _build.vit("b", canvas=512, classes=classes, precision="fp32")
        # as ``pretrained`` leaves it: the tables of the canvas, and those of 1024 pixels that they came from
        fitted = [f"blocks.{index}.attn.rel_pos_{axis}" for index in (2, 5, 8, 11) for axis in "hw"]
        assert {len(model.image_encoder.get_parameter(name)) for name in fitted} == {63}
        model.pretrained_positions = {f"image_encoder.{name}": torch.empty(127, 64) for name in fitted}
        pretrained = sum(value.numel() for value in model.image_encoder.parameters()) + 8 * 64 * 64
        neck = sum(value.numel() for value in model.image_encoder.neck.parameters())
        Sam3dAdapter().attach(model)
    adapter = (768 * 384 + 384) + (27 * 384 + 384) + (384 * 768 + 768)
    blocks = 12 * (adapter + 2 * 2 * 768) + 8 * 27 * 64 + 4 * 127 * 64  # norms; relative depths
    embeddings = (16 * 768 + 768) + 32 * 768
    necks = 4 * (768 * 256 + 27 * 256 * 256 + 2 * 2 * 256)
    decoder = 4 * 27 * (256 * 128 + 128 * 128) + 27 * (4 * 128 + 1) * 128 + 27 * 128 * classes
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    total = sum(value.numel() for value in model.parameters())
    assert trained == blocks + embeddings + necks + decoder
    assert total == trained + pretrained - neck - 12 * 2 * 2 * 768
    figures = Catalog.read().card("finetune", "sam3d_adapter").figures
    if classes == 2:
        assert (trained, total) == (figures["trainable_2_classes"], figures["total_2_classes"])
        assert (trained, total) == (22_298_240, 108_785_536)


def test_the_preset_is_the_sources_recipe() -> None:
    tuned = Catalog.read().card("finetune", "sam3d_adapter").component({})
    assert isinstance(tuned, Finetune)
    assert (tuned.batch, tuned.ce_weight, tuned.optim.optimiser) == (1, 0.5, "adamw")
    rates = [tuned.optim.lr_at(step, 100) for step in range(100)]
    assert rates[0] == 4e-4
    assert rates[50] == pytest.approx(2e-4)
    assert rates[99] == pytest.approx(4e-6)


def reasons(stitch: Stitch, foundation: Foundation | None = None) -> list[str]:
    cell: dict[str, Component] = {
        "dataset": Phantom(patch=(32, 32, 16)),
        "stitch": stitch,
        "foundation": foundation or SamToy(),
    }
    return Sam3dAdapter().conflicts(cell)


def test_what_it_refuses() -> None:
    assert reasons(UpsampledStitch()) == []
    assert reasons(UpsampledStitch(), SamVit(canvas=512)) == []
    assert reasons(SmallSizeStitch(), SamToy(canvas=64)) == []
    assert Sam3dAdapter().conflicts({}) == []
    assert "4 places for slices" in reasons(GridStitch())[0]
    assert "reorder" in reasons(GridStitch(scale=1, order="random"))[0]
    assert "join slices" in reasons(Slab3Stitch(layout="upsampled"))[0]
    assert "TinyViT" in reasons(UpsampledStitch(), LiteMedSam())[0]
    for reason in reasons(GridStitch()):
        assert "upsampled or small_size" in reason


def test_it_needs_the_vit_and_comes_once() -> None:
    for model in (tiny(), toy()):
        with pytest.raises(InputError, match="not segment-anything's ViT"):
            Sam3dAdapter().attach(model)
