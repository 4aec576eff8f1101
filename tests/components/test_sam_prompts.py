"""SAM's own prompts, slice by slice: segment-anything's numbers, LiteMedSAM's 3D box, clicks in a volume."""

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

from sfrbench.components.base_prompts import Box, Click, Said
from sfrbench.components.foundation import _build, _samlib
from sfrbench.components.foundation._slices import LITE_MEDSAM, Canvas, Manner, by_area, grey_levels
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.prompted import Shown
from sfrbench.components.foundation.slices import UNSEEN, SliceModel
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import InputError, NotReadyError
from sfrbench.places import weights
from tests.support.pretend import pretended

TAKES = SamToy.takes


def shown(image: NDArray[np.float32], folder: Path) -> Shown:
    """The volume with a folder of its own, its whole range taken for its percentiles."""
    scratch = folder / str(len(list(folder.iterdir())))
    scratch.mkdir()
    return Shown(image, (float(image.min()), float(image.max())), (1.0, 1.0, 1.0), scratch)


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def on(x: int, y: int, z: int, inside: bool = True) -> Said:
    return Said(clicks=(Click((x, y, z), inside),))


# --- a slice: segment-anything's numbers -------------------------------------------------------------------


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
    values = torch.tensor([-9.0, -2.0, 0.0, 2.0, 9.0])
    assert grey_levels(values, -2.0, 2.0).tolist() == [0, 0, 128, 255, 255]
    picture = Canvas(8, (2, 4), LITE_MEDSAM).picture(torch.tensor([[10.0, 20, 20, 20], [20, 20, 20, 60]]))
    assert picture.shape == (3, 8, 8)
    assert float(picture[:, :4].min()) == 0
    assert float(picture[:, :4].max()) == 1
    assert not picture[:, 4:].any()
    assert torch.isfinite(Canvas(8, (2, 4), LITE_MEDSAM).picture(torch.full((2, 4), 7.0))).all()


# --- a volume: what follows from a prompted slice ----------------------------------------------------------


