"""Blocks through ``torch.compile``: the numbers, names and adapters of a model that is not compiled.

What is traced runs as it is here, which needs no compiler; one block goes all the way to machine code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.foundation import _attention, _compiled, _grid, _operators, _pieces
from sfrbench.components.foundation._tinyvit import TinyVit
from sfrbench.components.foundation._vit import Block
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.toy import SamToy
from sfrbench.engine.compiling import lack
from sfrbench.errors import NotReadyError
from sfrbench.stages.finetune import run as finetune
from tests.support.tiny import Killed, Runs, content, sam


@pytest.fixture(autouse=True)
def _traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_compiled, "BACKEND", "eager")
    yield
    _compiled.forget()


def adapted(name: str, **fields: Any) -> Any:
    """The toy with the adapters of a card, the same numbers each time, none of them zero."""
    torch.manual_seed(0)
    model = SamToy.model_validate(fields).build(3, None)
    Catalog.read().card("finetune", name).component({}).attach(model)
    for part in model.parameters():
        if part.requires_grad and not part.any():
            nn.init.normal_(part, std=0.05)
    return model


def results(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The output, and the gradients of a sum that weighs each of its values differently."""
    out = model(images)
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    trained = [part for part in model.parameters() if part.requires_grad]
    grads = torch.autograd.grad((out * weights).sum(), trained, allow_unused=True)
    return [out.detach(), *(grad for grad in grads if grad is not None)]


def check(found: list[Tensor], wanted: list[Tensor], near: float) -> None:
    for mine, plain in zip(found, wanted, strict=True):
        largest = max(float(plain.abs().max()), 0.1)  # some gradients are 0, but for last digits
        assert (mine - plain).abs().max() <= near * largest


IMAGES = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["lora", "samus", "sam3d_adapter"])
def test_adapted_blocks_are_what_is_compiled(name: str) -> None:
    again = {"checkpointing": name == "lora"}
    plain, model = adapted(name), adapted(name, compile="blocks", **again)
    before = set(model.state_dict())
    check(results(model, IMAGES), results(plain, IMAGES), 1e-5)
    assert set(model.state_dict()) == before == set(plain.state_dict())


def test_compiled_in_bf16() -> None:
    plain, model = adapted("lora", precision="bf16"), adapted("lora", precision="bf16", compile="blocks")
    with torch.no_grad():
        check([model(IMAGES)], [plain(IMAGES)], 0.05)


def test_adapters_that_come_or_go_later_are_seen() -> None:
    model, finetune = adapted("lora", compile="blocks"), Lora()
    with torch.no_grad():
        first = model(IMAGES)
        finetune.merge(model)
        check([model(IMAGES)], [first], 1e-5)
        again = SamToy(compile="blocks").build(3, None)
        assert list(model.state_dict()) == list(again.state_dict())
        plain, hooked = adapted("msa"), adapted("msa", compile="blocks")
        again.image_encoder(IMAGES.expand(-1, 3, -1, -1))  # of the same classes, without hooks
        check([hooked(IMAGES)], [plain(IMAGES)], 1e-5)


def test_a_few_batch_sizes_are_compiled_once_each() -> None:
    from torch._dynamo.utils import counters

    model, plain = adapted("lora", compile="blocks").eval(), adapted("lora").eval()
    counters.clear()
    for count in (1, 2, 1):
        images = IMAGES[:1].expand(count, -1, -1, -1)
        with torch.no_grad():
            check([model(images)], [plain(images)], 1e-5)
    assert counters["stats"]["unique_graphs"] == 4, "two kinds of blocks, two sizes"


def test_beyond_the_limit_nothing_runs_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compiled, "FORMS", 1)
    with pytest.raises(NotReadyError, match=r"foundation\.compile.*none"), torch.no_grad():
        adapted("lora", compile="blocks")(IMAGES)


def test_tiny_vit() -> None:
    def make(compiled: bool) -> TinyVit:
        torch.manual_seed(0)
        sizes: Any = {"dims": (8, 16), "depths": (1, 1), "heads": (2, 2), "windows": (4, 4), "strides": (2,)}
        return TinyVit(**sizes, out=8, compiled=compiled).eval()

    images = IMAGES.expand(-1, 3, -1, -1)[..., :32, :32]
    check(results(make(True), images), results(make(False), images), 1e-5)


def test_a_killed_training_has_the_bits_of_one_that_runs_through(tmp_path: Any) -> None:
    runs, parts = Runs(tmp_path), sam(foundation=SamToy(canvas=96, compile="blocks"))
    whole = content(runs(finetune, parts, "whole"))
    with pytest.raises(Killed):
        runs(finetune, parts, "killed", kill_at=1)
    _compiled.forget()
    killed = content(runs(finetune, parts, "killed"))
    assert killed["adapter.safetensors"] == whole["adapter.safetensors"]


@pytest.mark.skipif(lack("cpu") is not None, reason="no C++ compiler, which torch.compile needs on a CPU")
def test_a_block_as_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compiled, "BACKEND", "inductor")
    torch.manual_seed(0)
    block = Block(16, 2, 0, 4)
    for name, value in block.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(value, std=0.2)
    tokens = torch.randn(2, 4, 4, 16)

    class Through(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block

        def forward(self, tokens: Tensor) -> Any:
            return _compiled.through(self.block, tokens)

    found = results(Through(), tokens)
    check(found, results(block, tokens), 1e-5)
    _compiled.forget()
    assert all(map(torch.equal, found, results(Through(), tokens))), "the same bits again"


def test_operators_have_the_numbers_of_their_kernels() -> None:
    q, k, v, a, b = (torch.randn(2, 16, side, requires_grad=True) for side in (8, 8, 8, 4, 4))
    for given in ((q, k, v, a, b), (q, k, v, None, None)):
        leaves = [part for part in given if part is not None]
        ours, theirs = _operators.in_pieces(*given), _pieces.InPieces.apply(*given)
        assert torch.equal(ours, theirs)
        grads = [torch.autograd.grad(out.square().sum(), leaves) for out in (ours, theirs)]
        assert all(map(torch.equal, *grads))
    torch.library.opcheck(_operators.in_pieces, (q, k, v, a, b))


class _Attend(nn.Module):
    def forward(self, *given: Any) -> Tensor:
        return _attention.attend(*given)


def test_on_a_card_the_kernel_is_one_operator_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    monkeypatch.setattr(_grid, "holds", lambda device, dtype: (device, dtype) == ("cuda:0", torch.bfloat16))
    seen: list[str] = []

    def graph(module: torch.fx.GraphModule, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in module.graph.nodes)
        return module.forward

    monkeypatch.setattr(_compiled, "BACKEND", graph)
    with FakeTensorMode(), torch.no_grad():
        like: Any = {"device": "cuda", "dtype": torch.bfloat16}
        given = [torch.empty(2, 256, side, **like) for side in (32, 32, 32, 16, 16)]
        _compiled.through(_Attend(), *given)
    assert any("by_rows" in name for name in seen)


def test_keys_change_only_where_blocks_are_compiled() -> None:
    for cls in (SamVit, SamToy, LiteMedSam):
        assert "compile" not in cls().key_settings()
        assert cls(compile="blocks").key_settings() == {**cls().key_settings(), "compile": "blocks"}
