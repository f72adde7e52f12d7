"""Text made fit for LaTeX. HTML is escaped by jinja2, Markdown by :mod:`fed_unlearn.simulations.markdown`."""

from __future__ import annotations

import re
import unicodedata

from fed_unlearn.text import printable

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "-": r"{-}",
    "[": r"{[}",
    "]": r"{]}",
    "*": r"{*}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
}
_MOST = 2000
_OTHER = re.compile("[^ -~¡-ĥĨ-ķĹ-ľŁ-ňŊ-ťŨ-ž\u2013\u2014\u2018\u2019\u201c\u201d\u201e\u2022\u20ac\u2122]+")
"""Characters that pdfLaTeX prints in no font of its own: all but Latin letters and common signs."""

_COMMAS = re.compile(",(?=,)")
_NUMBER = re.compile(r"(?<![\w.])-(?=\d)")


def latex(text: str) -> str:
    r"""Text as LaTeX prints it: every special character escaped, and no ligature.

    A closing or opening bracket is put into braces, since one after ``\\`` would be an option. Other scripts than the
    Latin one stand in ``\otherscript{...}{U+...}``, which prints the first in LuaLaTeX and XeLaTeX, and the second in
    pdfLaTeX, which has no letters for them. Characters are composed (NFC).

    Examples
    --------
    >>> print(latex("50 % of a_b & c"))
    50 \% of a\_b \& c
    """
    shown = unicodedata.normalize("NFC", printable(text, _MOST))
    escaped = "".join(_LATEX.get(character, character) for character in shown)
    return _OTHER.sub(_other_script, _COMMAS.sub(",{}", escaped))


def _other_script(found: re.Match[str]) -> str:
    codes = "~".join(f"U+{ord(character):04X}" for character in found.group())
    return rf"\otherscript{{{found.group()}}}{{{codes}}}"


def latex_number(text: str) -> str:
    """A cell of numbers as LaTeX prints it: a minus where a hyphen stands before a digit."""
    parts = _NUMBER.split(text)
    return r"\ensuremath{-}".join(latex(part) for part in parts)
