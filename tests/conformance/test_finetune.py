"""What each shipped fine-tuning card trains and how it starts; what all of them hold is in the package."""

from __future__ import annotations

import re

import pytest
import torch

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.base import Finetune
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.toy import SamToy
from sfrbench.conformance.finetune import CANVAS, attached, one_step, picture
from sfrbench.errors import NotReadyError
from sfrbench.places import weights

CARDS = Catalog.read().cards("finetune")
LORA = r"prompt_encoder\.|mask_decoder\.|image_encoder\..*\.lora_[AB]\."
MSA = r"mask_decoder\.|image_encoder\..*\.(space|mlp)_adapter\."
HEAD = r"mask_decoder\.(mask_tokens|output_hypernetworks_mlps)\."
SAMUS = (
    rf"{HEAD}|image_encoder\.(cnn_embed|post_pos_embed)\.|image_encoder\..*_adapter\."
    r"|image_encoder\.blocks\.1\.attn\.rel_pos_[hw]$"  # block 0 of the toy attends in windows
)
SAM3D = (
    r"mask_decoder\.|image_encoder\.(slice_embed|depth_embed|necks)"
    r"|image_encoder\.blocks\.\d+\.(adapter|norm1|norm2|rel_pos_d)"
)
#: Card: what the names of its trained parameters begin with or look like.
TRAINS = {
    "lora": LORA, "lora_r1": LORA, "lora_r8": LORA, "lora_r16": LORA, "samed": LORA,
    "frozen": HEAD,
    "decoder_only": r"mask_decoder\.",
    "encoder_decoder": r"image_encoder\.|mask_decoder\.",
    "full": r"",
    "msa": MSA, "msa_relu": MSA,
    "samus": SAMUS,
    "sam3d_adapter": SAM3D,
}  # fmt: skip
#: Cards whose first forward is not the pretrained model's.
OTHER_START = {"msa", "msa_relu", "samus", "sam3d_adapter"}
#: Cards with another token grid or decoder, and the side of their logits of a canvas of 64 pixels.
LOGITS = {"samus": 64, "sam3d_adapter": 16}
#: Parameters that a model without prompts has and does not use.
UNUSED = r"prompt_encoder\.(?!no_mask_embed)|mask_decoder\.iou_prediction_head\."

every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def component(card: Card, **fields: object) -> Finetune:
    made = card.component(fields)
    assert isinstance(made, Finetune)
    return made


def test_every_card_has_its_line() -> None:
    assert {card.name for card in CARDS} == set(TRAINS), "say in TRAINS what a new card trains"


@every_card
@pytest.mark.parametrize("classes", [2, 5])
def test_exactly_the_promised_parameters_train(card: Card, classes: int) -> None:
    model = attached(component(card), classes)
    for name, value in model.named_parameters():
        assert value.requires_grad == bool(re.match(TRAINS[card.name], name)), name
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = one_step(model, component(card), classes)
    assert torch.isfinite(loss)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    reached = {name for name, value in model.named_parameters() if value.grad is not None}
    assert reached == {name for name in trained if not re.match(UNUSED, name)}
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    # weight decay cannot move a bias that is 0 and gets no gradient, such as those of LoRA's A
    assert moved <= reached
    assert moved
    side = LOGITS.get(card.name, 32)
    assert model(picture(classes)[0]).shape == (2, classes, side, side)
    assert model.volumetric == component(card).volumetric


@every_card
def test_the_first_forward_is_the_pretrained_one(card: Card) -> None:
    images, _ = picture()
    torch.manual_seed(0)
    model = SamToy(canvas=CANVAS).build(3, None)
    with torch.no_grad():
        original = model(images)
        component(card).attach(model)
        first = model(images)
        same = first.shape == original.shape and torch.allclose(first, original, atol=1e-6, rtol=1e-5)
    assert same == (card.name not in OTHER_START)


def test_frozen_parts_of_lite_medsam_stay() -> None:
    try:
        path = weights.check("lite_medsam")
    except NotReadyError as error:
        pytest.skip(f"no LiteMedSAM weights: {error}")
    card = next(card for card in CARDS if card.name == "msa")
    model = LiteMedSam(canvas=64, precision="fp32").build(3, path)
    component(card).attach(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one_step(model, component(card), 3)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("image_encoder") for name in moved)
    assert {name for name in moved if not re.match(MSA, name)} == set()
