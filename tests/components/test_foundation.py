"""Foundation models: they equal segment-anything, load strictly, and take batches and other canvases."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components.foundation import _build, _samlib
from sfrbench.components.foundation._tinyvit import TinyVit
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.segmenter import SamSegmenter, prompt_and_decoder, read_state
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import InputError, NotReadyError
from sfrbench.machine import own_weights
from sfrbench.places import weights
from tests.support.places import ROOT

ABSENT = 'raise ImportError("torchvision is not here")\n'
PRESENT = "batched_nms = box_area = resize = to_pil_image = 0\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like Meta's ViT-B release, with random numbers in it."""
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b_01ec64.pth"
    torch.manual_seed(0)
    sam = _samlib.build_sam_vit_b()
    for name, value in sam.named_parameters():
        if "pos" in name:
            nn.init.normal_(value, std=0.1)
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def lite_weights() -> Path:
    try:
        return weights.check("lite_medsam")
    except NotReadyError as error:
        pytest.skip(f"no LiteMedSAM weights: {error}")


def meta_sam(model: SamSegmenter) -> nn.Module:
    """Segment-anything's own ``Sam`` with the same weights; input is taken as it is."""
    encoder = _samlib.ImageEncoderViT(
        img_size=model.canvas, norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=14,
        global_attn_indexes=(2, 5, 8, 11),
    )  # fmt: skip
    encoder.load_state_dict(model.image_encoder.state_dict())
    sam: nn.Module = _samlib.Sam(encoder, model.prompt_encoder, model.mask_decoder, [0.0] * 3, [1.0] * 3)
    return sam.eval()


def all_tokens(sam: nn.Module, canvas: Tensor) -> Tensor:
    """Low-resolution logits of all four tokens, from two calls of ``Sam.forward``."""
    side = canvas.shape[-1]
    request = [{"image": canvas.expand(3, -1, -1), "original_size": (side, side)}]
    with torch.no_grad():
        parts = [sam(request, multimask_output=many)[0]["low_res_logits"] for many in (False, True)]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("torchvision", ["absent", "present"])
