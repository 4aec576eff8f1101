"""Weight files of users' own: what is taken, what is refused and why, and what stays on the disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sfrbench.components.foundation import _fit
from sfrbench.errors import InputError, NotReadyError, problem_of
from sfrbench.machine import own_weights
from sfrbench.places import added, weights
from tests.support import checkpoints
from tests.support.runs import here


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights; there is no other one."""
    monkeypatch.setenv("SFRBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "weights"


def left(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_taken_listed_checked_and_removed(folder: Path, tmp_path: Path) -> None:
    source = checkpoints.saved(tmp_path, checkpoints.tuned())
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    said = here("weights", "add", "mine", str(source), cwd=tmp_path).stdout
    assert f"fits the toy SAM: 174 tensors, 86,412 values, sha256 {sha256}" in said
    assert "foundation: {name: sam_toy, checkpoint: mine}" in said
    kept = ["entry.json", "weights.pth", "weights.pth.verified.json"]
    assert left(folder) == [f"added/mine/{name}" for name in kept]
    assert weights.hash_of("mine") == sha256
    (row,) = (line for line in weights.listing() if line.startswith("mine "))
    assert "yours, the toy SAM" in row
    assert row.endswith("(verified)")
    checked = here("weights", "check", "mine", cwd=tmp_path).stdout
    assert checked == f"mine: sound, {folder}/added/mine/weights.pth\n"
    here("weights", "remove", "mine", cwd=tmp_path)
    assert left(folder) == []
    assert weights.hash_of("mine") == ""
    assert source.is_file()


def test_the_same_again_is_no_fault_and_another_file_is(folder: Path, tmp_path: Path) -> None:
    source = checkpoints.saved(tmp_path, checkpoints.tuned())
    own_weights.add("mine", source)
    assert "is there already" in own_weights.add("mine", source)[0]
    other = checkpoints.saved(tmp_path, checkpoints.tuned(8), "other.pth")
    before = left(folder)
    with pytest.raises(InputError, match=r"'mine' is another file: .*\n.*sfrbench weights remove mine"):
        own_weights.add("mine", other)
    assert left(folder) == before


def test_a_link_takes_no_space_and_is_followed(folder: Path, tmp_path: Path) -> None:
    source = checkpoints.saved(tmp_path / "far", checkpoints.tuned())
    own_weights.add("mine", source, link=True)
    assert weights.check("mine").is_symlink()
    assert weights.hash_of("mine") == hashlib.sha256(source.read_bytes()).hexdigest()
    source.rename(tmp_path / "elsewhere.pth")
    with pytest.raises(NotReadyError, match=r"a link to .*mine\.pth, which is gone"):
        weights.find("mine")
    own_weights.remove("mine")
    assert (tmp_path / "elsewhere.pth").is_file()


def test_a_file_that_changes_after_it_was_added_is_noticed(folder: Path, tmp_path: Path) -> None:
    source = checkpoints.saved(tmp_path / "far", checkpoints.tuned())
    own_weights.add("mine", source, link=True)
    weights.check("mine")
    content = bytearray(source.read_bytes())
    content[50_000] ^= 1
    source.write_bytes(content)
    with pytest.raises(NotReadyError, match=r"sha256 is [0-9a-f]{64}, not"):
        weights.check("mine")


@pytest.mark.parametrize(
    "make", [checkpoints.wrapped, lambda state: {"state_dict": state}, lambda state: state]
)
def test_wrapped_tensors_are_found(
    folder: Path, tmp_path: Path, make: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    own_weights.add("mine", checkpoints.saved(tmp_path, make(checkpoints.tuned())))
    ((_, entry),) = added.entries([folder]).values()
    assert (entry.facts.fits, entry.facts.tensors, entry.facts.own_head) == ("sam_toy", 174, True)


def test_safetensors_and_files_of_old_torch_are_read(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.pt"
    torch.save(checkpoints.tuned(), old, _use_new_zipfile_serialization=False)
    for name, path in (("safe", checkpoints.safetensors(tmp_path)), ("old", old)):
        own_weights.add(name, path)
        assert weights.check(name).suffix == {"safe": ".safetensors", "old": ".pth"}[name]


def _pointer(folder: Path) -> Path:
    """What a clone without Git LFS has in the place of a checkpoint."""
    path = folder / "mine.pth"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", encoding="utf-8")
    return path


def of(content: object) -> Callable[[Path], Path]:
    return lambda folder: checkpoints.saved(folder, content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (checkpoints.half, "is no whole weight file: PytorchStreamReader failed"),
        (checkpoints.of_text, "is no"),
        (checkpoints.with_objects, r"is not loaded \(argparse\.Namespace\)"),
        (of([1, 2]), "holds no dictionary of tensors, .*, but list"),
        (of({"epoch": 3}), r"but 'epoch' \(int\)"),
        (of({}), "but nothing"),
        (of({"weight": torch.ones(2)}), "fits none of SAM ViT-B, .*, the toy SAM"),
        (
            lambda folder: of(checkpoints.changed(checkpoints.PLAIN, checkpoints.with_nan))(folder),
            f"{checkpoints.PLAIN} holds numbers that are not finite",
        ),
        (
            lambda folder: of(checkpoints.changed(checkpoints.PLAIN, torch.Tensor.long))(folder),
            f"{checkpoints.PLAIN} holds int64 and not float32",
        ),
        (
            lambda folder: of(checkpoints.med2d())(folder),
            r"unexpected 2 of .*\.blocks\.\*\.Adapter\.channel\.\*\.weight; it looks like SAM-Med2D",
        ),
        (
            lambda folder: of(
                {n: v for n, v in checkpoints.tuned().items() if n.startswith("image_encoder.")}
            )(folder),
            "missing all of prompt_encoder; missing all of mask_decoder",
        ),
        (
            lambda folder: of({n: torch.zeros_like(v) for n, v in checkpoints.tuned().items()})(folder),
            "holds nothing that was trained: all weights of image_encoder are one number",
        ),
        (
            lambda folder: of(
                {
                    name.removeprefix("image_encoder."): value
                    for name, value in checkpoints.tuned().items()
                    if name.startswith("image_encoder.")
                }
            )(folder),
            "fits none of .* it looks like the encoder of a vision transformer alone",
        ),
        (_pointer, r"is text, and no weights: it begins with 'version https://git-lfs\.'"),
        (
            lambda folder: of({n: torch.zeros([]).to("meta") for n in checkpoints.tuned()})(folder),
            "holds no numbers one by one",
        ),
        (
            lambda folder: of(checkpoints.changed(checkpoints.PLAIN, torch.Tensor.to_sparse))(folder),
            f"'{checkpoints.PLAIN}' holds no numbers one by one",
        ),
        (
            lambda folder: of(checkpoints.changed(checkpoints.PLAIN, torch.Tensor.sum))(folder),
            rf"{checkpoints.PLAIN} is \(\), not",
        ),
    ],
)
def test_what_is_no_such_file_is_refused_and_leaves_nothing(
    folder: Path, tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    source = make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        own_weights.add("mine", source)
    (problem,) = caught.value.problems
    assert problem.where == str(source)
    assert left(folder) == []


def test_a_pickle_of_another_protocol_is_one_message(folder: Path, tmp_path: Path) -> None:
    """torch warns of its protocol, which is of no use to anybody."""
    source = tmp_path / "own.pth"
    source.write_bytes(pickle.dumps({"weight": 1}, protocol=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="is no file of tensors alone"):
            own_weights.add("mine", source)
    assert left(folder) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sam_vit_b", r"'sam_vit_b' is the name of a published file, sam_vit_b_01ec64\.pth"),
        ("medsam", r"copy it to .*/weights/medsam_vit_b\.pth"),
        ("../mine", "cannot be the name of a weight file"),
        ("null", "'null' is no text in a specification"),
        ("123", "such as my_123"),
        ("mine@", "cannot be the name of a weight file"),
        ("m" * 65, "cannot be the name of a weight file"),
    ],
)
def test_names_that_cannot_be_had(folder: Path, tmp_path: Path, name: str, message: str) -> None:
    source = checkpoints.saved(tmp_path, checkpoints.tuned())
    with pytest.raises(InputError, match=message):
        own_weights.add(name, source)
    assert not folder.exists()


def test_files_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        own_weights.add("mine", tmp_path / "none.pth")
    with pytest.raises(InputError, match="is no file"):
        own_weights.add("mine", tmp_path)
    with pytest.raises(InputError, match="none was added"):
        own_weights.remove("mine")
    with pytest.raises(InputError, match="is a published file"):
        own_weights.remove("lite_medsam")
    own_weights.add("mine", checkpoints.saved(tmp_path, checkpoints.tuned()))
    with pytest.raises(InputError, match="did you mean 'mine'"):
        own_weights.remove("mien")


def test_a_full_disk_is_one_message_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoints.saved(tmp_path, checkpoints.tuned())

    def full(path: Path, onto: Callable[[bytes], object]) -> str:
        onto(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(added, "hash_of", full)
    with pytest.raises(OSError, match="No space left") as caught:
        own_weights.add("mine", source)
    problem = problem_of(caught.value)
    assert problem.where == str(folder)
    assert "free some space" in problem.hint
    assert left(folder) == []


def test_what_was_killed_half_way_is_no_entry(folder: Path, tmp_path: Path) -> None:
    source = checkpoints.saved(tmp_path, checkpoints.tuned())
    begun = folder / "added" / ".add-1"
    begun.mkdir(parents=True)
    (begun / "weights.pth").write_bytes(b"half")
    os.utime(begun, (0, 0))
    torn = folder / "added" / "torn"
    torn.mkdir()
    (torn / "entry.json").write_text('{"file": "weights.p')
    assert added.entries([folder]) == {}
    with pytest.raises(InputError, match=r"the name 'torn' is taken\n.*weights remove torn"):
        own_weights.add("torn", source)
    assert left(folder) == ["added/torn/entry.json"]  # what was left long ago is swept
    own_weights.remove("torn")
    own_weights.add("torn", source)
    assert list(added.entries([folder])) == ["torn"]


def test_an_entry_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    own_weights.add("mine", checkpoints.saved(tmp_path, checkpoints.tuned()))
    note = folder / "added" / "mine" / "entry.json"
    entry = json.loads(note.read_text())
    for field, value in (("file", "../../other"), ("sha256", "abc"), ("bytes", "many"), ("facts", [])):
        note.write_text(json.dumps({**entry, field: value}))
        assert added.entries([folder]) == {}
    with pytest.raises(InputError, match="no weight file 'mine'"):
        weights.check("mine")


def test_where_no_hash_is_published_that_of_the_file_counts(folder: Path) -> None:
    assert weights.hash_of("medsam") == ""
    with pytest.raises(NotReadyError, match=r"bring medsam_vit_b\.pth .*no hash published"):
        weights.check("medsam")
    folder.mkdir()
    file = folder / "medsam_vit_b.pth"
    for content in (b"one", b"another"):
        file.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        assert weights.hash_of("medsam") == sha256
        assert weights.check(f"medsam@{sha256}") == file
    first = hashlib.sha256(b"one").hexdigest()
    with pytest.raises(NotReadyError, match=f"and the plan is for {first}"):
        weights.check(f"medsam@{first}")
    assert any("that of this file is part of keys" in line for line in weights.listing())


def test_a_single_number_in_half_precision_is_no_fault_of_the_code() -> None:
    """LiteMedSAM counts its batches in tensors without an axis; some scripts halve all that they save."""
    assert not _fit.stretches("image_encoder.bn.num_batches_tracked", torch.zeros([]).half(), torch.zeros([]))
