"""Blocks through ``torch.compile``: the numbers, names and adapters of a model that is not compiled.

What is traced runs as it is here, which needs no compiler; attention goes all the way to machine code (and
whole blocks in ``test_gpu_benchmark``). Tracing is what takes the time: networks have one block, and what is
compiled stays for the tests that follow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.foundation import _attention, _build, _compiled, _grid, _operators, _pieces
from sfrbench.components.foundation._tinyvit import TinyVit
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.toy import SamToy
from sfrbench.engine.compiling import lack
from sfrbench.errors import NotReadyError
from sfrbench.stages.finetune import run as finetune
from tests.support.tiny import Killed, Runs, content, sam


@pytest.fixture(autouse=True, scope="module")
def _traced() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compiled, "BACKEND", "eager")
        yield
    _compiled.forget()


def one_block(model: Any, index: int) -> Any:
    model.image_encoder.blocks = model.image_encoder.blocks[index : index + 1]
    return model


def adapted(name: str, index: int = 0, **fields: Any) -> Any:
    """One block of the toy (0 attends in windows, 1 to all) with the adapters of a card: the same numbers
    each time, none of them zero."""
    torch.manual_seed(0)
    model = one_block(SamToy.model_validate(fields).build(3, None), index)
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


@contextmanager
def traces(graphs: int) -> Iterator[None]:
    """Within it so many graphs are traced."""
    from torch._dynamo.utils import counters

    counters.clear()
    yield
    assert counters["stats"]["unique_graphs"] == graphs


IMAGES = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "index"), [("lora", 0), ("samus", 1), ("sam3d_adapter", 0)])
def test_adapted_blocks_are_what_is_compiled(name: str, index: int) -> None:
    again = {"checkpointing": name == "lora"}
    plain, model = adapted(name, index), adapted(name, index, compile="blocks", **again)
    before = set(model.state_dict())
    with traces(1):
        check(results(model, IMAGES), results(plain, IMAGES), 1e-5)
    assert set(model.state_dict()) == before == set(plain.state_dict())


def test_compiled_in_bf16() -> None:
    plain, model = adapted("lora", precision="bf16"), adapted("lora", precision="bf16", compile="blocks")
    with torch.no_grad(), traces(1):
        check([model(IMAGES)], [plain(IMAGES)], 0.05)


def test_adapters_that_come_or_go_later_are_seen() -> None:
    model, finetune = adapted("lora", 1, compile="blocks"), Lora()
    with torch.no_grad():
        first = model(IMAGES)
        finetune.merge(model)
        check([model(IMAGES)], [first], 1e-5)
        again = one_block(SamToy(compile="blocks").build(3, None), 1)
        assert list(model.state_dict()) == list(again.state_dict())
        plain, hooked = adapted("msa", 1), adapted("msa", 1, compile="blocks")
        again.requires_grad_(False)(IMAGES)  # the same but for the hooks
        check([hooked(IMAGES)], [plain(IMAGES)], 1e-5)


def test_a_few_batch_sizes_are_compiled_once_each_and_none_beyond_runs_uncompiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _compiled.forget()
    model, plain = adapted("lora", compile="blocks"), adapted("lora")
    with torch.no_grad():
        with traces(2):
            for count in (1, 2, 1):
                images = IMAGES[:count]
                check([model(images)], [plain(images)], 1e-5)
        monkeypatch.setattr(_compiled, "FORMS", 2)
        with pytest.raises(NotReadyError, match=r"foundation\.compile.*none"):
            model(IMAGES.repeat(2, 1, 1, 1))


def test_tiny_vit() -> None:
    def make(compiled: bool) -> TinyVit:
        torch.manual_seed(0)
        sizes: Any = {"dims": (8, 16), "depths": (1, 1), "heads": (2, 2), "windows": (4, 4), "strides": (2,)}
        return TinyVit(**sizes, out=8, compiled=compiled).eval()

    images = IMAGES.expand(-1, 3, -1, -1)[..., :32, :32]
    with traces(2):
        check(results(make(True), images), results(make(False), images), 1e-5)


def test_a_killed_training_has_the_bits_of_one_that_runs_through(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole_toy = _build.toy
    monkeypatch.setattr(_build, "toy", lambda **fields: one_block(whole_toy(**fields), 1))
    runs, parts = Runs(tmp_path), sam(foundation=SamToy(canvas=96, compile="blocks"))
    whole = content(runs(finetune, parts, "whole"))
    with pytest.raises(Killed):
        runs(finetune, parts, "killed", kill_at=1)
    _compiled.forget()
    killed = content(runs(finetune, parts, "killed"))
    assert killed["adapter.safetensors"] == whole["adapter.safetensors"]


class _Attend(nn.Module):
    """Attention to all of 4 x 4 tokens, with tables of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(4, 8))

    def forward(self, tokens: Tensor) -> Tensor:
        return _attention.attend(tokens, tokens, tokens, tokens @ self.rows.T, tokens @ self.columns.T)


@pytest.mark.skipif(lack("cpu") is not None, reason="no C++ compiler, which torch.compile needs on a CPU")
def test_attention_as_machine_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing of earlier runs
    monkeypatch.setattr(_compiled, "BACKEND", "inductor")
    torch.manual_seed(0)
    plain, tokens = _Attend(), torch.randn(2, 16, 8)

    class Through(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = plain

        def forward(self, tokens: Tensor) -> Any:
            return _compiled.through(self.attend, tokens)

    with config.patch({"compile_threads": 1, "cpp.vec_isa_ok": True}):  # no programs that try the compiler
        found = results(Through(), tokens)
        check(found, results(plain, tokens), 1e-5)
        _compiled.forget()
        assert all(map(torch.equal, found, results(Through(), tokens))), "the same bits again"


@pytest.mark.skipif(os.name == "nt", reason="the compiler is a script for sh")
def test_a_compiler_that_fails_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor import config

    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_compiled, "BACKEND", "inductor")
    with (
        config.patch({"compile_threads": 1, "cpp.vec_isa_ok": True, "cpp.cxx": (None, str(broken))}),
        pytest.raises(NotReadyError) as caught,
        torch.no_grad(),
    ):
        _compiled.through(_Attend(), torch.randn(2, 16, 8))
    (problem,) = caught.value.problems
    assert problem.where == "foundation.compile"
    assert str(broken) in problem.what
    assert "set foundation.compile: none" in problem.hint


def test_operators_have_the_numbers_of_their_kernels() -> None:
    q, k, v, a, b = (torch.randn(2, 16, side, requires_grad=True) for side in (8, 8, 8, 4, 4))
    for given in ((q, k, v, a, b), (q, k, v, None, None)):
        leaves = [part for part in given if part is not None]
        ours, theirs = _operators.in_pieces(*given), _pieces.InPieces.apply(*given)
        assert torch.equal(ours, theirs)
        grads = [torch.autograd.grad(out.square().sum(), leaves) for out in (ours, theirs)]
        assert all(map(torch.equal, *grads))
    torch.library.opcheck(_operators.in_pieces, (q, k, v, a, b))


class _Attention(nn.Module):
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
        _compiled.through(_Attention(), *given)
    assert any("by_rows" in name for name in seen)


def test_keys_change_only_where_blocks_are_compiled() -> None:
    for cls in (SamVit, SamToy, LiteMedSam):
        assert "compile" not in cls().key_settings()
        assert cls(compile="blocks").key_settings() == {**cls().key_settings(), "compile": "blocks"}
