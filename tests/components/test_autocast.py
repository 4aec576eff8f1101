"""Small maps are convolved in float32: by their shape, on every machine, in every network of ours."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components._autocast import Conv3d, ConvTranspose2d, guard, is_small
from sfrbench.components.backbone.monai_nets import UNETR
from sfrbench.components.base import Backbone
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.components.finetune.sam3d_adapter import Sam3dAdapter
from sfrbench.components.finetune.samus import Samus
from sfrbench.components.foundation._tinyvit import TinyVit
from sfrbench.components.foundation._vit import ImageEncoder
from sfrbench.components.foundation.segmenter import SamSegmenter, prompt_and_decoder
from sfrbench.components.foundation.toy import SamToy
from sfrbench.machine.needs import lacks_package
from tests.support.narrow import narrow

CARDS = Catalog.read().cards("backbone")
PATCHES = [(32, 16, 16), (16, 32, 16), (16, 16, 32), (32, 32, 16), (32, 32, 32), (48, 48, 32), (64, 64, 64)]
ATEN = torch.ops.aten


class Seen(TorchDispatchMode):
    """Input sides and dtype of each convolution of 2D and 3D maps, and whether it is on its way back."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: set[tuple[tuple[int, ...], torch.dtype, bool]] = set()

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        back = call.overloadpacket is ATEN.convolution_backward
        given = args[1:2] if back else args[:1] if call.overloadpacket is ATEN.convolution else ()
        if given and given[0].ndim > 3:
            self.calls.add((tuple(given[0].shape[2:]), given[0].dtype, back))
        return call(*args, **(kwargs or {}))


def check(
    run: Callable[[], Tensor],
    large: torch.dtype = torch.bfloat16,
    shrunk: tuple[int, ...] = (),
    has_small: bool = True,
) -> Seen:
    """Forward and backward: a map with a side of 2 or less is float32, one of 6 and more ``large``, but for
    those of sides ``shrunk``, of which some become small ones at once."""
    with Seen() as seen:
        run().square().mean().backward()
    assert {way for _, _, way in seen.calls} == {False, True}
    assert {dtype for sides, dtype, _ in seen.calls if min(sides) <= 2} == (
        {torch.float32} if has_small else set()
    )
    assert {dtype for sides, dtype, _ in seen.calls if min(sides) >= 6 and sides != shrunk} == {large}
    return seen


@pytest.mark.parametrize(
    ("sides", "stride", "small"),
    [
        ((2, 2, 2), (1, 1, 1), True),
        ((2, 8, 4), (1, 1, 1), True),
        ((8, 8, 2), (1, 1, 1), True),
        ((3, 3, 3), (1, 1, 1), False),
        ((4, 8, 8), (2, 2, 2), True),  # becomes a map of 2
        ((6, 8, 8), (2, 2, 2), False),
        ((32, 32), (16, 16), True),
        ((64, 64), (16, 16), False),
    ],
)
def test_what_is_small(sides: tuple[int, ...], stride: tuple[int, ...], small: bool) -> None:
    assert is_small(sides, stride) is small


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
@pytest.mark.parametrize("patch", PATCHES[:5], ids=str)
def test_backbones(card: Card, patch: tuple[int, int, int]) -> None:
    data = {"dataset": Phantom(patch=patch)}
    backbone = narrow(card, 2).settled(data)
    assert isinstance(backbone, Backbone)
    if faults := backbone.conflicts(data) or lacks_package(backbone):
        pytest.skip(str(faults[0]))
    torch.manual_seed(0)
    network = backbone.model_copy(update={"precision": "bf16"}).build(3)
    scales = getattr(network, "scales", network) if getattr(network, "auxiliary", None) else network
    images = torch.randn(2, 1, *patch)

    def run() -> Tensor:
        found = scales(images)
        return sum(found) if isinstance(found, list) else found  # type: ignore[return-value]

    smallest = min(side // by for side, by in zip(patch, backbone.multiples, strict=True))
    check(run, shrunk=patch if isinstance(backbone, UNETR) else (), has_small=smallest <= 2)


@pytest.mark.parametrize("patch", PATCHES[5:], ids=str)
def test_larger_maps_stay_in_bf16(patch: tuple[int, ...]) -> None:
    backbone = Catalog.read().card("backbone", "vnet").component({"filters": 2, "precision": "bf16"})
    assert isinstance(backbone, Backbone)
    network = backbone.build(2)
    with Seen() as seen, torch.no_grad():
        network(torch.randn(1, 1, *patch))
    exact = {sides for sides, dtype, _ in seen.calls if dtype == torch.float32}
    assert exact == ({(3, 3, 2), (6, 6, 4)} if patch == (48, 48, 32) else set())


def test_a_copy_and_a_loaded_state_are_guarded() -> None:
    network = nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), nn.ConvTranspose2d(2, 2, 2))
    names = list(network.state_dict())
    guard(network)
    again = copy.deepcopy(network)
    assert [type(part) for part in again] == [Conv3d, ConvTranspose2d]
    assert list(again.state_dict()) == names


