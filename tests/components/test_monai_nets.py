"""MONAI's networks: the counts that are known, equal to MONAI's own forward pass, and what a plan refuses."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone.monai_nets import UNETR, DynUNet, MedNeXt, Monai, SegResNet, SwinUNETR
from sfrbench.components.base import Backbone
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.components.ssl.causal import Causal
from sfrbench.components.ssl.magicnet import MagicNet
from sfrbench.deploy.export import PACKAGES
from sfrbench.deploy.load import load_model
from sfrbench.errors import InputError, NotReadyError
from sfrbench.machine.needs import lacks_package
from tests.support.flops import flops, size
from tests.support.runs import QUIET, here
from tests.support.specs import GOOD, faults, plan_of
from tests.support.ssl_steps import gradients, models_of, step_of

needs_monai = pytest.mark.skipif(
    importlib.util.find_spec("monai") is None, reason="the extra 'monai' is not installed"
)
CARDS = [
    card
    for card in Catalog.read().cards("backbone")
    if card.target.startswith("sfrbench.components.backbone.monai_nets:")
]
SIDES = (32, 32, 16)
SEG, DYN, MED = SegResNet(init_filters=8), DynUNet(filters=2, max_filters=16), MedNeXt(filters=2)
SWIN = SwinUNETR(feature_size=12)
VIT = UNETR(feature_size=2, hidden_size=64, patch=SIDES)
TINY: list[Backbone] = [SEG, DYN, MED, SWIN, VIT]


def named(backbone: Backbone) -> str:
    return type(backbone).__name__


def sides_of(backbone: Backbone) -> tuple[int, int, int]:
    return (64, 32, 32) if isinstance(backbone, SwinUNETR) else SIDES


def built(backbone: Backbone, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return backbone.build(3)


def images(backbone: Backbone, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 1, *sides_of(backbone), generator=torch.Generator().manual_seed(1))


def parameters(backbone: Backbone, classes: int = 2) -> int:
    with torch.device("meta"):
        network = backbone.build(classes)
    return sum(part.numel() for part in network.parameters())


@needs_monai
@pytest.mark.parametrize(
    ("backbone", "classes", "count"),
    [
        (SegResNet(init_filters=8), 2, 1_176_186),
        (SegResNet(init_filters=16), 2, 4_700_914),
        (SegResNet(), 2, 18_796_002),
        (SegResNet(), 14, 18_796_398),
        (DynUNet(), 2, 16_543_650),
        (DynUNet(res_block=True), 2, 16_670_210),
        (DynUNet(deep_supervision=True), 2, 16_543_650 + 902),
        (MedNeXt(), 2, 5_550_914),
        (MedNeXt(deep_supervision=True), 2, 5_550_914 + 1_928),
        (MedNeXt(size="B"), 2, 10_510_850),
        (MedNeXt(size="M"), 2, 17_533_506),
        (MedNeXt(size="L"), 2, 61_726_754),
        (MedNeXt(kernel_size=5), 2, 5_980_546),
        (MedNeXt(size="L", kernel_size=5), 2, 62_940_386),
        (SwinUNETR(feature_size=24), 2, 15_703_004),
        (SwinUNETR(), 2, 62_186_708),
        (SwinUNETR(), 14, 62_187_296),
        (SwinUNETR(use_v2=True), 2, 72_762_068),
        (UNETR(patch=(96, 96, 96)), 2, 92_802_274),
        (UNETR(patch=(112, 112, 80)), 2, 92_824_546),
    ],
    ids=lambda value: str(value),
)
def test_parameters_that_are_known(backbone: Backbone, classes: int, count: int) -> None:
    assert parameters(backbone, classes) == count


@needs_monai
def test_every_card_says_how_many() -> None:
    assert len(CARDS) == 9
    for card in CARDS:
        backbone = card.component({"patch": (96, 96, 96)} if card.name == "unetr" else {})
        assert isinstance(backbone, Backbone)
        name = "parameters_k2_96" if card.name == "unetr" else "parameters_k2"
        assert parameters(backbone) == card.figures[name]


def theirs(backbone: Backbone, **more: Any) -> Any:
    """MONAI's own network of the same shape, of the same seed."""
    from monai.networks import nets

    torch.manual_seed(0)
    if isinstance(backbone, SegResNet):
        return nets.SegResNet(3, 8, 1, 3)
    if isinstance(backbone, DynUNet):
        shape = {"kernel_size": [3] * 5, "strides": [1, 2, 2, 2, 2], "upsample_kernel_size": [2] * 4}
        return nets.DynUNet(3, 1, 3, **shape, filters=[2, 4, 8, 16, 16], **more)
    if isinstance(backbone, MedNeXt):
        return nets.MedNeXt(3, 2, 1, 3, kernel_size=3, use_residual_connection=True, **more)
    if isinstance(backbone, SwinUNETR):
        return nets.SwinUNETR(1, 3, feature_size=12, use_v2=backbone.use_v2)
    return nets.UNETR(1, 3, SIDES, feature_size=2, hidden_size=64, mlp_dim=256, num_heads=1)


