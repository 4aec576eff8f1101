"""Plain text for LaTeX: any text compiles under pdfLaTeX in any encoding of fonts, and none is a command."""

from __future__ import annotations

import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "`": r"\textasciigrave{}",
    "*": "{*}",  # after the end of a row a star or a bracket would belong to it
    "[": "{[}",
    "]": "{]}",
}
_SYMBOLS = {
    "±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$", "−": "$-$", "·": r"$\cdot$", "≤": r"$\le$",
    "≥": r"$\ge$", "≠": r"$\ne$", "≈": r"$\approx$", "∞": r"$\infty$", "∈": r"$\in$", "∪": r"$\cup$",
    "∩": r"$\cap$", "√": r"$\surd$", "°": r"$^{\circ}$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "←": r"$\leftarrow$",
    "«": r"$\ll$", "»": r"$\gg$", "µ": r"$\mu$", "–": "--", "—": "---", "‑": "-", "…": r"\dots{}",
    "‘": "`", "’": "'", "“": "``", "”": "''", "•": r"\textbullet{}", "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}", "§": r"\S{}", "¶": r"\P{}", "©": r"\copyright{}", "£": r"\pounds{}",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "¿": "?`", "¡": "!`",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi",
    "ρ": "rho", "σ": "sigma", "ς": "varsigma", "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi",
    "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi",
    "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
#: Combining mark -> LaTeX's accent.
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d",
    "\u0327": "c", "\u0331": "b",
}  # fmt: skip
_TEXT = {**_SPECIAL, **_SYMBOLS, **{char: rf"$\{name}$" for char, name in _GREEK.items()}}


def latex(text: str) -> str:
    """Every special character is escaped, line breaks become spaces.

    What pdfLaTeX's own fonts do not hold (other scripts, pictures) stands as its code point: ``[U+4E2D]``.
    """
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    after = f"{composed[1:]} "  # two hyphens in a row are two, not a dash
    pairs = zip(composed, after, strict=False)
    return "".join("-{}" if one == following == "-" else _char(one) for one, following in pairs)


def _char(char: str) -> str:
    if char in _TEXT:
        return _TEXT[char]
    if " " <= char <= "~":
        return char
    parts = unicodedata.normalize("NFD", char)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    kind, plain = unicodedata.decomposition(char).partition(" ")[0], unicodedata.normalize("NFKD", char)
    if plain != char and all(" " <= one <= "~" or one in _TEXT for one in plain):
        text = "".join(map(_char, plain))
        script = {"<super>": "textsuperscript", "<sub>": "textsubscript"}.get(kind)
        return rf"\{script}{{{text}}}" if script else text
    return f"{{[}}U+{ord(char):04X}{{]}}"