def test_modelling_classes_need_no_torchvision(tmp_path: Path, torchvision: str) -> None:
    stub = tmp_path / "torchvision"
    for name in ("__init__", "ops/__init__", "ops/boxes", "transforms/__init__", "transforms/functional"):
        file = stub / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(ABSENT if torchvision == "absent" else PRESENT)
    code = """
        import sys
        from sfrbench.components.foundation import _samlib
        assert "torchvision" not in sys.modules
        assert _samlib.ImageEncoderViT.__module__ == "segment_anything.modeling.image_encoder"
        try:
            import segment_anything
        except ImportError as error:
            print("absent", error)
        else:
            from segment_anything.modeling import ImageEncoderViT
            assert ImageEncoderViT is _samlib.ImageEncoderViT
            print("present", segment_anything.SamPredictor.__name__)
    """
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
    result = subprocess.run(
        [sys.executable, "-c", path + textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(torchvision), result.stdout


def test_vit_b_equals_segment_anything(checkpoint: Path) -> None:
    model = SamVit(canvas=256).build(4, checkpoint)
    canvas = torch.randn(1, 256, 256)
    with torch.no_grad():
        own = model(canvas[None])
    assert own.shape == (1, 4, 64, 64)
    torch.testing.assert_close(own, all_tokens(meta_sam(model), canvas), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_vit_b_equals_segment_anything_at_full_size(checkpoint: Path) -> None:
    """Its first three blocks, with attention in windows and over all; above, all twelve follow each other."""
    model = SamVit().build(4, checkpoint)
    sam = _samlib.build_sam_vit_b(checkpoint=str(checkpoint))
    for encoder in (model.image_encoder, sam.image_encoder):
        assert [block.window_size for block in encoder.blocks[:3]] == [14, 14, 0]
        encoder.blocks = encoder.blocks[:3]
    sam.pixel_mean, sam.pixel_std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    canvas = torch.randn(1, 1024, 1024)
    with torch.no_grad():
        ours = model.encode(canvas[None])
        theirs = sam.image_encoder(canvas.expand(3, -1, -1)[None])
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        sam.mask_decoder.load_state_dict(model.mask_decoder.state_dict())  # the head is new in ours
        sparse, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
        masks, _ = sam.mask_decoder.predict_masks(theirs, sam.prompt_encoder.get_dense_pe(), sparse, dense)
        torch.testing.assert_close(model.decode(ours), masks, atol=1e-4, rtol=0)


def test_toy_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    model = SamToy().build(4, None)
    other = transformers.SamModel(
        transformers.SamConfig(
            vision_config={
                "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1],
                "mlp_dim": 128, "num_pos_feats": 16,
            },
            prompt_encoder_config={
                "hidden_size": 32, "image_size": 64, "patch_size": 8, "mask_input_channels": 16,
            },
            mask_decoder_config={
                "hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32,
            },
        )
    ).eval()  # fmt: skip
    state = {their_name(name): value for name, value in model.state_dict().items()}
    positions = state["prompt_encoder.shared_embedding.positional_embedding"]
    state["shared_image_embedding.positional_embedding"] = positions
    other.load_state_dict(state)
    canvas = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        own = model(canvas)
        image = canvas.expand(-1, 3, -1, -1)
        parts = [other(pixel_values=image, multimask_output=many).pred_masks[:, 0] for many in (False, True)]
    torch.testing.assert_close(own, torch.cat(parts, dim=1), atol=1e-5, rtol=1e-5)


def their_name(name: str) -> str:
    """A parameter's name in transformers' SamModel."""
    for old, new in (
        ("image_encoder", "vision_encoder"), ("patch_embed.proj", "patch_embed.projection"),
        ("blocks.", "layers."), ("pe_layer", "shared_embedding"),
        ("positional_encoding_gaussian_matrix", "positional_embedding"),
        ("neck.0", "neck.conv1"), ("neck.1", "neck.layer_norm1"), ("neck.2", "neck.conv2"),
        ("neck.3", "neck.layer_norm2"), (".norm", ".layer_norm"), ("point_embeddings", "point_embed"),
        ("mask_downscaling.0", "mask_embed.conv1"), ("mask_downscaling.1", "mask_embed.layer_norm1"),
        ("mask_downscaling.3", "mask_embed.conv2"), ("mask_downscaling.4", "mask_embed.layer_norm2"),
        ("mask_downscaling.6", "mask_embed.conv3"), ("output_upscaling.0", "upscale_conv1"),
        ("output_upscaling.1", "upscale_layer_norm"), ("output_upscaling.3", "upscale_conv2"),
    ):  # fmt: skip
        name = name.replace(old, new)
    if "hypernetworks" in name or "iou_prediction_head" in name:
        for old, new in (("layers.0", "proj_in"), ("layers.1", "layers.0"), ("layers.2", "proj_out")):
            name = name.replace(old, new)
    return name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_batch_equals_one_by_one(precision: str) -> None:
    model = SamToy(precision=precision).build(3, None)
    canvases = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        together = model(canvases)
        single = torch.cat([model(canvas[None]) for canvas in canvases])
    assert together.dtype == torch.float32
    atol = 1e-5 if precision == "fp32" else 0.05
    torch.testing.assert_close(together, single, atol=atol, rtol=0)
    assert (together[0] - together[1]).abs().max() > 10 * (together - single).abs().max()


@pytest.mark.parametrize("side", [64, 80, 128, 256])
def test_toy_takes_other_canvases(side: int) -> None:
    model = SamToy(canvas=side).build(3, None)
    with torch.no_grad():
        logits = model.segment(torch.rand(2, 1, side, side))
    assert logits.shape == (2, 3, side, side)
    assert logits.dtype == torch.float32
    assert model(torch.rand(1, 1, side, side)).shape == (1, 3, side // 2, side // 2)


def test_toy_is_the_same_everywhere_and_leaves_the_rng_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = _build.toy_state()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second = _build.toy_state()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_the_head_depends_on_the_seed() -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(SamToy().build(2, None).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    differing = {name for name in models[0] if not torch.equal(models[0][name], models[2][name])}
    head = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")
    assert differing == {name for name in models[0] if any(part in name for part in head)}


def test_head_is_new_even_where_the_checkpoint_fits(checkpoint: Path) -> None:
    model = SamVit(canvas=64).build(4, checkpoint)
    state = read_state(checkpoint)
    assert torch.equal(model.mask_decoder.iou_token.weight, state["mask_decoder.iou_token.weight"])
    assert not torch.equal(model.mask_decoder.mask_tokens.weight, state["mask_decoder.mask_tokens.weight"])


def test_prompts_take_the_head_of_the_checkpoint(checkpoint: Path) -> None:
    model = SamVit(canvas=64).prompted(checkpoint).sam
    state = read_state(checkpoint)
    for name, value in model.mask_decoder.state_dict().items():
        assert torch.equal(value, state[f"mask_decoder.{name}"]), name
    for name, value in model.prompt_encoder.state_dict().items():
        assert torch.equal(value, state[f"prompt_encoder.{name}"]), name


def test_loading_is_strict(checkpoint: Path, tmp_path: Path) -> None:
    state = read_state(checkpoint)
    state["image_encoder.neck.9.weight"] = state.pop("image_encoder.neck.0.weight")
    state["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 8)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(NotReadyError) as caught:
        SamVit(canvas=64).build(2, tmp_path / "odd.pth")
    text = str(caught.value)
    for part in (
        "odd.pth",
        "missing image_encoder.neck.0.weight",
        "unexpected image_encoder.neck.9.weight",
        "no_mask_embed.weight is (1, 8), not (1, 256)",
    ):
        assert part in text


def test_what_is_no_weight_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    for path in (broken, tmp_path / "list.pth", tmp_path / "absent.pth"):
        with pytest.raises(NotReadyError, match=path.name):
            read_state(path)
    with pytest.raises(NotReadyError, match="sfrbench weights get lite_medsam"):
        LiteMedSam().build(2, None)


def test_canvas_shape_is_checked() -> None:
    model = SamToy().build(2, None)
    for shape in ((1, 2, 64, 64), (1, 1, 64, 48), (3, 64, 64)):
        with pytest.raises(InputError, match=r"canvases must be \(B, 1, I, I\) or \(B, 3, I, I\)"):
            model(torch.zeros(shape))


def test_three_channels_go_in_as_they_are() -> None:
    model = SamToy().build(2, None)
    one = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []
    hook = model.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert torch.equal(model(one), model(one.repeat(1, 3, 1, 1)))
        slab = torch.cat([one, 2 * one, 3 * one], 1)
        model(slab)
    hook.remove()
    assert torch.equal(seen[-1], slab)


def test_checkpointing_is_in_no_key(checkpoint: Path) -> None:
    assert SamVit(checkpointing=True).key_settings() == SamVit().key_settings()
    for again in (False, True):
        model = SamVit(canvas=64, checkpointing=again).build(2, checkpoint)
        assert model.image_encoder.checkpointing == again


def test_weight_names() -> None:
    assert [SamVit(size=size).weights for size in "blh"] == ["sam_vit_b", "sam_vit_l", "sam_vit_h"]
    assert LiteMedSam().weights == "lite_medsam"
    assert SamToy().weights is None


@pytest.mark.parametrize("side", [64, 96])
def test_tinyvit_grid_follows_the_input(side: int) -> None:
    with torch.no_grad():
        assert TinyVit().eval()(torch.rand(1, 3, side, side)).shape == (1, 256, side // 4, side // 4)


def test_folded_norm_equals_convolution_then_norm() -> None:
    from sfrbench.components.foundation._tinyvit import ConvBn

    torch.manual_seed(0)
    layer = ConvBn(4, 8, 3, 2)
    nn.init.uniform_(layer.bn.running_mean)
    nn.init.uniform_(layer.bn.running_var, 0.5, 2)
    nn.init.normal_(layer.bn.weight)
    nn.init.normal_(layer.bn.bias)
    x = torch.randn(2, 4, 9, 9)
    mean = layer.bn.running_mean.clone()
    out = layer.train()(x)
    torch.testing.assert_close(out, layer.bn.eval()(layer.c(x)), atol=1e-5, rtol=1e-5)
    assert torch.equal(layer.bn.running_mean, mean)


def test_lite_medsam_loads_and_segments(lite_weights: Path) -> None:
    model = LiteMedSam().build(3, lite_weights)
    with torch.no_grad():
        assert model.segment(torch.rand(1, 1, 128, 128)).shape == (1, 3, 128, 128)
    assert sum(p.numel() for p in model.image_encoder.parameters()) == 5_726_740


def test_lite_medsam_finds_the_left_atrium_in_a_box(lite_weights: Path, shared_data: Path) -> None:
    import h5py

    files = sorted((shared_data / "la").glob("*/*/mri_norm2.h5"))
    if not files:
        pytest.skip(f"no LA volumes under {shared_data / 'la'}")
    parts = prompt_and_decoder(classes=4, canvas=256, stride=4)
    model = SamSegmenter(TinyVit(), *parts, canvas=256, classes=4, precision="bf16", channels_last=True)
    model.load_state_dict(read_state(lite_weights))  # all 435 tensors, strictly, with SAM's own four tokens
    model.eval()
    scores = [box_dice(model, *middle_slice(h5py.File(path, "r"))) for path in files[:3]]
    assert max(scores) > 0.91
    assert sum(scores) / len(scores) > 0.85


def middle_slice(volume: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The middle slice of the organ at 256 x 256: image in [0, 1] and truth."""
    image, label = torch.from_numpy(volume["image"][:]), torch.from_numpy(volume["label"][:])
    at = int(label.any(0).any(0).nonzero().median())
    image = (image - image.min()) / (image.max() - image.min())
    picture = F.interpolate(image[None, None, :, :, at], (256, 256), mode="bilinear", align_corners=False)
    truth = F.interpolate(label[None, None, :, :, at].float(), (256, 256), mode="nearest")
    return picture, truth[0, 0] > 0


def box_dice(model: SamSegmenter, picture: Tensor, truth: Tensor) -> float:
    rows, columns = torch.where(truth)
    box = torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]).float()
    with torch.no_grad():
        sparse, dense = model.prompt_encoder(points=None, boxes=box[None], masks=None)
        positions = model.prompt_encoder.get_dense_pe()
        embedding = model.encode(picture).float()
        logits, _ = model.mask_decoder(embedding, positions, sparse, dense, multimask_output=False)
    found = logits[0, 0] > 0
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def test_a_file_of_full_size_is_known_by_its_network(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MedSAM's is such a file: SAM's own names and shapes, and no hash that is published."""
    monkeypatch.setenv("SFRBENCH_WEIGHTS", str(tmp_path))
    said = own_weights.add("mine", checkpoint, link=True)
    assert "fits SAM ViT-B: 314 tensors, 93,735,728 values" in said[1]
    assert said[-1] == "  foundation: {name: sam_vit_b, checkpoint: mine}"
    (tmp_path / "medsam_vit_b.pth").symlink_to(checkpoint)
    told = own_weights.unpublished("medsam")
    sha256 = weights.hash_of("mine")
    assert told.startswith(
        f"314 tensors of SAM ViT-B, 93,735,728 values; no hash is published, sha256 {sha256}"
    )
    foundation = SamVit(checkpoint="medsam", canvas=64)
    assert foundation.key_settings()["checkpoint"] == weights.hash_of("mine")
