"""export: the network that predicts, in two formats that agree, with a card that says the truth."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors import SafetensorError
from torch import nn

import sfrbench
from sfrbench.cli.cell_names import find_cell
from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.deploy import export, hub
from sfrbench.deploy.card import EXAMPLE
from sfrbench.deploy.cell import finished
from sfrbench.deploy.load import WORKSHOP
from sfrbench.deploy.norms import StepwiseNorm
from sfrbench.engine.inference import load_backbone
from sfrbench.errors import InputError, NotReadyError, StoreError
from tests.support.formats import unnoted

CELL = "sfr_mt ssl.w_pl=1 seed 1"


@pytest.fixture(scope="module")
def exported(smoke, tmp_path_factory) -> Path:
    for name in export.PACKAGES:
        pytest.importorskip(name, reason="the extra 'export' is not installed")
    out = tmp_path_factory.mktemp("export") / "sfr_mt"
    done = smoke.invoke("export", str(smoke.spec), CELL, str(out))
    assert done.exit_code == 0, done.output
    told = re.search(r"in logits: (\S+) \(random patch\), (\S+) \(real patch\)", done.output)
    assert told is not None
    assert all(0 < float(value) < export.TOLERANCE for value in told.groups())
    return out


def test_the_files_hold_the_deployed_network(smoke, exported):
    experiment = smoke.experiment
    cell = find_cell(experiment.plan, CELL)
    trained = load_backbone(
        cell.components["backbone"].component,
        experiment.store.get(*cell.nodes["retrain"]),
        "last",
        classes=2,
        device="cpu",
    )
    network = sfrbench.load_model(exported)
    images = torch.randn(1, 1, 32, 32, 16)
    with torch.no_grad():
        assert torch.equal(network(images), trained(images))
    assert json.loads((exported / "config.json").read_text())["network"]["class"] == "backbone/VNet"
    assert {path.name for path in exported.iterdir()} == {*export.FILES, "MODEL_CARD.md"}
    assert list(exported.parent.iterdir()) == [exported]
    (table,) = sfrbench.load_report(
        str(smoke.spec), profile="smoke", workspace=experiment.machine.workspace, sets=["ssl.steps=2"]
    ).tables({"parameters": True})
    numbers = table.numbers().set_index("arm")
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    assert config["parameters"] == export.count(network) == numbers.loc["sfr_mt", "predicts"]
    assert config["parameters_for_training_only"] == 0
    assert config["input"]["patch"] == [32, 32, 16]
    assert config["cell"]["axes"] == {"ssl.w_pl": 1}
    assert unnoted(config, "config.json") == [], 'docs/explanation/formats.md, "For developers"'


@pytest.mark.parametrize("place", ["components.backbone.vnet", "a.room.that.is.gone"])
def test_an_export_that_names_the_module_of_our_class_still_loads(exported, tmp_path, place):
    """As it was written before; the file of the class may have moved since."""
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    config["network"]["class"] = f"sfrbench.{place}:VNet"
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    images = torch.randn(1, 1, 32, 32, 16)
    with torch.no_grad():
        assert torch.equal(sfrbench.load_model(tmp_path)(images), sfrbench.load_model(exported)(images))


def test_no_reader_of_yaml_takes_a_text_for_something_else():
    facts = {
        "library_name": "sfrbench",
        "tags": ["no", "1e4", "a\x80b\u2028c"],
        "x": [{"name": "null", "y": 1.5}],
    }
    text = hub._yaml(facts)
    assert YAML(typ="safe", pure=True).load(text) == facts
    assert pytest.importorskip("yaml", reason="PyYAML is not installed").safe_load(text) == facts


@pytest.mark.parametrize("moved", range(5))
def test_an_export_that_is_killed_is_never_taken_for_a_model(exported, tmp_path, monkeypatch, moved):
    """Over an earlier export of other weights, after so many files have been moved."""
    new, out, names = tmp_path / "new", tmp_path / "out", (*export.FILES, "MODEL_CARD.md")
    shutil.copytree(exported, new)
    shutil.copytree(exported, out)
    replace, done = os.replace, iter(range(moved))

    def killed(*paths: Path) -> None:
        if next(done, None) is None:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", killed)
    if moved == len(names):
        export._deliver(new, out, "MODEL_CARD.md", "README.md")
        sfrbench.load_model(out)
        return
    with pytest.raises(KeyboardInterrupt):
        export._deliver(new, out, "MODEL_CARD.md", "README.md")
    with pytest.raises(InputError, match=r"not whole, it lacks config\.json") as caught:
        sfrbench.load_model(out)
    assert "sfrbench export --overwrite" in caught.value.problems[0].hint


def test_a_full_disk_is_one_message_with_its_place_and_leaves_nothing(smoke, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(export, "save_weights", full)
    done = smoke.invoke("export", str(smoke.spec), CELL, str(tmp_path / "a" / "out"))
    assert done.exit_code == 2
    assert done.stderr.splitlines()[0] == f"{tmp_path}/a/out  No space left on device"
    assert not (tmp_path / "a" / "out").exists()


def test_what_killed_exports_left_goes_with_the_next(smoke, exported, tmp_path, monkeypatch):
    left = tmp_path / "out" / f"{WORKSHOP}killed"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"a part")
    with pytest.raises(InputError, match="not whole"):
        sfrbench.load_model(left.parent)
    monkeypatch.setattr(export, "write_onnx", lambda _, __, path: shutil.copy(exported / "model.onnx", path))
    done = smoke.invoke("export", str(smoke.spec), CELL, str(left.parent), "--overwrite")
    assert done.exit_code == 0, done.output
    assert {path.name for path in left.parent.iterdir()} == {*export.FILES, "MODEL_CARD.md"}


def test_a_second_export_into_one_folder_is_refused_and_harms_nothing(smoke, tmp_path):
    out = tmp_path / "out"
    with export._workshop(out) as folder:
        (folder / "model.safetensors").write_bytes(b"a part")
        done = smoke.invoke("export", str(smoke.spec), CELL, str(out), "--overwrite")
        assert done.exit_code == 2
        assert done.stderr.splitlines()[0] == f"{out}  another export writes here right now"
        assert (folder / "model.safetensors").exists()
    assert not out.exists()


def test_the_example_of_the_card_runs_and_agrees_with_torch(exported, monkeypatch):
    monkeypatch.chdir(exported)
    card = Path("MODEL_CARD.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    assert code[1] == EXAMPLE
    assert len([line for line in EXAMPLE.splitlines() if line]) <= 10
    names: dict[str, np.ndarray] = {}
    # a constant patch leaves group norms nothing but rounding to work on
    exec(code[1].replace("np.zeros(", "np.random.default_rng(0).standard_normal("), names)
    assert names["labels"].shape == (32, 32, 16)
    with torch.no_grad():
        expected = sfrbench.load_model(".")(torch.from_numpy(names["patch"][None, None])).numpy()
    np.testing.assert_allclose(names["logits"], expected, atol=export.TOLERANCE)


def test_the_card_says_what_was_trained_on_what_and_how_good_it_is(smoke, exported):
    card = (exported / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "<b>" not in card
    frame = sfrbench.load_results(
        str(smoke.spec), profile="smoke", workspace=smoke.experiment.machine.workspace, sets=["ssl.steps=2"]
    )
    mine = frame[(frame["arm"] == "sfr_mt") & (frame["ssl.w_pl"] == 1) & (frame["subset"] == "test")]
    dice = mine[mine["metric"] == "dice"].groupby("seed")["value"].mean()
    row = next(line for line in card.splitlines() if line.startswith("| Dice (%) ↑ |"))
    assert row == f"| Dice (%) ↑ | {dice[1]:.2f} | {dice.mean():.2f} ± {dice.std():.2f} |"
    cell = finished(smoke.experiment, find_cell(smoke.experiment.plan, CELL))
    for said in (
        "2 test cases; seeds 0, 1, this one 1",
        "| Labelled cases | 1: p000000 |",
        f"| Unlabelled cases | {len(cell.split.unlabelled)} |",
        "scaled down",
        "Protocol strict",
        "not a medical device",
        "z-score over the whole prepared volume",
        str(cell.artefact("model").record["git"].get("commit") or "sfrbench was no checkout"),
    ):
        assert said in card


def test_a_folder_for_a_hub_has_a_card_that_the_hub_reads(smoke, exported, tmp_path, monkeypatch):
    repocard = pytest.importorskip("huggingface_hub.repocard", reason="huggingface_hub is not installed")
    # the ONNX file is that of the export without --hub: writing it again takes seconds
    monkeypatch.setattr(export, "write_onnx", lambda _, __, path: shutil.copy(exported / "model.onnx", path))
    out = tmp_path / "hub"
    shutil.copytree(exported, out)
    (out / "README.md").write_text("My notes.\n")
    done = smoke.invoke("export", str(smoke.spec), CELL, str(out), "--hub", "--overwrite")
    assert done.exit_code == 2
    assert "README.md  this is no card of an earlier export" in done.stderr
    assert (out / "README.md").read_text() == "My notes.\n"
    (out / "README.md").unlink()
    done = smoke.invoke("export", str(smoke.spec), CELL, str(out), "--hub", "--overwrite")
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {*export.FILES, "README.md"}
    card = repocard.ModelCard.load(out / "README.md")
    assert card.data.library_name == "sfrbench"
    assert {"vnet", "mean_teacher", "semi-supervised"} <= set(card.data.tags)
    assert card.data.license is None
    assert card.data.model_name == "SFR_MT <b> on Phantom"
    rows = [result for result in card.data.eval_results if result.metric_type == "dice"]
    frame = sfrbench.load_results(
        str(smoke.spec), profile="smoke", workspace=smoke.experiment.machine.workspace, sets=["ssl.steps=2"]
    )
    mine = frame[(frame["cell"] == find_cell(smoke.experiment.plan, CELL).id) & (frame["subset"] == "test")]
    dice = mine[mine["metric"] == "dice"]["value"].mean()
    assert [row.metric_value for row in rows] == [pytest.approx(dice, abs=1e-4)]
    assert rows[0].dataset_split == "test"
    assert rows[0].metric_args == {"protocol": "strict", "cases": 2, "seed": 1, "unit": "%"}
    plain = (exported / "MODEL_CARD.md").read_text(encoding="utf-8")
    text = (out / "README.md").read_text(encoding="utf-8")
    assert plain.split("## Use")[0] in text  # one text serves both
    assert "snapshot_download" in text
    assert "snapshot_download" not in plain
    images = torch.randn(1, 1, 32, 32, 16)
    with torch.no_grad():
        assert torch.equal(sfrbench.load_model(out)(images), sfrbench.load_model(exported)(images))


def test_what_cannot_be_exported_is_refused(smoke, exported, tmp_path, monkeypatch):
    done = smoke.invoke("export", str(smoke.spec), "ft seed 0", str(tmp_path / "ft"))
    assert done.exit_code == 2
    assert "fine-tuned SAM" in done.stderr
    done = smoke.invoke("export", str(smoke.spec), CELL, str(exported))
    assert done.exit_code == 2
    assert "--overwrite" in done.stderr
    cell = finished(smoke.experiment, find_cell(smoke.experiment.plan, CELL))
    given = {"ones": np.ones((32, 32, 16), np.float32)}
    with pytest.raises(StoreError, match="ONNX and torch differ"):
        export.compare(VNet(filters=4).build(2).eval(), exported / "model.onnx", given)

    def fails(*_: object) -> None:
        raise StoreError("no")

    monkeypatch.setattr(export, "write_onnx", fails)
    with pytest.raises(StoreError, match="no"):
        export.export(cell, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(NotReadyError, match="no_such_package"):
        export.check_packages()


@pytest.mark.parametrize(
    "norm",
    [nn.GroupNorm(2, 6), nn.InstanceNorm3d(6), nn.InstanceNorm3d(6, affine=True)],
    ids=["group", "instance", "affine"],
)
def test_norms_for_onnx_are_the_same_norms(norm):
    network = nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), norm)
    for part in norm.parameters():
        nn.init.normal_(part)
    made = export.stepwise(network)
    assert isinstance(made[1], StepwiseNorm)
    assert network[1] is norm
    images = torch.randn(2, 1, 9, 8, 7) * 3 + 5
    torch.testing.assert_close(made(images), network(images), rtol=1e-5, atol=1e-5)


def test_heads_that_only_training_uses_stay_behind():
    backbone = UNet3d(filters=2, deep_supervision=True, precision="bf16")
    whole: nn.Module = backbone.build(3).eval()
    lean = backbone.deployed()
    assert lean == UNet3d(filters=2)
    network = lean.build(3).eval()
    network.load_state_dict({name: whole.state_dict()[name] for name in network.state_dict()})
    whole.bf16 = whole.head.bf16 = False
    images = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), whole(images))
    assert export.count(whole) - export.count(network) == 3 * (4 + 8 + 16) + 9


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        sfrbench.load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"network": {"class": "nowhere:Net"}}))
    with pytest.raises(InputError, match="'nowhere:Net' is not here"):
        sfrbench.load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"network": {"class": "pathlib:Path"}}))
    with pytest.raises(InputError, match="is no backbone"):
        sfrbench.load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"network": 3}', '{"network": {"class": 3}}'])
def test_a_damaged_configuration_is_one_message(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json") as caught:
        sfrbench.load_model(tmp_path)
    assert "sfrbench export" in str(caught.value.problems[0])


def test_weights_that_are_missing_cut_short_or_of_another_network_are_one_message(exported, tmp_path):
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for left in (b"", whole[:100], whole[:-1]):
        weights.write_bytes(left)
        with pytest.raises(InputError, match=r"model\.safetensors  not the weights of this network"):
            sfrbench.load_model(tmp_path)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # they fit, and are others
    with pytest.raises(InputError, match=r"its sha256 is not that in config\.json"):
        sfrbench.load_model(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors  not the weights of this network"):
        sfrbench.load_model(tmp_path)
