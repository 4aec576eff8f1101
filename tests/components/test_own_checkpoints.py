"""A SAM of one's own: its hash is part of the key, its tensors are in the model, and what does not fit is
refused by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.segmenter import HEAD, SamSegmenter, load_exactly
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import NotReadyError
from sfrbench.machine import own_weights
from sfrbench.machine.needs import lacks_of
from sfrbench.places import weights
from sfrbench.plan.build import Plan
from tests.support import checkpoints
from tests.support.runs import here
from tests.support.specs import GOOD, keys, plan_of

_HEAD = tuple(f"mask_decoder.{name}." for name in HEAD)
MINE = GOOD.replace("foundation: sam_toy", "foundation: {name: sam_toy, checkpoint: mine}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights; there is no other one."""
    monkeypatch.setenv("SFRBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "weights"


@pytest.fixture
def mine(folder: Path, tmp_path: Path) -> str:
    """The hash of a file that was added as ``mine``."""
    source = checkpoints.saved(tmp_path, checkpoints.tuned())
    own_weights.add("mine", source)
    return hashlib.sha256(source.read_bytes()).hexdigest()


def test_the_hash_and_not_the_name_is_part_of_the_key(mine: str, tmp_path: Path) -> None:
    assert "checkpoint" not in SamToy().key_settings()
    own = SamToy(checkpoint="mine")
    assert own.key_settings() == {**SamToy().key_settings(), "checkpoint": mine}
    own_weights.add("again", weights.check("mine"))
    assert SamToy(checkpoint="again").key_settings() == own.key_settings()
    own_weights.add("other", checkpoints.saved(tmp_path, checkpoints.tuned(8), "other.pth"))
    assert SamToy(checkpoint="other").key_settings() != own.key_settings()
    assert SamToy(checkpoint="nowhere").key_settings()["checkpoint"] == "absent"


def test_published_files_have_their_published_hash(folder: Path) -> None:
    """On a machine without the file, too; and the file that is taken anyway is no other node."""
    large = SamVit(checkpoint="sam_vit_l").key_settings()
    assert large == {**SamVit().key_settings(), "checkpoint": weights.CATALOGUE["sam_vit_l"].sha256}
    assert SamVit(checkpoint="sam_vit_b").key_settings() == SamVit().key_settings()
    assert LiteMedSam(checkpoint="lite_medsam").key_settings() == LiteMedSam().key_settings()


def test_the_model_has_the_tensors_of_the_file(mine: str) -> None:
    foundation, state = SamToy(checkpoint="mine"), checkpoints.tuned()
    path = weights.check(str(foundation.weights))
    torch.manual_seed(0)
    built = foundation.build(4, path).state_dict()
    for name, value in state.items():
        assert torch.equal(built[name], value) != name.startswith(_HEAD), name
    talking = foundation.prompted(path).sam.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(talking[name], value) for name, value in state.items())


def test_wrapped_tensors_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    own_weights.add("mine", checkpoints.saved(tmp_path, checkpoints.wrapped(checkpoints.tuned())))
    foundation = SamToy(checkpoint="mine")
    built = foundation.build(2, weights.check(str(foundation.weights))).state_dict()
    assert torch.equal(built[checkpoints.PLAIN], checkpoints.tuned()[checkpoints.PLAIN])


def test_position_tables_of_another_canvas_are_stretched(folder: Path, tmp_path: Path) -> None:
    state = SamToy(canvas=96).untrained(4).state_dict()
    own_weights.add("wide", checkpoints.saved(tmp_path, state))
    foundation = SamToy(checkpoint="wide", canvas=64)
    model = foundation.build(2, weights.check(str(foundation.weights)))
    assert model.state_dict()["image_encoder.pos_embed"].shape == (1, 8, 8, 32)


def test_sam_hq_is_sam_under_a_new_head_and_is_not_prompted(folder: Path, tmp_path: Path) -> None:
    said = own_weights.add("hq", checkpoints.saved(tmp_path, checkpoints.hq()))
    assert any("SAM-HQ: its encoder is SAM's; 2 tensors" in line for line in said)
    foundation = SamToy(checkpoint="hq")
    path = weights.check(str(foundation.weights))
    built = foundation.build(2, path).state_dict()
    assert torch.equal(built[checkpoints.PLAIN], checkpoints.tuned()[checkpoints.PLAIN])
    with pytest.raises(NotReadyError, match=r"unexpected mask_decoder\.hf_token\.weight.*looks like SAM-HQ"):
        foundation.prompted(path)


def test_a_file_that_changed_after_the_plan_is_refused(mine: str, tmp_path: Path) -> None:
    planned = SamToy(checkpoint="mine")
    own_weights.remove("mine")
    own_weights.add("mine", checkpoints.saved(tmp_path, checkpoints.tuned(8)))
    with pytest.raises(NotReadyError, match=f"and the plan is for {mine}"):
        weights.check(str(planned.weights))
    weights.check(str(SamToy(checkpoint="mine").weights))