@needs_monai
@pytest.mark.parametrize("backbone", [*TINY, SwinUNETR(feature_size=12, use_v2=True)], ids=str)
def test_logits_are_those_of_monai(backbone: Backbone) -> None:
    """To the bit, the weights as well: the same seed, the same layout of weights in memory."""
    ours, other = built(backbone), theirs(backbone).to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        assert torch.equal(ours(images(backbone)), other(images(backbone)))
        assert ours.scale_channels[0] == ours.feature_channels
    assert sum(map(torch.numel, ours.parameters())) == sum(map(torch.numel, other.parameters()))


@needs_monai
@pytest.mark.parametrize(
    "backbone",
    [
        SEG,
        DYN,
        DynUNet(filters=4, res_block=True, deep_supervision=True),
        MED,
        MedNeXt(filters=2, size="L", kernel_size=5, deep_supervision=True),
    ],
    ids=str,
)
def test_costs_are_what_torch_counts(backbone: Any) -> None:
    """Torch counts the gradients of depthwise weights as if they were full."""
    cost, pictures = backbone.cost((32, 48, 32), 3), torch.randn(1, 1, 32, 48, 32)
    network = built(backbone).train()
    assert cost.whole.forward == flops(lambda: network(pictures))
    assert cost.encode.forward == flops(lambda: network.encode(pictures))
    if not isinstance(backbone, MedNeXt):
        assert cost.whole.trained == flops(lambda: network(pictures).sum().backward())
    assert cost.parameters == size(network)
    network.strip_encoder()
    assert cost.decoder_parameters == size(network)
    assert (cost.filters, cost.bottleneck) == (network.feature_channels, network.bottleneck_channels)
    assert cost.multiples == backbone.multiples == network.multiples
    again = backbone.model_copy(update={"checkpointing": True}).cost((32, 48, 32), 3)
    assert again.whole.trained > cost.whole.trained


