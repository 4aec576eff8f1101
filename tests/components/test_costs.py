"""What components say that they cost is what torch counts while they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone.nnunet import NnUNet
from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.backbone.vnet_magic import VNetMagic
from sfrbench.components.base import Backbone, Dataset, Finetune, Foundation, Ssl
from sfrbench.components.costs.parts import Sam, Segmenter, stated
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.finetune.msa import Msa
from sfrbench.components.finetune.parts import Parts
from sfrbench.components.finetune.sam3d_adapter import Sam3dAdapter
from sfrbench.components.finetune.samus import Samus
from sfrbench.components.foundation import _build, segmenter
from sfrbench.components.foundation._tinyvit import TinyVit
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.sam2 import Sam2, Sam2Like, Sam2Toy
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.ssl.acmt import Acmt
from sfrbench.components.ssl.bcp import Bcp
from sfrbench.components.ssl.causal import Causal
from sfrbench.components.ssl.causal_cps import CausalCps
from sfrbench.components.ssl.cct import Cct
from sfrbench.components.ssl.cpcl import Cpcl
from sfrbench.components.ssl.cps import Cps
from sfrbench.components.ssl.dtc import Dtc
from sfrbench.components.ssl.ict import Ict
from sfrbench.components.ssl.magicnet import MagicNet
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.components.ssl.slc_net import SlcNet
from sfrbench.components.ssl.ss_net import SsNet
from sfrbench.components.ssl.supervised import Supervised
from sfrbench.components.ssl.ua_mt import UaMt
from sfrbench.components.ssl.urpc import Urpc
from sfrbench.maths.losses import cross_entropy
from tests.support.flops import flops, size
from tests.support.ssl_steps import models_of, step_of

PATCH = (32, 48, 32)
BACKBONES = [
    VNet(filters=4),
    VNet(filters=2, norm="group"),
    VNetMagic(filters=4),
    UNet3d(filters=4),
    UNet3d(filters=2, deep_supervision=True),
    NnUNet(filters=4, max_filters=16, strides=((1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 2, 2))),
    NnUNet(
        filters=4,
        encoder="residual",
        deep_supervision=False,
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    ),
]


def cost_of(backbone: Backbone, patch: tuple[int, int, int], classes: int) -> Segmenter:
    cost = backbone.cost(patch, classes)
    assert cost is not None
    return cost


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda one: f"{type(one).__name__}-{one.filters}")
def test_backbones(backbone: Any) -> None:
    network: Any = backbone.build(3).train()
    images = torch.randn(1, 1, *PATCH)
    cost = cost_of(backbone, PATCH, 3)
    assert cost.whole.forward == flops(lambda: network(images))
    assert cost.encode.forward == flops(lambda: network.encode(images))
    assert cost.whole.trained == flops(lambda: network(images).sum().backward())
    assert cost.parameters == size(network)
    network.strip_encoder()
    assert cost.decoder_parameters == size(network)
    assert cost.bottleneck == network.bottleneck_channels


def test_the_paper_s_backbones_have_the_parameters_that_are_known() -> None:
    assert cost_of(VNet(), (112, 112, 80), 2).parameters == 9_448_866
    assert cost_of(UNet3d(), (96, 96, 96), 2).parameters == 5_884_050


def sam(foundation: Foundation, classes: int = 3) -> SamSegmenter:
    """The model of a foundation with random weights."""
    side = foundation.canvas
    if isinstance(foundation, SamVit):
        return _build.vit(foundation.size, canvas=side, classes=classes, precision="fp32")
    if isinstance(foundation, SamToy):
        return _build.toy(canvas=side, classes=classes, precision="fp32")
    if isinstance(foundation, Sam2Like):
        return foundation.untrained(classes)
    parts = segmenter.prompt_and_decoder(classes=classes, canvas=side, stride=4)
    return SamSegmenter(TinyVit(), *parts, canvas=side, classes=classes, precision="fp32")


@pytest.fixture
def shapes_only() -> Iterator[None]:
    """Tensors without numbers: shapes are enough to count, so that large models cost nothing."""
    with FakeTensorMode():
        yield


FOUNDATIONS = [SamToy(), SamToy(canvas=96), SamVit(canvas=224), SamVit(size="l", canvas=160), LiteMedSam()]
SAM2 = [Sam2(canvas=224), Sam2Toy(), Sam2Toy(high_res=False)]


def named(foundation: Foundation) -> str:
    return f"{type(foundation).__name__}-{foundation.canvas}"


def agree(foundation: Foundation, decode: float) -> tuple[Any, Sam]:
    """The formula is what torch counts, of the decoder within a share ``decode``; model and cost."""
    model, cost = sam(foundation), foundation.cost(3)
    assert cost is not None
    images = torch.randn(1, 1, foundation.canvas, foundation.canvas)
    encoded = flops(lambda: model.encode(images))
    whole = flops(lambda: model(images))
    assert (cost.embed + cost.encode).forward == pytest.approx(encoded, rel=0.01)
    assert cost.decode.forward == pytest.approx(whole - encoded, rel=decode)
    trained = flops(lambda: model(images).sum().backward())
    assert (cost.embed + cost.encode + cost.decode).trained == pytest.approx(trained, rel=0.02)
    return model, cost


@pytest.mark.parametrize("foundation", FOUNDATIONS, ids=named)
@pytest.mark.usefixtures("shapes_only")
def test_foundations(foundation: Foundation) -> None:
    """Within 1 %: the zeros beyond windows, projected once, are not in the formula."""
    model, cost = agree(foundation, decode=0.01)
    parts = (model.image_encoder, model.prompt_encoder, model.mask_decoder)
    counts = [cost.encoder_parameters, cost.prompt_parameters, cost.decoder_parameters]
    assert counts == [size(part) for part in parts]


@pytest.mark.parametrize("foundation", SAM2, ids=named)
def test_sam2(foundation: Sam2Like) -> None:
    """Within 2 %: of the decoder, heads that are not run are in the formula."""
    agree(foundation, decode=0.02)


def test_sam_has_the_parameters_that_are_known() -> None:
    cost = SamVit().cost(2)
    assert cost is not None
    assert (cost.encoder_parameters, cost.prompt_parameters) == (89_670_912, 6_220)
    assert cost.decoder_parameters == 3_777_698
    tuned = Lora().cost(cost, 1)
    assert tuned is not None
    assert tuned.trained == 3_931_374  # LoRA of rank 4, K = 2


FINETUNES = [
    Lora(rank=2),
    Lora(rank=8),
    Msa(),
    Parts(parts=("mask_decoder",)),
    Parts(parts=("image_encoder", "mask_decoder")),
    Parts(parts=("image_encoder", "prompt_encoder", "mask_decoder")),
    Parts(parts=("head",)),
    Samus(),
    Samus(train_decoder=True),
]


@pytest.mark.parametrize(
    "finetune", FINETUNES, ids=[f"{type(one).__name__}-{number}" for number, one in enumerate(FINETUNES)]
)
@pytest.mark.parametrize("foundation", [SamToy(), LiteMedSam(canvas=64), Sam2Toy(canvas=64)], ids=named)
def test_fine_tuning(foundation: Foundation, finetune: Finetune) -> None:
    """A prediction within 2 %, a step within 7 %: where a backward pass ends depends on the first adapter."""
    if finetune.conflicts({"foundation": foundation}):
        pytest.skip("it is not defined for this image encoder")
    model = sam(foundation)
    finetune.attach(model)
    model.train()
    shapes = foundation.cost(3)
    assert shapes is not None
    cost = finetune.cost(shapes, 1)
    assert cost is not None
    images = torch.randn(1, 1, foundation.canvas, foundation.canvas)
    assert cost.trained == size(model, trained=True)
    assert cost.training == pytest.approx(flops(lambda: model(images).sum().backward()), rel=0.07)
    finetune.merge(model)
    assert cost.forward == pytest.approx(flops(lambda: model(images)), rel=0.02)


@pytest.mark.parametrize(("slices", "canvas"), [(8, 64), (16, 64), (10, 128)])
def test_volumes_as_one(slices: int, canvas: int) -> None:
    """3DSAM-adapter: a patch within 5 %."""
    foundation, finetune = SamToy(canvas=canvas), Sam3dAdapter()
    state = _build.toy_state()
    model = _build.pretrained(lambda: _build.toy(canvas=canvas, classes=3, precision="fp32"), state, "toy")
    finetune.attach(model)
    model.train()
    shapes = foundation.cost(3)
    assert shapes is not None
    cost = finetune.cost(shapes, slices)
    assert cost is not None
    images = torch.randn(slices, 1, canvas, canvas)
    assert cost.trained == size(model, trained=True)
    assert cost.forward * slices == pytest.approx(flops(lambda: model(images)), rel=0.05)
    trained = flops(lambda: model(images).sum().backward())
    assert cost.training * slices == pytest.approx(trained, rel=0.05)


METHODS: list[tuple[Ssl, Backbone]] = [
    (Supervised(), VNet(filters=4)),
    (MeanTeacher(), VNet(filters=4)),
    (MeanTeacher(consistency_on="unlabelled"), UNet3d(filters=4)),
    (UaMt(passes=4), VNet(filters=4)),
    (Acmt(), VNet(filters=4)),
    (Acmt(selector="mu", passes=4), VNet(filters=4)),
    (Acmt(selector="p_err", passes=4), VNet(filters=4)),
    (Acmt(selector="s_err"), VNet(filters=4)),
    (Cps(), VNet(filters=4)),
    (CausalCps(cross_after=0, game_after=9999), VNet(filters=4)),
    (Cct(), UNet3d(filters=4)),
    (Causal(game_after=9999), VNet(filters=4)),
    (Cpcl(), VNet(filters=4)),
    (Dtc(), VNet(filters=4)),
    (Ict(), VNet(filters=4)),
    (Urpc(), VNet(filters=4)),
    (Bcp(pretrain=0.0), VNet(filters=4)),
    (SsNet(), VNet(filters=4, dropout=False)),
    (SlcNet(passes=4), VNet(filters=4)),
    (MagicNet(cubes_per_side=(2, 1, 1), blend_after=0), VNetMagic(filters=4)),
]


def labelled_loss(method: Ssl, step: Any) -> torch.Tensor:
    """L_sup, in which no product counts, and the method's own loss."""
    count = len(step.logits_l)
    whole = method.loss(step)
    for output in method.outputs(step):
        if count:
            whole = whole + cross_entropy(output[:count], step.labels)
    return whole