class Bright:
    """In the place of SAM: what is bright within the box, or near a click. It counts what it is asked."""

    canvas = 256

    def __init__(self) -> None:
        self.encoded = 0
        self.asked: list[Any] = []

    def encode(self, picture: Tensor) -> Tensor:
        self.encoded += 1
        return picture[:, :1]

    def ask(self, embedding: Tensor, points: Any, frame: Any, mask: Any) -> tuple[Tensor, Tensor]:
        self.asked.append((tuple(points), frame, mask is not None))
        rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
        inside = torch.zeros(256, 256, dtype=torch.bool)
        if frame is not None:
            left, top, right, bottom = frame
            inside |= (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
        for column, row, positive in sorted(points, key=lambda point: -point[2]):
            near = (columns - column) ** 2 + (rows - row) ** 2 <= 40**2
            inside = inside | near if positive else inside & ~near
        logits = torch.where(inside & (embedding[0, 0] > 0.5), 1.0, -1.0).expand(1, 4, -1, -1)
        return logits, torch.zeros(1, 4)


def bright(image: NDArray[np.float32], folder: Path, **fields: Any) -> tuple[Any, Bright]:
    """A volume of 256 x 256 before it: the canvas is the slice."""
    sam = Bright()
    given = {"ends": "released", "propagate": "boxes"} | fields
    model = SliceModel(sam, Manner("slice", "area", True, False), TAKES, **given)  # type: ignore[arg-type]
    return model.open(shown(image, folder)), sam


def tube(depth: int, first: int, last: int, column: int = 100) -> NDArray[np.float32]:
    """A bright block of 30 x 20 pixels that moves by two pixels a slice; one dark pixel row in all slices."""
    image = np.zeros((256, 256, depth), np.float32)
    for z in range(first, last + 1):
        image[60 + 2 * z : 90 + 2 * z, column + 2 * z : column + 20 + 2 * z, z] = 1
    image[0, 0] = 1  # every slice has the same range
    return image


def released(image: NDArray[np.float32], box: Box) -> NDArray[np.bool_]:
    """LiteMedSAM's propagation in the plainest form, on slices of 256 x 256."""
    seen = np.zeros(image.shape, bool)
    (top, left, z_min), (bottom, right, z_max) = box.low, box.high
    z_mid = int((z_max - z_min) / 2 + z_min)
    steps = [(z, z - 1) for z in range(z_mid, z_max)] + [(z, z + 1) for z in range(z_mid - 1, z_min, -1)]
    for z, before in steps:
        frame = (left, top, right, bottom)
        if z != z_mid and seen[..., before].any():
            rows, columns = np.where(seen[..., before])
            frame = (
                max(columns.min() - 3, 0), max(rows.min() - 3, 0),
                min(columns.max() + 3, 256), min(rows.max() + 3, 256),
            )  # fmt: skip
        for row, column in product(
            range(frame[1], min(frame[3], 255) + 1), range(frame[0], min(frame[2], 255) + 1)
        ):
            seen[row, column, z] = image[row, column, z] > 0.5
    return seen


@pytest.mark.parametrize("hole", [None, 17])
def test_a_3d_box_goes_through_the_volume_as_in_lite_medsams_code(tmp_path: Path, hole: int | None) -> None:
    image, box = tube(24, 8, 23), Box((84, 124, 10), (126, 150, 21))
    if hole is not None:
        image[1:, 1:, hole] = 0  # an empty mask: the next slice gets the first box again
    volume, sam = bright(image, tmp_path)
    found = volume.an_object(None).segment((Said(boxes=(box,)),)) > 0
    assert np.array_equal(found, released(image, box))
    assert found[..., 15].any()
    assert not found[..., [*range(11), *range(21, 24)]].any()  # both end slices stay empty
    assert sam.asked[0] == ((), (124, 84, 150, 126), False)  # slice 15: (21 - 10) / 2 + 10
    assert sam.encoded == 10

    volume, _ = bright(image, tmp_path, ends="all")
    found = volume.an_object(None).segment((Said(boxes=(box,)),)) > 0
    assert found[..., [10, 21]].any((0, 1)).all()
    assert not found[..., [*range(10), 22, 23]].any()


@pytest.mark.parametrize(("low", "high", "wanted"), [(4, 4, [4]), (4, 5, [4]), (4, 6, [5]), (4, 7, [5, 6])])
def test_short_boxes(tmp_path: Path, low: int, high: int, wanted: list[int]) -> None:
    volume, _ = bright(tube(12, 0, 11), tmp_path)
    found = volume.an_object(None).segment((Said(boxes=(Box((60, 100, low), (110, 140, high)),)),)) > 0
    assert np.flatnonzero(found.any((0, 1))).tolist() == wanted


def slices(found: NDArray[np.bool_]) -> list[int]:
    return np.flatnonzero(found.any((0, 1))).tolist()


def test_a_click_spreads_until_a_slice_is_empty(tmp_path: Path) -> None:
    image = tube(24, 5, 20)
    volume, sam = bright(image, tmp_path)
    subject = volume.an_object(None)
    found = subject.segment((on(85, 125, 8),)) > 0
    assert np.array_equal(found[1:, 1:], image[1:, 1:] > 0.5)
    assert sam.encoded == len(range(4, 22))  # no slice beyond the empty ones, and each once
    subject.segment((on(85, 125, 8), on(80, 122, 8)))
    volume.an_object(None).segment((on(95, 135, 12),))
    assert sam.encoded == len(range(4, 22))
    alone, _ = bright(image, tmp_path, propagate="none")
    assert slices(alone.an_object(None).segment((on(85, 125, 8),)) > 0) == [8]
    spanned = Said(clicks=on(85, 125, 8).clicks, span=(7, 10))
    assert slices(volume.an_object(None).segment((spanned,)) > 0) == [7, 8, 9, 10]


def test_clicked_slices_share_what_lies_between_them(tmp_path: Path) -> None:
    image = np.maximum(tube(24, 0, 23), tube(24, 0, 23, column=20))
    left, right = np.zeros((2, 256, 256, 24), bool)
    left[:, :80, :], right[:, 90:, :] = True, True
    volume, sam = bright(image, tmp_path)
    subject, rounds = volume.an_object(None), (on(70, 112, 3), on(90, 52, 11))
    first = subject.segment(rounds[:1]) > 0
    assert slices(first) == list(range(24))
    before = len(sam.asked)
    second = subject.segment(rounds) > 0
    # slice 7 is as near to 3 as to 11, and goes to the lower one
    for z in range(24):
        columns = np.flatnonzero(second[1:, 1:, z].any(0)) + 1
        wanted = range(100 + 2 * z, 120 + 2 * z) if z <= 7 else range(20 + 2 * z, 40 + 2 * z)
        assert columns.tolist() == list(wanted), z
    assert len(sam.asked) - before == 1 + len(range(8, 11)) + len(range(12, 24))  # nothing twice
    assert sam.asked[before] == (((52.0, 90.0, True),), None, True)  # with what the slice was before


def test_a_click_beside_the_object(tmp_path: Path) -> None:
    image = tube(24, 5, 20)
    volume, sam = bright(image, tmp_path)
    nothing = volume.an_object(None).segment((on(10, 10, 12, False),))
    assert (nothing == UNSEEN).all()
    assert not sam.asked  # nobody said where the object is
    subject, rounds = volume.an_object(None), (on(85, 125, 8), on(105, 145, 18, False))
    subject.segment(rounds[:1])
    found = subject.segment(rounds) > 0
    assert not found[..., 18:].any()  # carved away, and nothing follows from an empty slice
    assert slices(found) == list(range(5, 14))  # half way: 13


def test_what_is_not_taken_is_refused(tmp_path: Path) -> None:
    volume, _ = bright(tube(4, 0, 3), tmp_path)
    with pytest.raises(InputError, match="absent; it takes box, click, slice_box"):
        volume.an_object(None).segment((Said(absent=(2,)),))


# --- weights, keys, device ---------------------------------------------------------------------------------


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
        assert not {"ends", "propagate"} & set(cls().key_settings())
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