@needs_monai
@pytest.mark.parametrize("backbone", [DYN, MED], ids=named)
def test_heads_of_coarser_levels_are_those_of_monai(backbone: Any) -> None:
    """And the rest starts from the same weights as without them."""
    ours = built(backbone.model_copy(update={"deep_supervision": True})).train()
    plain, pictures = built(backbone).state_dict(), images(backbone)
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in plain.items())
    heads = {"deep_supr_num": 3} if isinstance(backbone, DynUNet) else {}
    other = theirs(backbone, deep_supervision=True, **heads).to(memory_format=torch.channels_last_3d).train()
    if isinstance(backbone, DynUNet):  # it draws its weights anew, in the order of its layers
        with torch.no_grad():
            for own, part in zip(ours.parameters(), other.parameters(), strict=True):
                part.copy_(own)
    with torch.no_grad():
        finest, *coarser = other(pictures).unbind(1) if heads else other(pictures)
        maps = ours.encode(pictures)
        scales = ours.decode_scales(maps)
        found = ours.coarse_logits(maps, scales)
        assert torch.equal(ours.head(scales[0]), finest)
    below = [2**level for level in range(1, 4 if heads else 5)]
    assert [tuple(part.shape[2:]) for part in found] == [tuple(s // by for s in SIDES) for by in below]
    for part, wanted, by in zip(found, coarser, below, strict=True):
        shown = (
            part.repeat_interleave(by, 2).repeat_interleave(by, 3).repeat_interleave(by, 4) if heads else part
        )
        assert torch.equal(shown, wanted)
    assert backbone.model_copy(update={"deep_supervision": True}).deployed() == backbone
    assert built(backbone).coarse_logits(maps, scales) == ()


@pytest.mark.parametrize(
    ("backbone", "patch", "told"),
    [
        (SegResNet(), (24, 24, 20), "multiple of 8; nearest that fits: [24, 24, 24]"),
        (DynUNet(), (112, 112, 72), "multiple of 16; nearest that fits: [112, 112, 80]"),
        (MedNeXt(), (24, 24, 24), "multiple of 16; nearest that fits: [32, 32, 32]"),
        (SwinUNETR(), (112, 112, 80), "multiple of 32; nearest that fits: [128, 128, 96]"),
        (SwinUNETR(), (32, 32, 32), "nearest that fits: [64, 32, 32]"),
        (MedNeXt(), (16, 16, 16), "nearest that fits: [32, 16, 16]"),
        (UNETR(), (96, 96, 88), "multiple of 16; nearest that fits: [96, 96, 96]"),
        (UNETR(patch=(96, 96, 96)), (96, 96, 80), "built for patches of [96, 96, 96], not of dataset.patch"),
    ],
    ids=str,
)
def test_patches_that_do_not_fit(backbone: Backbone, patch: tuple[int, int, int], told: str) -> None:
    (fault,) = backbone.conflicts({"dataset": Phantom(patch=patch)})
    assert told in fault


def test_the_plan_refuses_what_does_not_fit(tmp_path: Path) -> None:
    """The network and the nearest patch are named; where methods need what it lacks, the reason is."""
    text = GOOD.replace("vnet", "swin_unetr")
    told = "backbone swin_unetr: patch [32, 32, 16] has a side that is no multiple of 32"
    assert f"{told}; nearest that fits: [64, 32, 32]" in faults(tmp_path, text)
    text = GOOD.replace("vnet", "unetr").replace("ssl: mean_teacher", "ssl: magicnet")
    told = "backbone unetr: MagicNet cannot use it: it takes patches of the training's size alone"
    assert told in faults(tmp_path, text)
    text = GOOD.replace("vnet", "mednext_s").replace("ssl: mean_teacher", "ssl: causal")
    assert "backbone mednext_s: Causal cannot use it: its upsampling is more" in faults(tmp_path, text)


def test_unetr_is_built_for_the_patch_of_the_plan(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GOOD.replace("vnet", "unetr"))
    made = {cell.components["backbone"].component for cell in plan.cells}
    assert made == {UNETR(patch=(32, 32, 16), feature_size=12, hidden_size=64)}


@needs_monai
def test_unetr_says_what_size_it_was_built_for() -> None:
    with pytest.raises(InputError, match=r"UNETR was built for \[32, 32, 16\] voxels, not \[32, 32, 32\]"):
        built(VIT)(torch.zeros(1, 1, 32, 32, 32))
    with pytest.raises(InputError, match=r"none is given[\s\S]*settled"):
        UNETR().build(2)


def test_methods_find_their_parts_in_every_network() -> None:
    refused = {
        (named(backbone), card.name)
        for backbone in TINY
        for card in Catalog.read().cards("ssl")
        if "_source" not in card.name
        if any("cannot use it" in fault for fault in backbone.conflicts({"ssl": card.component({})}))
    }
    assert refused == {("MedNeXt", "causal"), ("UNETR", "magicnet"), ("UNETR", "magicnet_mact")}


@needs_monai
@pytest.mark.parametrize(
    ("method", "backbone"),
    [
        (MagicNet(cubes_per_side=(2, 1, 1), blend_after=0), SEG),
        (MagicNet(cubes_per_side=(2, 1, 1)), DYN),
        (Causal(game_after=0, game_every=1, game_steps=1), SEG),
        (Causal(game_after=0, game_every=1, game_steps=1), DYN),
        (Causal(game_after=0, game_every=1, game_steps=1), VIT),
        *((card.component({}), backbone) for backbone in (SEG, MED) for card in Catalog.read().cards("ssl")
          if card.name in ("cct", "urpc", "dtc", "ss_net", "cpcl", "acmt_p_err", "slc_net")),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_methods_train_by_the_parts(method: Any, backbone: Backbone) -> None:
    """A finite loss, and gradients in the student and in each network that trains."""
    models = models_of(method, backbone=backbone, double=False, sides=SIDES)
    step = step_of(method, models, iteration=2, counts=(2, 2), sides=SIDES)
    loss = torch.stack([part.square().mean() for part in method.outputs(step)]).sum() + method.loss(step)
    assert bool(torch.isfinite(loss))
    loss.backward()
    assert gradients(models)["student"]


@pytest.mark.parametrize(("package", "version"), [("monai", "1.4.0"), ("monai", ""), ("einops", "")])
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str
) -> None:
    def found(name: str) -> str:
        if name == package and not version:
            raise importlib.metadata.PackageNotFoundError(name)
        return version if name == package else "9.9.9"

    monkeypatch.setattr(importlib.metadata, "version", found)
    for backbone in TINY:
        assert isinstance(backbone, Monai)
        with pytest.raises(NotReadyError) as caught:
            backbone.build(2)
        oldest = {"monai": "1.6", "einops": "0.8"}[package]
        wanted = f"{backbone.title} needs {package} {oldest} or later; here: {version or 'not installed'}"
        assert wanted in str(caught.value)
        assert "pip install 'sfrbench[monai]'" in str(caught.value)
        (problem,) = lacks_package(backbone)  # what validate, plan and run say before anything runs
        assert problem.what == wanted


SPEC = """\
title: Networks
dataset: {name: phantom, labeled: 2, train_cases: 3, test_cases: 1, shape: [32, 32, 16]}
protocol: strict
base: {backbone: segresnet, ssl: supervised}
arms:
  - {name: seg}
  - {name: med, backbone: mednext_s, ssl: cct}
  - {name: vit, backbone: unetr, ssl: mean_teacher}
seeds: [0]
"""


@needs_monai
def test_they_train_predict_and_are_exported(tmp_path: Path) -> None:
    """Through the plan; UNETR by windows of the patch that it was built for, and back from its export."""
    for package in PACKAGES:
        pytest.importorskip(package, reason="the extra 'export' is not installed")
    (tmp_path / "nets.yaml").write_text(SPEC, encoding="utf-8")
    said = here("run", "nets.yaml", "--profile", "smoke", "--device", "cpu", *QUIET, cwd=tmp_path)
    assert "nodes: 10 ran, 0 reused, 0 failed" in said.stdout  # prepare, and three of each arm
    here("export", "nets.yaml", "vit", "out", "--profile", "smoke", cwd=tmp_path)
    network = load_model(tmp_path / "out")
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *SIDES)).shape == (1, 2, *SIDES)