@pytest.mark.parametrize(
    ("method", "backbone"),
    METHODS,
    ids=[f"{type(method).__name__}-{n}" for n, (method, _) in enumerate(METHODS)],
)
def test_methods(method: Ssl, backbone: Backbone) -> None:
    """A step of two and two patches within 8 %, networks of a method's own within 2 %; the wide location head
    of MagicNet counts in full."""
    sides, classes = (32, 32, 16), 3
    models = models_of(method, classes, backbone, double=False, sides=sides)
    cost = cost_of(backbone, sides, classes)
    own = method.cost(2, 2 if method.uses_unlabelled else 0, cost)
    assert own is not None
    counts = (2, 2 if method.uses_unlabelled else 0)
    plain = {"all": sum(counts), "labelled": 2, "none": 0}[method.plain]
    expected = plain * cost.whole.trained + own.flops(cost)
    found = flops(lambda: labelled_loss(method, step_of(method, models, 1, counts, sides)).backward())
    assert expected == pytest.approx(found, rel=0.08)
    known = [network for name, network in models.networks.items() if name != "independence"]
    count = size(*known)
    assert own.parameters == pytest.approx(count, rel=0.02, abs=3000)


def test_every_card_states_its_cost_but_for_two_transformers() -> None:
    """A card without one is unknown in a plan."""
    methods = {
        "foundation": ("cost", ("build",)),
        "finetune": ("cost", ("attach",)),
        "backbone": ("cost", ("build",)),
        "ssl": ("cost", ("loss", "networks", "outputs")),
        "stitch": ("canvas_count", ("to_canvases",)),
        "dataset": ("extent", ("read_case", "case_lists")),
    }
    for card in Catalog.read().cards():
        if card.kind in methods:
            states = stated(card.component({}), *methods[card.kind])
            assert states == (card.name not in ("swin_unetr", "unetr")), card.name


