"""SAM's own prompts, slice by slice: segment-anything's numbers, a strict head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components.base_prompts import Box, Said
from sfrbench.components.foundation import _build, _samlib
from sfrbench.components.foundation._slices import LITE_MEDSAM, Canvas, by_area
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.prompted import UNSEEN, Shown
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import NotReadyError
from sfrbench.places import weights
from tests.support.pretend import pretended
from tests.support.shown import on, shown


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


class Meta:
    """Segment-anything's own ``Sam`` with the toy's weights, used as ``SamPredictor`` uses it."""

    def __init__(self, image: NDArray[np.float32], z: int) -> None:
        encoder = _samlib.ImageEncoderViT(
            img_size=64, patch_size=8, embed_dim=32, depth=2, num_heads=2, out_chans=32, window_size=4,
            norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True, global_attn_indexes=(1,),
        )  # fmt: skip
        parts = _build.toy(canvas=64, classes=4, precision="fp32")
        self.sam = _samlib.Sam(encoder, parts.prompt_encoder, parts.mask_decoder).eval()
        self.sam.load_state_dict(_build.toy_whole_state())
        pixels = ((image[..., z] - image.min()) / (image.max() - image.min()) * 255).round()
        self.size = pixels.shape
        scale = 64 / max(self.size)
        self.new = tuple(int(side * scale + 0.5) for side in self.size)
        self.image = F.interpolate(
            torch.from_numpy(pixels)[None, None].expand(-1, 3, -1, -1),
            self.new,
            mode="bilinear",
            antialias=True,
        )[0]

    def __call__(
        self,
        points: Sequence[tuple[int, int, int]] = (),
        box: Any = None,
        mask: Tensor | None = None,
        many: bool = False,
    ) -> tuple[NDArray[np.float32], Tensor]:
        """Logits of the slice and small logits; points are (row, column, label)."""
        rows, columns = (new / old for new, old in zip(self.new, self.size, strict=True))
        asked: dict[str, Any] = {"image": self.image, "original_size": self.size}
        if points:
            asked["point_coords"] = torch.tensor(
                [[[column * columns, row * rows] for row, column, _ in points]]
            )
            asked["point_labels"] = torch.tensor([[label for *_, label in points]])
        if box:
            (top, left), (bottom, right) = box
            asked["boxes"] = torch.tensor([[left * columns, top * rows, right * columns, bottom * rows]])
        if mask is not None:
            asked["mask_inputs"] = mask
        with torch.no_grad():
            (out,) = self.sam([asked], multimask_output=many)
            best = int(out["iou_predictions"][0].argmax())
            small = out["low_res_logits"][:, best : best + 1]
            return self.sam.postprocess_masks(small, self.new, self.size)[0, 0].numpy(), small


@pytest.mark.parametrize("size", [(21, 34), (150, 96)])
def test_clicks_and_boxes_give_the_numbers_of_segment_anything(size: tuple[int, int], tmp_path: Path) -> None:
    image = noise(*size, 3)
    meta = Meta(image, 1)
    volume = SamToy(propagate="none").prompted(None).open(shown(image, tmp_path))
    near = partial(np.testing.assert_allclose, atol=1e-4)

    clicked = volume.an_object(None)
    rounds = (on(7, 30, 1), on(15, 4, 1, False), on(2, 9, 1))
    expected, small = meta(
        [(7, 30, 1)], many=True
    )  # a single click: three masks, the best by its own estimate
    answer = clicked.segment(rounds[:1])
    near(answer[..., 1], expected)
    assert (answer[..., [0, 2]] == UNSEEN).all()
    points = [(7, 30, 1), (15, 4, 0)]
    expected, small = meta(points, mask=small)  # all clicks, and what it said before
    near(clicked.segment(rounds[:2])[..., 1], expected)
    expected, _ = meta([*points, (2, 9, 1)], mask=small)
    near(clicked.segment(rounds)[..., 1], expected)

    both = Said(clicks=(rounds[0].clicks[0], rounds[1].clicks[0]))
    near(volume.an_object(None).segment((both,))[..., 1], meta(points)[0])
    boxed = Said(boxes=(Box((3, 5, 1), (11, 28, 1)),))
    near(volume.an_object(None).segment((boxed,))[..., 1], meta(box=((3, 5), (11, 28)))[0])
    corrected = volume.an_object(None)
    corrected.segment((boxed,))
    _, small = meta(box=((3, 5), (11, 28)))
    expected, _ = meta([(7, 30, 1)], box=((3, 5), (11, 28)), mask=small)
    near(corrected.segment((boxed, rounds[0]))[..., 1], expected)


def test_lite_medsam_with_a_box_is_segment_anythings_prompt_encoder_and_decoder(tmp_path: Path) -> None:
    try:
        path = weights.check("lite_medsam")
    except NotReadyError as error:
        pytest.skip(f"no LiteMedSAM weights: {error}")
    image = noise(19, 45, 1)
    model = LiteMedSam(precision="fp32").prompted(path)
    logits = (
        model.open(shown(image, tmp_path))
        .an_object(None)
        .segment((Said(boxes=(Box((2, 7, 0), (13, 40, 0)),)),))
    )

    pixels = ((image[..., 0] - image.min()) / (image.max() - image.min()) * 255).round()
    picture = brute_area(pixels, (108, 256))  # 19 * 256 / 45 = 108.1
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    canvas = torch.zeros(1, 3, 256, 256)
    canvas[..., :108, :] = torch.from_numpy(picture)
    prompt_encoder = _samlib.PromptEncoder(
        embed_dim=256, image_embedding_size=(64, 64), input_image_size=(256, 256), mask_in_chans=16
    )
    decoder = _samlib.MaskDecoder(
        num_multimask_outputs=3, transformer_dim=256, iou_head_depth=3, iou_head_hidden_dim=256,
        transformer=_samlib.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
    ).eval()  # fmt: skip
    state = torch.load(path, weights_only=True)
    for name, part in (("prompt_encoder.", prompt_encoder), ("mask_decoder.", decoder)):
        part.load_state_dict(
            {key.removeprefix(name): one for key, one in state.items() if key.startswith(name)}
        )
    box = torch.tensor([[39.0, 11, 227, 73]])  # 7, 2, 40, 13, times 256 / 45, whole pixels
    with torch.no_grad():
        sparse, dense = prompt_encoder(points=None, boxes=box, masks=None)
        small, _ = decoder(
            model.sam.image_encoder(canvas),
            prompt_encoder.get_dense_pe(),
            sparse,
            dense,
            multimask_output=False,
        )
        expected = F.interpolate(small[..., :108, :256], (19, 45), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(logits[..., 0], expected.numpy(), atol=1e-3)
    assert 0 < (logits > 0).sum() < logits.size


def brute_area(values: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float64]:
    """Every new pixel as the mean of what it covers, pixel by pixel."""
    shares = []
    for old, new in zip(values.shape, size, strict=True):
        share = np.zeros((new, old))
        for i, j in product(range(new), range(old)):
            share[i, j] = max(min((i + 1) * old / new, j + 1) - max(i * old / new, j), 0) * new / old
        shares.append(share)
    return np.asarray(shares[0] @ values.astype(float) @ shares[1].T)


@pytest.mark.parametrize("size", [(4, 9), (17, 3), (6, 7)])
def test_a_picture_is_resized_by_area(size: tuple[int, int]) -> None:
    values = np.random.default_rng(1).random((6, 7))
    found = by_area(torch.from_numpy(values), size).numpy()
    np.testing.assert_allclose(found, brute_area(values, size), atol=1e-12)
    third = by_area(torch.tensor([[0.0, 1.0, 2.0]]), (1, 2))
    torch.testing.assert_close(third, torch.tensor([[1 / 3, 5 / 3]]))


def test_a_slice_is_shown_in_grey_levels_of_its_volume() -> None:
    values = np.array([-9.0, -2.0, 0.0, 2.0, 9.0], np.float32)
    grey = Shown(values[:, None, None], (-2.0, 2.0), (1.0, 1.0, 1.0), Path()).grey(0)
    assert grey[:, 0].tolist() == [0, 0, 128, 255, 255]
    picture = Canvas(8, (2, 4), LITE_MEDSAM).picture(torch.tensor([[10.0, 20, 20, 20], [20, 20, 20, 60]]))
    assert picture.shape == (3, 8, 8)
    assert float(picture[:, :4].min()) == 0
    assert float(picture[:, :4].max()) == 1
    assert not picture[:, 4:].any()
    assert torch.isfinite(Canvas(8, (2, 4), LITE_MEDSAM).picture(torch.full((2, 4), 7.0))).all()


def test_lite_medsam_shrinks_by_area_and_enlarges_either_way() -> None:
    ramp, half = torch.arange(16.0).repeat(16, 1), torch.arange(4.0).repeat(4, 1)
    for enlarge, row in (
        ("bilinear", [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]),
        ("area", [0, 0, 1, 1, 2, 2, 3, 3]),
    ):
        manner = LiteMedSam(enlarge=enlarge).manner
        assert (Canvas(8, (4, 4), manner).picture(half)[0, 0] * 3).tolist() == pytest.approx(row, abs=1e-6)
        shrunk = Canvas(8, (16, 16), manner).picture(ramp)[0, 0]
        assert shrunk.tolist() == pytest.approx([i / 7 for i in range(8)], abs=1e-6)


def test_sams_own_head_is_loaded_strictly(tmp_path: Path) -> None:
    state = _build.toy_whole_state()
    build = SamToy().untrained
    model = _build.whole(build, state, "here")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for name, wanted in (
        ("mask_decoder.mask_tokens.weight", "missing"),
        ("mask_decoder.iou_prediction_head.x", ""),
    ):
        odd = {key: value for key, value in state.items() if key != name}
        odd |= {} if wanted else {name: torch.zeros(1)}
        with pytest.raises(NotReadyError, match=f"{wanted or 'unexpected'} {name}"):
            _build.whole(build, odd, "here")
    with pytest.raises(NotReadyError, match="sfrbench weights get lite_medsam"):
        LiteMedSam().prompted(None)


def test_the_fields_of_prompts_leave_old_keys_as_they_are() -> None:
    for cls in (SamToy, LiteMedSam):
        assert not {"ends", "propagate", "enlarge"} & set(cls().key_settings())
        assert cls(ends="all").key_settings()["ends"] == "all"


def test_on_a_card_that_is_pretended(tmp_path: Path) -> None:
    image = noise(20, 31, 4)
    rounds = (Said(clicks=on(5, 9, 1).clicks, boxes=(Box((2, 3, 0), (9, 12, 3)),)), on(12, 20, 2, False))

    def answer(device: str) -> NDArray[np.float32]:
        subject = SamToy().prompted(None).to(device).open(shown(image, tmp_path)).an_object(None)
        subject.segment(rounds[:1])
        logits: NDArray[np.float32] = subject.segment(rounds)
        return logits

    with pretended():
        there = answer("cuda")
    np.testing.assert_allclose(there, answer("cpu"), atol=1e-5)  # attention is in other pieces there
