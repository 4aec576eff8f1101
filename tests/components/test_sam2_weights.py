"""SAM 2's networks and weights: counts, Meta's names, both layouts of files, and what is refused."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.costs import hiera
from sfrbench.components.foundation import _sam2_nets, _sam2_weights
from sfrbench.components.foundation._sam2_nets import IMAGE_FOURIER, POINT_FOURIER, Release
from sfrbench.components.foundation.sam2 import MedicalSam2, Sam2, Sam2Like, Sam2Toy
from sfrbench.components.foundation.segmenter import misfits
from sfrbench.errors import NotReadyError
from sfrbench.places import weights
from tests.support.sam2_names import meta_state, names_of

#: Parameters and tensors of transformers' video model by size, release 2.1 and 2.0.
COUNTS = {
    ("tiny", "sam2.1"): (38_962_498, 469),
    ("small", "sam2.1"): (46_060_354, 517),
    ("base_plus", "sam2.1"): (80_850_178, 613),
    ("large", "sam2.1"): (224_446_642, 901),
    ("tiny", "sam2"): (38_945_986, 466),
    ("small", "sam2"): (46_043_842, 514),
    ("base_plus", "sam2"): (80_833_666, 610),
    ("large", "sam2"): (224_430_130, 898),
}
CARDS = [card for card in Catalog.read().cards("foundation") if issubclass(card.component_class, Sam2Like)]


def on_meta(size: str, release: Release) -> nn.Module:
    with torch.device("meta"):
        return _sam2_nets.skeleton(hiera.SIZES[size], release, 1024)


@pytest.mark.parametrize(("size", "release"), COUNTS)
def test_counts(size: str, release: Release) -> None:
    network = on_meta(size, release)
    found = (sum(value.numel() for value in network.parameters()), len(network.state_dict()))
    assert found == COUNTS[size, release]


def test_cards_name_their_parameters_and_files() -> None:
    told = {card.name: card.figures.get("parameters") for card in CARDS}
    wanted = {f"{release.replace('.', '_')}_{size}": count for (size, release), (count, _) in COUNTS.items()}
    assert told == {**wanted, "medical_sam2": 38_945_986, "sam2_toy": None}
    named = {name: weights.entry(name).file for name in wanted}
    assert named["sam2_1_base_plus"] == "sam2.1_hiera_base_plus.pt"
    for card in CARDS:
        foundation = card.component({})
        assert isinstance(foundation, Sam2Like)
        assert foundation.weights == (None if card.name == "sam2_toy" else card.name)


@pytest.mark.parametrize(("release", "theirs", "ours"), [("sam2.1", 471, 469), ("sam2", 468, 466)])
def test_every_name_of_metas_has_its_place(release: Release, theirs: int, ours: int) -> None:
    wanted = on_meta("tiny", release).state_dict()
    names = names_of(release)
    assert len(names) == theirs
    assert len(wanted) == ours
    state = {}
    for name in names:
        shape = (1, 256) if ".point_embeddings." in name else wanted[_sam2_weights.renamed(name)].shape
        state[name] = torch.zeros(shape, device="meta")
    found = _sam2_weights.from_meta(state)
    assert set(wanted) - set(found) == {IMAGE_FOURIER}  # which ``load`` copies
    assert misfits({**found, IMAGE_FOURIER: found[POINT_FOURIER]}, wanted) == []


@pytest.fixture(scope="module")
def toys() -> dict[str, nn.Module]:
    return {release: _sam2_nets.toy(release, 64) for release in ("sam2", "sam2.1")}


@pytest.mark.parametrize("release", ["sam2", "sam2.1"])
def test_metas_file_is_loaded(tmp_path: Path, toys: dict[str, nn.Module], release: Release) -> None:
    toy, path = toys[release], tmp_path / "meta.pt"
    torch.save({"model": meta_state(toy, release)}, path)
    loaded = _sam2_weights.load(_sam2_nets.skeleton(hiera.TOY, release, 64), path).state_dict()
    for name, value in toy.state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_bfloat16_becomes_float32(tmp_path: Path, toys: dict[str, nn.Module]) -> None:
    toy, path = toys["sam2"], tmp_path / "MedSAM2_pretrain.pth"
    torch.save({"model": {name: value.bfloat16() for name, value in meta_state(toy, "sam2").items()}}, path)
    loaded = _sam2_weights.load(_sam2_nets.skeleton(hiera.TOY, "sam2", 64), path).state_dict()
    for name, value in toy.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], value.bfloat16().float()), name


@pytest.mark.parametrize("left_out", ["", IMAGE_FOURIER, POINT_FOURIER])
def test_a_folder_of_transformers_is_loaded(
    tmp_path: Path, toys: dict[str, nn.Module], left_out: str
) -> None:
    state = {name: value for name, value in toys["sam2.1"].state_dict().items() if name != left_out}
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    loaded = _sam2_weights.load(_sam2_nets.skeleton(hiera.TOY, "sam2.1", 64), path).state_dict()
    for name, value in toys["sam2.1"].state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_other_files_are_refused(tmp_path: Path, toys: dict[str, nn.Module]) -> None:
    path = tmp_path / "other.pt"
    state = meta_state(toys["sam2.1"], "sam2.1")

    def refused(kept: object, release: Release, told: str) -> None:
        torch.save(kept, path)
        with pytest.raises(NotReadyError, match=told):
            _sam2_weights.load(_sam2_nets.skeleton(hiera.TOY, release, 64), path)

    refused({"model": state}, "sam2", "unexpected occlusion_spatial_embedding_parameter")
    refused({"model": meta_state(toys["sam2"], "sam2")}, "sam2.1", "missing occlusion_spatial")
    refused({"model": {**state, "more": torch.zeros(1)}}, "sam2.1", "unexpected more")
    refused(state, "sam2.1", "no plain dictionary of tensors under 'model'")
    broken = tmp_path / "model.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(NotReadyError, match="no safetensors file"):
        _sam2_weights.load(toys["sam2.1"], broken)


def test_both_layouts_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError) as caught:
        weights.find("sam2_1_base_plus", [tmp_path])
    told = str(caught.value)
    for part in ("sam2.1_hiera_base_plus.pt", "sam2.1-hiera-base-plus/model.safetensors", "092824"):
        assert part in told
    folder = tmp_path / "sam2.1-hiera-base-plus"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    assert weights.check("sam2_1_base_plus", [tmp_path]) == folder / "model.safetensors"
    (tmp_path / "sam2.1_hiera_base_plus.pt").write_bytes(b"weights")  # is looked for first, and has a hash
    with pytest.raises(NotReadyError, match="7 bytes instead of 323606802"):
        weights.check("sam2_1_base_plus", [tmp_path])


@pytest.mark.parametrize("made", [Sam2(), MedicalSam2()])
def test_nothing_starts_from_random_numbers(made: Sam2Like) -> None:
    with pytest.raises(NotReadyError, match=f"'{made.weights}' has no weight file here"):
        made.prompted(None)


@pytest.mark.parametrize("version", ["4.57.1", ""])
def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    def found(name: str) -> str:
        if not version:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", found)
    with pytest.raises(NotReadyError) as caught:
        Sam2Toy().prompted(None)
    assert f"transformers 5.24 or later; here: {version or 'not installed'}" in str(caught.value)
    assert "pip install 'sfrbench[sam2]'" in str(caught.value)