def test_the_same_bits_as_without_autocast() -> None:
    torch.manual_seed(0)
    conv, maps = Conv3d(4, 4, 3, padding=1), torch.randn(2, 4, 2, 5, 4)
    (conv(maps) ** 2).sum().backward()
    exact = [conv(maps).detach(), conv.weight.grad]
    conv.weight.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(maps)
    (found**2).sum().backward()
    assert torch.equal(found.detach(), exact[0])
    assert torch.equal(conv.weight.grad, exact[1])  # type: ignore[arg-type]


def vit() -> ImageEncoder:
    """SAM's encoder in small, for canvases of 32 pixels: 2 x 2 tokens."""
    return ImageEncoder(width=32, depth=1, heads=2, whole=(0,), canvas=32, patch=16, window=4, out=32)


def segmenter(encoder: nn.Module, stride: int = 16) -> SamSegmenter:
    parts = prompt_and_decoder(classes=3, canvas=32, stride=stride, dim=32, heads=4, mlp_dim=64)
    return SamSegmenter(encoder, *parts, canvas=32, classes=3, precision="bf16")


def test_sam_s_embedding_neck_and_upscaling() -> None:
    torch.manual_seed(0)
    model = segmenter(vit())
    seen = check(lambda: model(torch.randn(2, 1, 32, 32)), large=torch.float32)
    # patch embedding of the image, neck and first upscaling of 2 x 2 tokens; the second upscaling has 4 x 4
    assert {(sides, dtype) for sides, dtype, _ in seen.calls} == {
        ((32, 32), torch.float32),
        ((2, 2), torch.float32),
        ((4, 4), torch.bfloat16),
    }


def test_samus_and_lite_medsam_have_no_small_maps() -> None:
    """At the smallest canvas that their cards take, 32 pixels, with patches of 16 as SAM's ViT has them."""
    torch.manual_seed(0)
    plain = segmenter(TinyVit(dims=(8, 8, 16, 16), heads=(1,) * 4, windows=(2,) * 4, out=32), stride=4)
    samus = segmenter(vit())
    Samus().attach(samus)
    for model in (plain, samus):
        with Seen() as seen, torch.no_grad():
            model(torch.randn(1, 1, 32, 32))
        assert min(min(sides) for sides, _, _ in seen.calls) == (8 if model is plain else 4)
        assert {dtype for _, dtype, _ in seen.calls} == {torch.bfloat16}


@pytest.mark.parametrize("depth", [4, 8])
def test_3dsam_adapter_with_one_and_two_tokens_of_depth(depth: int) -> None:
    torch.manual_seed(0)
    model = SamToy(precision="bf16").build(3, None)
    Sam3dAdapter().attach(model)
    seen = check(lambda: model(torch.randn(depth, 1, 64, 64)))
    assert (depth // 4, 8, 8) in {sides for sides, _, _ in seen.calls}
