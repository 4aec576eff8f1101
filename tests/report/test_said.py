"""What a simulated user said, read from an artefact that anybody may have made."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfrbench.components.base_prompts import Click, Said
from sfrbench.engine.predictions import label_map
from sfrbench.errors import DataError
from sfrbench.report.facts.said import said_until, seconds_until
from sfrbench.store.artefact import Artefact, files_in

SAID = {"organ": {"said": [{"clicks": [[1, 2, 3, 1]]}, {"absent": [4]}], "seconds": [0.5, 0.25], "dice": []}}


def artefact(folder: Path, files: dict[str, bytes]) -> Artefact:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return Artefact("interact", "interact" * 4, folder, {"files": files_in(folder)})


def test_what_was_said_and_how_long_it_took(tmp_path: Path) -> None:
    made = artefact(tmp_path, {"said/a.json": json.dumps(SAID).encode()})
    assert said_until(made, "a", 1) == [Said(clicks=(Click((1, 2, 3), True),))]
    assert said_until(made, "a", 2)[1] == Said(absent=(4,))
    assert seconds_until(made, "a", 2) == 0.75


@pytest.mark.parametrize(
    "talk",
    [
        [], {"organ": []}, {"organ": {"seconds": []}}, {"organ": {"said": [[1]], "seconds": [1]}},
        {"organ": {"said": [{"clicks": [[1, 2]]}], "seconds": [1]}},
        {"organ": {"said": [{"clicks": [[-5, 2, 3, 1]]}], "seconds": [1]}},
        {"organ": {"said": [{"span": "ab"}], "seconds": [1]}},
        {"organ": {"said": [], "seconds": ["soon"]}}, {"organ": {"said": [], "seconds": [float("nan")]}},
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_a_fault(tmp_path: Path, talk: Any) -> None:
    made = artefact(tmp_path, {"said/a.json": json.dumps(talk).encode()})
    with pytest.raises(DataError, match=r"said/a\.json of interact interactinte does not hold"):
        said_until(made, "a", 2)


def test_a_map_that_is_no_label_map_is_a_fault(tmp_path: Path) -> None:
    for number, wrong in enumerate((np.full((2, 2, 2), np.nan), np.zeros(4, np.uint8), np.array([["a"]]))):
        stream = io.BytesIO()
        np.savez_compressed(stream, **{"1": wrong})
        made = artefact(tmp_path / str(number), {"rounds/a.npz": stream.getvalue()})
        with pytest.raises(DataError, match="no label map"):
            label_map(made, "a", 2, 1)
