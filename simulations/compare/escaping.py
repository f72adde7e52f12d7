"""Text made fit for LaTeX. HTML is escaped by jinja2, Markdown by :mod:`fed_unlearn.simulations.markdown`."""

from __future__ import annotations

import re

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
_NUMBER = re.compile(r"(?<![\w.])-(?=\d)")


def latex(text: str) -> str:
    r"""Text as LaTeX prints it: every special character escaped, and no ligature.

    A closing or opening bracket is put into braces, since one after ``\\`` would be an option.

    Examples
    --------
    >>> print(latex("50 % of a_b & c"))
    50 \% of a\_b \& c
    """
    return "".join(_LATEX.get(character, character) for character in printable(text, _MOST))


def latex_number(text: str) -> str:
    """A cell of numbers as LaTeX prints it: a minus where a hyphen stands before a digit."""
    parts = _NUMBER.split(text)
    return r"\ensuremath{-}".join(latex(part) for part in parts)