def test_a_class_that_changes_what_it_does_and_says_nothing_is_unknown() -> None:
    class Other(MeanTeacher):
        def loss(self, step: Any) -> torch.Tensor:
            return super().loss(step) * 2

    class Named(MeanTeacher):
        """Only another default."""

    class Bare(Ssl):
        def loss(self, step: Any) -> torch.Tensor:
            raise NotImplementedError

    beside = ("loss", "networks", "outputs")
    assert stated(Named(), "cost", beside)
    assert not stated(Other(), "cost", beside)
    assert Bare().cost(2, 2, cost_of(VNet(), PATCH, 2)) is None


@pytest.mark.parametrize(
    ("name", "shape"),
    [("la", (193.2, 142.7, 88.0)), ("la_half", (96.6, 71.35, 44.0)), ("phantom", (64, 64, 32))],
)
def test_sizes_of_datasets(name: str, shape: tuple[float, float, float]) -> None:
    dataset = Catalog.read().card("dataset", name).component({})
    assert isinstance(dataset, Dataset)
    extent = dataset.extent(None)
    assert extent is not None
    assert extent.shape == pytest.approx(shape)
    deeper = dataset.model_copy(update={"min_depth": 96}).extent(None)
    assert deeper is not None
    assert deeper.shape[2] == 96
