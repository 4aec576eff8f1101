"""Which trainings repeat to the bit on a GPU, as docs/how-to/devices-and-precision.md says: those without an
operation that adds in any order there. Operations are those that the same training runs on the processor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.base import Component
from sfrbench.conformance._ssl_method import small
from sfrbench.conformance.checks import Subject
from sfrbench.conformance.material import PATCH, Inputs, inputs_of
from sfrbench.engine.context import StageContext
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.retrain import run as retrain
from tests.support.prepared import sam
from tests.support.stages import settings_of

#: CUDA kernels of torch's list (``torch.use_deterministic_algorithms``) that add floats in any order. Not
#: here: ``nll_loss2d_forward``, of which only the printed loss depends; ``index_put`` that adds, which sorts
#: first; ``scatter`` of one number, ``cumsum`` and ``bincount`` of whole ones.
UNORDERED = {
    *(f"upsample_{mode}_backward" for mode in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
    *(f"{pool}_backward" for pool in ("max_pool3d_with_indices", "avg_pool3d", "adaptive_max_pool2d")),
    *(f"_adaptive_avg_pool{sides}d_backward" for sides in (2, 3)),
    *(f"{pad}_pad{sides}d_backward" for pad in ("reflection", "replication") for sides in (1, 2, 3)),
    *(f"grid_sampler_{sides}d_backward" for sides in (2, 3)),
    *("index_add", "index_add_", "index_reduce", "scatter_add", "scatter_add_", "scatter_reduce"),
    *("embedding_dense_backward", "put", "put_", "histc", "max_unpool2d", "max_unpool3d"),
}
#: Classes of methods that do not repeat with a V-Net.
NOT = {"Causal", "Urpc"}


class Operations(TorchDispatchMode):
    """Notes which operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(call.overloadpacket.__name__)
        return call(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return inputs_of(tmp_path_factory.mktemp("inputs"), 3)


def context(inputs: Inputs, folder: Path, stage: Any, components: dict[str, Component]) -> StageContext:
    for name in ("out", "scratch"):
        (folder / name).mkdir()
    told = {"split": {"labeled": 1}, "patch": PATCH, "rot_flip": False, "pseudo": "offline"}
    artefacts = {"prepare": inputs.clean, "pseudolabel": inputs.pseudo}
    settings = settings_of(stage, **told)
    return StageContext(components, settings, artefacts, 1, folder / "out", folder / "scratch")


def unordered(stage: Any, ctx: StageContext) -> set[str]:
    with Operations() as operations:
        stage.run(ctx)
    assert "convolution_backward" in operations.seen
    return operations.seen & UNORDERED


def one_of_each_class() -> list[Card]:
    cards = {card.component_class: card for card in reversed(Catalog.read().cards("ssl"))}
    return sorted(cards.values(), key=lambda card: card.name)


@pytest.mark.parametrize("card", one_of_each_class(), ids=lambda card: card.name)
def test_a_method_with_a_v_net(card: Card, inputs: Inputs, tmp_path: Path) -> None:
    method = small(Subject(card, tmp_path, tmp_path), pseudo_labels="hard")
    backbone = Catalog.read().card("backbone", "vnet").component({"filters": 2})
    found = unordered(retrain, context(inputs, tmp_path, retrain, {"backbone": backbone, "ssl": method}))
    assert found == ({"upsample_trilinear3d_backward"} if type(method).__name__ in NOT else set())


def test_a_3d_unet_does_not_repeat(inputs: Inputs, tmp_path: Path) -> None:
    method = small(Subject(Catalog.read().card("ssl", "supervised"), tmp_path, tmp_path))
    backbone = Catalog.read().card("backbone", "unet3d").component({"filters": 2})
    found = unordered(retrain, context(inputs, tmp_path, retrain, {"backbone": backbone, "ssl": method}))
    assert found == {"upsample_trilinear3d_backward", "max_pool3d_with_indices_backward"}


def test_a_fine_tuning_does_not_repeat(inputs: Inputs, tmp_path: Path) -> None:
    """Fused attention's gradient, which a GPU alone has, stands beside it."""
    found = unordered(finetune, context(inputs, tmp_path, finetune, sam(steps=1)))
    assert found == {"upsample_bilinear2d_backward"}


def test_an_operation_of_the_list_is_seen() -> None:
    values = torch.ones(1, 1, 2, 2, requires_grad=True)
    with Operations() as operations:
        torch.nn.functional.interpolate(values, scale_factor=2, mode="bilinear").sum().backward()
    assert operations.seen & UNORDERED == {"upsample_bilinear2d_backward"}
