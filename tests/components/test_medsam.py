"""MedSAM: how its code shows a slice and asks for a box, after bowang-lab/MedSAM, ``MedSAM_Inference.py``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sfrbench.catalog.cards import Catalog
from sfrbench.components.foundation._slices import MEDSAM, Canvas, by_splines
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.places.weight_files import CATALOGUE


def grey(rows: int, columns: int) -> torch.Tensor:
    """A slice of whole grey levels."""
    draw = torch.Generator().manual_seed(5)
    coarse = torch.rand(1, 1, rows // 4, columns // 4, generator=draw)
    smooth = F.interpolate(coarse, (rows, columns), mode="bicubic")[0, 0]
    return (30 + 180 * smooth).clamp(0, 255).round()


def test_the_card_is_sam_vit_b_with_its_weights_and_input() -> None:
    card = Catalog.read().card("foundation", "medsam")
    foundation = card.component({})
    assert isinstance(foundation, SamVit)
    assert (foundation.size, foundation.norm, foundation.canvas) == ("b", "minmax", 1024)
    assert foundation.manner == MEDSAM
    assert str(foundation.weights).startswith("medsam@")
    file = CATALOGUE["medsam"]
    with torch.device("meta"):
        own = foundation.untrained(4).state_dict()
    assert file.holds == (len(own), sum(value.numel() for value in own.values()))
    trained = sum(value.numel() for value in parameters(foundation))
    assert (trained, file.holds[1] - trained) == (93_735_472, 256)  # and a table of frequencies
    assert "pretrain_overlap: unknown" in card.summary


def parameters(foundation: SamVit) -> list[torch.Tensor]:
    with torch.device("meta"):
        return list(foundation.untrained(4).parameters())


@pytest.mark.parametrize("size", [(112, 96), (48, 120), (300, 200)])
def test_slices_are_resized_as_scikit_image_does(size: tuple[int, int]) -> None:
    transform = pytest.importorskip("skimage.transform")
    picture = grey(*size)
    wanted = transform.resize(
        picture.numpy().astype(np.uint8), (128, 128), order=3, preserve_range=True, anti_aliasing=True
    )
    got = by_splines(picture.double(), (128, 128))
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-6)
    small = wanted.astype(np.uint8)
    scaled = (small - small.min()) / np.clip(small.max() - small.min(), a_min=1e-8, a_max=None)
    shown = Canvas(128, size, MEDSAM).picture(picture)
    assert shown.shape == (3, 128, 128)
    off = np.abs(shown[0].numpy() - scaled)
    assert (off > 1e-6).mean() < 1e-3  # a value that is whole but for its last digit
    assert off.max() < 1.01 / (small.max() - small.min())


def test_boxes_and_masks_are_of_the_stretched_square() -> None:
    canvas = Canvas(1024, (96, 112), MEDSAM)
    left, top, right, bottom = canvas.frame((10, 20), (50, 80))  # (row, column)
    height, width = 96, 112
    wanted = np.array([20, 10, 80, 50]) / np.array([width, height, width, height]) * 1024
    np.testing.assert_allclose([left, top, right, bottom], wanted)
    small = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(2)) * 4
    probability = F.interpolate(small.sigmoid(), size=(height, width), mode="bilinear", align_corners=False)
    logits = canvas.logits(small)
    assert torch.equal(logits > 0, probability[0, 0] > 0.5)
    torch.testing.assert_close(logits.sigmoid(), probability[0, 0], atol=1e-5, rtol=0)
