"""L_sup of every method is its source's, and L_pl is SFR's for all: against the forms in float64."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Ssl
from sfrbench.engine.context import StageContext
from sfrbench.maths.losses import DiceForm, dice, segmentation_loss
from sfrbench.stages.retrain.data import Batch
from sfrbench.stages.retrain.models import Models
from sfrbench.stages.retrain.run import training_step
from tests.support.ssl_steps import softmax

#: Share of cross-entropy, foreground only, squares below the line, eps: read off the released codes.
ALL = (0.5, False, True, 1e-5)
UA_MT = (0.5, True, True, 1e-5)
FORMS: dict[str, tuple[float, bool, bool, float]] = {
    "acmt": ALL,
    "acmt_mu": ALL,
    "acmt_p_err": ALL,
    "acmt_s_err": ALL,
    "causal": UA_MT,
    "causal_cps": UA_MT,
    "cct": ALL,
    "cpcl": ALL,
    "cps": ALL,
    "dtc": (0.0, True, True, 1e-5),
    "ict": ALL,
    "magicnet": (0.5, False, True, 1e-10),
    "magicnet_mact": (0.5, False, True, 1e-10),
    "mean_teacher": ALL,  # SFR: 1e-10
    "self_training": ALL,  # ours
    "slc_net": ALL,
    "ss_net": (0.0, True, False, 1e-8),
    "supervised": ALL,
    "ua_mt": UA_MT,
    "urpc": ALL,
    "bcp": ALL,  # trains on no plain patch, see test_ssl_bcp
}
SIDES = (6, 5, 4)


def logits_and_labels(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two patches of numbers from a formula; not all classes are equally large."""
    count = 2 * classes * 120
    logits = 2 * torch.sin(1 + 0.7 * torch.arange(count, dtype=torch.float64))
    labels = torch.arange(240) * 7 % 11 % classes
    labels[torch.arange(240) % 5 == 0] = 0
    return logits.reshape(2, classes, *SIDES), labels.reshape(2, *SIDES)


def by_hand(logits: Any, labels: Any, form: tuple[float, bool, bool, float]) -> float:
    share, foreground, square, eps = form
    probs, power = softmax(logits), 2 if square else 1
    terms = []
    for k in range(int(foreground), probs.shape[1]):
        p, y = probs[:, k], (labels == k).astype(float)
        terms.append(1 - (2 * (p * y).sum() + eps) / ((p**power).sum() + y.sum() + eps))
    ce = -np.log(np.take_along_axis(probs, labels[:, None], 1)).mean()
    return float(share * ce + (1 - share) * np.mean(terms))


#: What the loss functions of the released codes give on ``logits_and_labels(2)``, in float64.
RELEASED = {
    "HiLab-git/DTC": (0.521134838278871, (0.0, True, True, 1e-5)),
    "yulequan/UA-MT, JuzhengMiao/CauSSL": (0.9241187355116914, UA_MT),
    "ycwu1997/SS-Net": (0.5748950622977382, (0.0, True, False, 1e-8)),
    "HiLab-git/SSL4MIS": (0.8914312289151696, ALL),
    "ShumengLI/SFR, MagicNet": (0.8914312398807371, (0.5, False, True, 1e-10)),
}


@pytest.mark.parametrize("source", RELEASED)
def test_the_forms_give_the_numbers_of_the_released_codes(source: str) -> None:
    expected, (share, *form) = RELEASED[source]
    logits, labels = logits_and_labels(2)
    found = segmentation_loss(logits, labels, share, form=DiceForm(*form))
    assert found.item() == pytest.approx(expected, rel=1e-13)
    assert by_hand(logits.numpy(), labels.numpy(), (share, *form)) == pytest.approx(expected, rel=1e-13)  # type: ignore[arg-type]


