"""SAM-Med3D's network: its size, both of its oddities against formulas in float64, and strict weights."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfrbench.components.foundation import _sam_med3d_net as nets
from sfrbench.components.foundation._sam_med3d_decoder import MaskDecoder, PromptEncoder
from sfrbench.components.foundation._sam_med3d_encoder import Attention, LayerNorm3d
from sfrbench.errors import NotReadyError


def size(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_released_network_by_its_numbers() -> None:
    """Counted on its checkpoint: parameters, tensors, and what goes from part to part."""
    network = nets.vit_b().to("meta")
    with torch.device("meta"):
        embedding = network.image_encoder(torch.empty(1, 1, 128, 128, 128))
        previous = network.nothing_said()
        points = network.prompt_encoder.points(torch.empty(3, 3), torch.empty(3, dtype=torch.long))
        mask = network.prompt_encoder.mask(previous)
        logits = network.mask_decoder(embedding, network.prompt_encoder.dense(), points, mask)
    parts = (network.image_encoder, network.prompt_encoder, network.mask_decoder)
    assert [size(part) for part in parts] == [92_924_928, 8_668, 7_575_636]
    assert size(network) == 100_509_232
    state = network.state_dict()
    assert len(state) == 324
    assert sum(value.numel() for value in state.values()) == 100_509_616
    assert state["mask_decoder.output_upscaling.0.weight"].shape == (384, 96, 2, 2, 2)
    assert state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].shape == (3, 128)
    for block in range(12):
        rows = 15 if block in (2, 5, 8, 11) else 27
        for axis in "dhw":
            assert state[f"image_encoder.blocks.{block}.attn.rel_pos_{axis}"].shape == (rows, 64)
    assert embedding.shape == (1, 384, 8, 8, 8)
    assert mask.shape == embedding.shape
    assert points.shape == (1, 4, 384)  # three clicks, and a point that is none
    assert logits.shape == previous.shape == (1, 1, 32, 32, 32)


def attended(attention: Attention, tokens: Tensor, *, keys: str = "window", axes: str = "released") -> Tensor:
    """Attention of tokens (g, g, g, dim) query by query, with zero tokens up to the window."""
    g, side, heads = tokens.shape[0], attention.side, attention.num_heads
    window = torch.zeros(side, side, side, tokens.shape[-1], dtype=tokens.dtype)
    window[:g, :g, :g] = tokens
    q, k, v = attention.qkv(window).reshape(side, side, side, 3, heads, -1).unbind(3)
    tables = attention.rel_pos_d, attention.rel_pos_h, attention.rel_pos_w
    everywhere = list(product(range(side if keys == "window" else g), repeat=3))
    out = torch.zeros_like(tokens)
    for d, h, w in product(range(g), repeat=3):
        mixed = []
        for head in range(heads):
            own = q[..., head, :]
            logits = []
            for D, H, W in everywhere:
                logit = own[d, h, w] @ k[D, H, W, head] / own.shape[-1] ** 0.5
                if axes == "released":
                    pairs = ((own[d, h, w], d - W), (own[d, h, D], h - W), (own[d, h, H], H - W))
                else:
                    pairs = ((own[d, h, w], d - D), (own[d, h, w], h - H), (own[d, h, w], w - W))
                for table, (query, apart) in zip(tables, pairs, strict=True):
                    logit = logit + query @ table[apart + side - 1]
                logits.append(logit)
            shares = torch.stack(logits).softmax(0)
            mixed.append(sum(share * v[at][head] for share, at in zip(shares, everywhere, strict=True)))
        out[d, h, w] = attention.proj(torch.cat(mixed))
    return out


@pytest.mark.parametrize("side", [2, 3], ids=["all tokens", "in a window"])
def test_attention_adds_its_positions_where_the_weights_know_them(side: int) -> None:
    torch.manual_seed(0)
    attention = Attention(8, heads=2, side=side).double()
    for table in (attention.rel_pos_d, attention.rel_pos_h, attention.rel_pos_w):
        nn.init.normal_(table)  # zero in a new network, where all forms are one
    tokens = torch.randn(2, 2, 2, 2, 8, dtype=torch.float64)
    with torch.no_grad():
        own = attention(tokens)
        for one, given in zip(own, tokens, strict=True):
            torch.testing.assert_close(one, attended(attention, given), atol=1e-12, rtol=0)
            assert (one - attended(attention, given, axes="meant")).abs().max() > 0.01
            if side > 2:
                assert (one - attended(attention, given, keys="tokens")).abs().max() > 0.01


def test_places_of_clicks_and_of_tokens_have_their_first_axes_swapped() -> None:
    """The token at (i, j, k) is encoded as a click at voxel (16 j + 7.5, 16 i + 7.5, 16 k + 7.5)."""
    torch.manual_seed(0)
    prompts = PromptEncoder(dim=384, side=128, grid=8)
    for kind in prompts.point_embeddings:
        nn.init.zeros_(kind.weight)
    dense = prompts.dense()[0]
    places = torch.tensor(list(product(range(8), repeat=3)))
    tokens = dense[:, places[:, 0], places[:, 1], places[:, 2]].T
    labels = torch.ones(len(places), dtype=torch.long)
    swapped = prompts.points(places[:, [1, 0, 2]] * 16 + 7.5, labels)[0, :-1]
    torch.testing.assert_close(tokens, swapped, atol=1e-4, rtol=0)
    plain = prompts.points(places * 16 + 7.5, labels)[0, :-1]
    assert (tokens - plain).abs().max() > 1


def test_clicks_are_sines_cosines_and_sines_again() -> None:
    torch.manual_seed(0)
    prompts = PromptEncoder(dim=24, side=32, grid=4)
    clicks = torch.tensor([[0, 5, 31], [30, 2, 7]])
    tokens = prompts.points(clicks, torch.tensor([1, 0]))[0].detach().numpy()
    matrix = prompts.pe_layer.positional_encoding_gaussian_matrix.double().numpy()
    angles = 2 * np.pi * (2 * (clicks.double().numpy() + 0.5) / 32 - 1) @ matrix
    kinds = [kind.weight[0].detach().numpy() for kind in prompts.point_embeddings]
    encoded = np.concatenate([np.sin(angles), np.cos(angles), np.sin(angles)], -1)
    np.testing.assert_allclose(tokens[0], encoded[0] + kinds[1], atol=1e-5)
    np.testing.assert_allclose(tokens[1], encoded[1] + kinds[0], atol=1e-5)
    np.testing.assert_array_equal(tokens[2], prompts.not_a_point_embed.weight[0].detach().numpy())


def test_the_mask_is_that_of_the_first_token() -> None:
    """Around a transformer that returns what it is given, in float64."""
    torch.manual_seed(0)
    decoder = MaskDecoder(dim=16, heads=2, mlp_dim=8, hidden=8).double()
    seen: list[Tensor] = []

    class Passes(nn.Module):
        def forward(self, image: Tensor, positions: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
            seen.extend((image, positions, points))
            return points, image.flatten(2).transpose(1, 2)

    decoder.transformer = Passes()
    embedding, positions, mask = torch.randn(3, 1, 16, 3, 3, 3, dtype=torch.float64).unbind(0)
    points = torch.randn(1, 2, 16, dtype=torch.float64)
    with torch.no_grad():
        logits = decoder(embedding, positions, points, mask)
        token = decoder.mask_tokens.weight[0]
        for layer in (*decoder.output_hypernetworks_mlps[0].layers[:2],):
            token = (layer.weight @ token + layer.bias).clamp(min=0)
        last = decoder.output_hypernetworks_mlps[0].layers[2]
        token = last.weight @ token + last.bias
        maps = decoder.output_upscaling(embedding + mask)[0]
    wanted = (token[:, None, None, None] * maps).sum(0)
    torch.testing.assert_close(logits[0, 0], wanted, atol=1e-12, rtol=0)
    image, given, tokens = seen
    assert torch.equal(image.flatten(2), (embedding + mask).flatten(2))
    assert torch.equal(given.flatten(2), positions.flatten(2))
    first = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    assert torch.equal(tokens, torch.cat([first[None], points], 1))


def test_norm_is_over_channels() -> None:
    torch.manual_seed(0)
    norm = LayerNorm3d(5).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    maps = torch.randn(2, 5, 3, 4, 2, dtype=torch.float64)
    mean, spread = maps.mean(1, keepdim=True), maps.var(1, unbiased=False, keepdim=True)
    shape = (1, 5, 1, 1, 1)
    wanted = (maps - mean) / (spread + 1e-6).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)
    torch.testing.assert_close(norm(maps), wanted, atol=1e-12, rtol=0)


def test_weights_are_loaded_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another file every tensor at fault is named, and none is passed over in silence."""
    monkeypatch.setattr(nets, "vit_b", nets.toy)
    state = nets.pretrained_toy("fp32", seed=8).state_dict()
    path = tmp_path / "sam_med3d.pth"

    def saved(what: object) -> Path:
        torch.save(what, path)
        return path

    loaded = nets.pretrained(saved({"model_state_dict": state, "epoch": 3}), "fp32")
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert not loaded.training
    less = {name: value for name, value in state.items() if "rel_pos_d" not in name}
    less["image_encoder.pos_embed"] = torch.zeros(1, 8, 8, 8, 24)
    with pytest.raises(NotReadyError) as caught:
        nets.pretrained(saved({"model_state_dict": {**less, "other.weight": torch.zeros(1)}}), "fp32")
    for part in (
        "missing 2 of image_encoder.blocks.*.attn.rel_pos_d",
        "unexpected other.weight",
        "image_encoder.pos_embed is (1, 8, 8, 8, 24), not (1, 4, 4, 4, 24)",
    ):
        assert part in str(caught.value)
    with pytest.raises(NotReadyError, match="under 'model_state_dict'"):
        nets.pretrained(saved(state), "fp32")


def test_the_toy_is_the_same_everywhere() -> None:
    before = torch.random.get_rng_state()
    one = nets.pretrained_toy("fp32")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    again = nets.pretrained_toy("fp32")
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
        if "rel_pos" in name:
            assert value.abs().max() > 0.1
