"""The LaTeX tables compile as they are, whatever the labels hold."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from sfrbench.report.render.latex import latex
from sfrbench.report.render.tables import Entry, Table, to_latex
from tests.support.places import GOLDEN

HOSTILE = (
    r"_ & % $ # { } ~ ^ \ <script>",
    r"\input{/etc/passwd} \\ \end{tabular} $x^2$ %",
    "[2cm] first in its row",
    "*starred* first in its row",
    "a--b ---c | \"quoted\" `tick` 'tick'",
    "Müller, Łódź, Ångström, naïve, Çelik, Şahin, Dvořák, ő, ñ, ß, æ, œ, ø, ą",
    "τ = 0.95, λ, Δ, µ, ≥ 3 ± 1, 10⁻³, x², → ↑ ↓, “quotes”, 5 % – 6 %…",
    "日本語, Привет, العربية, 🙂, \u200b\x07",
)


def document(tables: Sequence[str]) -> str:
    """All that a table may ask for: booktabs and threeparttable; the encoding of fonts is LaTeX's own."""
    body = "\n\\clearpage\n".join(tables)
    head = "\\documentclass{article}\n\\usepackage[a4paper,landscape,margin=1cm]{geometry}\n"
    return f"{head}\\usepackage{{booktabs,threeparttable}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"


def hostile_table() -> Table:
    rows = tuple(
        (Entry(text, marks="†"), Entry(text, 1, gain="(−1.00 worse)"), Entry(text, 2, marks="(19)"))
        for text in HOSTILE
    )
    notes = (("†", " ".join(HOSTILE)), ("(19)", HOSTILE[0]), *(("", text) for text in HOSTILE))
    return Table("hostile_name 1", *HOSTILE[:2], HOSTILE[:3], rows, notes, (), HOSTILE, rules=HOSTILE)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed here")
def test_every_table_compiles(tmp_path: Path) -> None:
    golden = sorted((GOLDEN / "report").glob("*.tex"))
    assert golden
    tables = [path.read_text(encoding="utf-8") for path in golden]
    (tmp_path / "all.tex").write_text(document([*tables, to_latex(hostile_table())]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    assert "Missing character" not in (tmp_path / "all.log").read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_written_is_ascii_and_holds_no_command_of_the_text(text: str) -> None:
    made = latex(text)
    assert made.isascii()
    assert made.isprintable()
    assert "\\input" not in made
    assert "\\end" not in made
    assert not made.startswith(("[", "*"))


def test_single_texts() -> None:
    assert latex("") == ""
    assert latex("a--b c-d -5") == "a-{}-b c-d -5"
    assert latex("Dvořák é") == r"Dvo\v{r}\'{a}k \'{e}"
    assert latex("e\u0301") == r"\'{e}"
    assert latex("中") == "{[}U+4E2D{]}"
    assert latex("ﬁve\n x²") == "five x\\textsuperscript{2}"
    assert latex("10⁻³ x₁") == (r"10\textsuperscript{$-$}\textsuperscript{3} x\textsubscript{1}")
    assert latex("τ ↑") == r"$\tau$ $\uparrow$"