def test_what_is_not_here_or_of_another_network_is_said_before_a_run(mine: str) -> None:
    assert lacks_of(SamToy(checkpoint="mine")) == []
    (lack,) = lacks_of(SamToy(checkpoint="mien"))
    assert lack.what == "no weight file 'mien' is known here"
    assert lack.hint.startswith("sfrbench weights add mien FILE; did you mean 'mine'")
    (lack,) = lacks_of(SamVit(checkpoint="mine"))
    assert lack.what == "weights 'mine' are of the toy SAM, and this is SAM ViT-B"
    (lack,) = lacks_of(SamVit(checkpoint="medsam"))
    assert lack.hint.startswith("bring medsam_vit_b.pth from")


def plan(tmp_path: Path, text: str) -> Plan:
    return plan_of(tmp_path, text)


def test_a_plan_knows_the_file_by_its_hash(mine: str, tmp_path: Path) -> None:
    own, usual = plan(tmp_path, MINE), plan(tmp_path, GOOD)
    assert set(keys(own, "finetune").values()).isdisjoint(keys(usual, "finetune").values())
    for role in ("prepare",):
        assert keys(own, role) == keys(usual, role)
    own_weights.remove("mine")
    gone = plan(tmp_path, MINE)  # still a plan; 'validate' says what is not here
    assert set(keys(own, "finetune").values()).isdisjoint(keys(gone, "finetune").values())


def test_a_stand_in_has_its_own_weights(folder: Path, tmp_path: Path) -> None:
    """The checkpoint is that of the chosen card; the toy of a profile does not get it."""
    text = GOOD.replace("foundation: sam_toy", "foundation: {name: sam_vit_b, checkpoint: mine}")
    for swapped in (text, GOOD.replace("sam_toy", "medsam")):
        assert keys(plan(tmp_path, swapped), "finetune") == keys(plan(tmp_path, GOOD), "finetune")


def test_numbers_that_are_none_are_noticed_in_every_file(tmp_path: Path) -> None:
    """A catalogue's file is known by its hash; this is of one that was damaged before it was published."""
    model = nn.BatchNorm1d(2)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    load_exactly(model, state, "here")  # integers where integers belong are no fault
    state["weight"][1] = float("inf")
    state["bias"] = torch.ones(2, dtype=torch.int64)
    with pytest.raises(NotReadyError) as caught:
        load_exactly(model, state, "here")
    assert "weight holds numbers that are not finite; bias holds int64 and not float32" in str(caught.value)


def test_an_experiment_runs_on_it_and_says_so(mine: str, tmp_path: Path) -> None:
    text = MINE + "report: [{table: results}]\n"
    text = text.replace("seeds: [0, 1]", "seeds: [0]").replace("  - {name: mt, ssl.lambda_cons: 0.2}\n", "")
    (tmp_path / "own.yaml").write_text(text)
    done = here("run", "own.yaml", "--profile", "smoke", "--tracking-uri", "none", cwd=tmp_path)
    assert "report:" in done.stdout
    page = (tmp_path / "runs" / "reports" / "own" / "smoke" / "index.html").read_text("utf-8")
    assert (
        "The weights of SAM (toy) from &#x27;mine&#x27; were trained on data that are not known here;" in page
    )
    again = here("run", "own.yaml", "--profile", "smoke", "--tracking-uri", "none", cwd=tmp_path)
    assert "nodes: 0 ran" in again.stdout
    own_weights.remove("mine")
    refused = here("run", "own.yaml", "--profile", "smoke", cwd=tmp_path, check=2)
    assert "no weight file 'mine' is known here" in refused.stderr
    assert "sfrbench weights add mine FILE" in refused.stderr


def seen(model: SamSegmenter, canvases: torch.Tensor) -> torch.Tensor:
    """What the encoder is given."""
    got: list[torch.Tensor] = []
    with (
        model.image_encoder.register_forward_pre_hook(lambda _, given: got.append(given[0])),
        torch.no_grad(),
    ):
        model(canvases)
    return got[0]


def test_minmax_scales_each_canvas_by_its_own_range_without_padding() -> None:
    foundation = SamToy(norm="minmax")
    model = foundation.build(2, None)
    volume = torch.randn(64, 64, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 0.2])
    low, high = -1.5, 1.7  # percentiles of the volume, as prepare keeps them
    canvases = foundation.normalise(volume, (low, high)).permute(2, 0, 1)[:, None].clone()
    canvases[..., 40:] = 0  # as stitching pads
    given = seen(model, canvases)
    assert given.shape == (2, 3, 64, 64)
    for number in range(2):
        inside = volume[..., number].double()[:, :40].clamp(low, high)
        wanted = torch.zeros(64, 64, dtype=torch.float64)
        wanted[:, :40] = (inside - inside.min()) / (inside.max() - inside.min())
        torch.testing.assert_close(given[number, 0].double(), wanted, atol=2e-6, rtol=0)
    assert not seen(model, torch.zeros(1, 1, 64, 64)).any()  # a canvas of padding alone
    assert not seen(model, torch.full((1, 1, 64, 64), 0.5)).any()  # as in MedSAM's code: 0 / 1e-8
    assert not SamToy(norm="unit").build(2, None).per_canvas
    assert not foundation.prompted(None).sam.per_canvas  # type: ignore[attr-defined]
