"""Every shipped experiment runs to its report in profile smoke, on generated volumes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.roots import shipped


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(shipped("experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_runs_to_its_report(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", path.stem, "--profile", "smoke", "--set", "seeds=0", "--workspace", "runs"]
    done = CliRunner().invoke(main, [*arguments, "--tracking-uri", "none"])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    assert " 0 failed, 0 blocked" in done.output
    assert "no effect" not in done.output
    report = tmp_path / "runs" / "reports" / path.stem / "smoke"
    assert (report / "index.html").is_file()
    assert (report / "provenance.json").is_file()
