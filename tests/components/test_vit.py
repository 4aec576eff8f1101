"""The image encoder computes what segment-anything's own does, however its attention is cut into pieces."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfrbench.components.foundation import _pieces, _samlib, _vit
from sfrbench.components.foundation._attention import attend, by_fused_kernel, joined
from sfrbench.components.foundation._pieces import InPieces
from sfrbench.components.foundation._vit import ImageEncoder

SIZES: dict[str, Any] = {
    "canvas": 160,
    "width": 32,
    "depth": 3,
    "heads": 2,
    "patch": 8,
    "window": 7,
    "out": 16,
}


def theirs() -> nn.Module:
    """Segment-anything's encoder, one global block between two of windows that do not fill the grid of 20."""
    torch.manual_seed(0)
    encoder: nn.Module = _samlib.ImageEncoderViT(
        img_size=160, patch_size=8, embed_dim=32, depth=3, num_heads=2, mlp_ratio=4, out_chans=16,
        norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=7, global_attn_indexes=(1,),
    )  # fmt: skip
    for name, value in encoder.named_parameters():
        if "pos" in name:  # zero in a new model
            nn.init.normal_(value, std=0.2)
    return encoder.double()


def ours(other: nn.Module) -> ImageEncoder:
    encoder = ImageEncoder(whole=(1,), **SIZES)
    encoder.load_state_dict(other.state_dict())  # strict: the same names
    return encoder.double()


def results(encoder: nn.Module, images: Tensor) -> list[Tensor]:
    """The embedding, and every gradient of a sum that weighs each of its values differently."""
    out = encoder(images)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    grads = torch.autograd.grad((out * weights).sum(), list(encoder.parameters()))
    return [out, *grads]


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(scope="module")
def wanted(images: Tensor) -> list[Tensor]:
    return results(theirs(), images)


@pytest.mark.parametrize("way", ["whole", "pieces", "rows", "joined", "fused", "checkpointing"])
def test_output_and_every_gradient_equal_segment_anything(
    way: str, images: Tensor, wanted: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def by(kernel: Any) -> Any:
        def attend(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Any:
            return kernel(*joined(q * q.shape[-1] ** -0.5, k, rows, columns), v)

        return attend

    if way in ("pieces", "rows"):
        monkeypatch.setattr(_pieces, "PIECE", {"pieces": 5000, "rows": 999}[way])
    if way == "joined":
        monkeypatch.setattr(_vit, "attend", by(lambda q, k, v: InPieces.apply(q, k, v, None, None)))
    if way == "fused":
        monkeypatch.setattr(_vit, "attend", by(by_fused_kernel))
    encoder = ours(theirs())
    encoder.checkpointing = way == "checkpointing"
    for mine, their in zip(results(encoder, images), wanted, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-9, atol=1e-9 * float(their.detach().abs().max()))


def test_bf16_stays_near(images: Tensor) -> None:
    encoder = ours(theirs()).float()
    with torch.no_grad():
        exact = encoder(images.float())
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(images.float())
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()
    assert (rough.float() - exact).square().mean().sqrt() < 0.02 * exact.square().mean().sqrt()


def test_pieces_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for piece in (1, 7, 64, 10_000):
        monkeypatch.setattr(_pieces, "PIECE", piece)
        seen = torch.zeros(5, 8)
        for n, t in _pieces.pieces(5, 8):
            assert seen[n, t].numel() <= max(piece // 8, 8)
            seen[n, t] += 1
        assert (seen == 1).all()


def test_no_whole_map_is_kept_for_the_backward_pass() -> None:
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    q, k, v = (torch.randn(2, 256, 8, requires_grad=True) for _ in range(3))
    rows, columns = (torch.randn(2, 256, 16, requires_grad=True) for _ in range(2))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend(q, k, v, rows, columns)
    assert kept
    assert max(kept) < 2 * 256 * 256