class Fixed(nn.Module):
    """Gives these logits whatever it sees."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(images)]


def terms_of(method: Ssl, classes: int, tmp_path: Path) -> tuple[dict[str, float], Any, Any]:
    """Terms of one step of the loop with pseudo-labels, the logits and the labels."""
    logits, labels = logits_and_labels(classes)
    both, pseudo = torch.cat([logits, logits.flip(2)]), labels.flip(1)
    ctx = StageContext({}, SimpleNamespace(first_iteration=0), {}, 1, tmp_path, tmp_path)
    batch = Batch(torch.zeros(4, 1, *SIDES), labels, pseudo)
    result = training_step(ctx, method, Models(Fixed(both), None, {}, classes), batch, 0)
    return (
        {name: float(torch.as_tensor(term).detach()) for name, term in result.values.items()},
        both,
        (labels, pseudo),
    )


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", FORMS)
def test_l_sup_is_the_sources_and_l_pl_is_sfrs(
    name: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Catalog.read().card("ssl", name).component({})
    assert isinstance(method, Ssl)
    kind = type(method)
    monkeypatch.setattr(kind, "loss", lambda self, step: step.images.new_zeros(()))
    monkeypatch.setattr(kind, "outputs", lambda self, step: [step.logits])
    monkeypatch.setattr(kind, "coarser", lambda self, step: [step.coarser])
    terms, logits, (labels, pseudo) = terms_of(method, classes, tmp_path)
    if method.plain == "none":
        assert "supervised" not in terms
        assert terms["pseudo"] == pytest.approx(by_hand(logits[:2].numpy(), pseudo.numpy(), ALL), rel=1e-12)
        return
    expected = by_hand(logits[:2].numpy(), labels.numpy(), FORMS[name])
    assert terms["supervised"] == pytest.approx(expected, rel=1e-12)
    assert terms["pseudo"] == pytest.approx(by_hand(logits[2:].numpy(), pseudo.numpy(), ALL), rel=1e-12)


def test_every_method_is_in_the_list() -> None:
    names = {name for name in Catalog.read().names("ssl") if not name.endswith(("_source", "_nnunet"))}
    assert names == set(FORMS)


def test_a_background_averaged_in_halves_the_gradient_where_the_foreground_is_small() -> None:
    """Why lambda counted double beside a Dice over both classes."""
    _, labels = logits_and_labels(2)
    labels[:, 1:] = 0
    slopes = []
    for foreground in (True, False):
        logits = torch.stack([torch.full(labels.shape, 3.0), torch.full(labels.shape, -3.0)], 1).double()
        logits.requires_grad_()
        dice(logits.softmax(1), labels, DiceForm(foreground)).backward()
        assert logits.grad is not None
        slopes.append(float(logits.grad.norm()))
    assert 1.7 < slopes[0] / slopes[1] < 2


def test_keys_of_methods_that_did_not_change_stay_valid() -> None:
    """New fields stand in a key only where they change something."""
    added = {"sup_dice", "sup_dice_square", "sup_dice_eps", "pl_ce"}
    later = {"sup_dice_per", "sup_dice_weight", "foreground", "augment"}
    found = {name: _key(name) for name in FORMS}
    assert {name for name, key in found.items() if added & key.keys()} == {
        *("dtc", "ss_net", "ua_mt", "causal", "causal_cps", "magicnet", "magicnet_mact")
    }
    assert not any(later & key.keys() for key in found.values())
    assert not any({"step_from", "nesterov", "hold"} & key["optim"].keys() for key in found.values())
    assert _key("bcp_source")["optim"]["step_from"] == 2000
    # one field once meant both shares: the same key where they still agree, another where they do not
    assert "pl_ce" not in _key("mean_teacher", sup_ce=0.2, pl_ce=0.2)
    assert _key("mean_teacher", sup_ce=0.2)["pl_ce"] == 0.5


def _key(name: str, **fields: Any) -> dict[str, Any]:
    return Catalog.read().card("ssl", name).component(fields).key_settings()
