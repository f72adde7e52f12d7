from __future__ import annotations

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.simulations.compare.escaping import _LATEX, latex, latex_number

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=40)
SPECIAL = st.text(st.sampled_from("\\{}$&#%_^~<>|\"-[]*`'a1, é日\u0301"), max_size=30)


def read_latex(text: str) -> str:
    """What LaTeX prints of text without macros of its own; a special character that is not escaped is an error."""
    shown = {r"\ensuremath{-}": "-", **{written: character for character, written in _LATEX.items()}}
    found = ""
    while text:
        if other := re.match(r"\\otherscript\{([^\\{}$&#%_^~]+)\}\{([^{}]+)\}", text):
            codes = [int(code.removeprefix("U+"), 16) for code in other[2].split("~")]
            assert other[1] == "".join(map(chr, codes)) and min(codes) > 0xA0
            found, text = found + other[1], text[other.end() :]
            continue
        if text.startswith(",{},"):  # two commas in a row would be a quotation mark
            found, text = found + ",", text[3:]
            continue
        assert not text.startswith(",,")
        token = next((written for written in sorted(shown, key=len, reverse=True) if text.startswith(written)), None)
        assert token is not None or text[0] not in "\\{}$&#%_^~", text
        found += shown[token] if token is not None else text[0]
        text = text[len(token or " ") :]
    return found


@given(PRINTABLE | SPECIAL)
def test_latex_prints_the_text(text: str) -> None:
    assert read_latex(latex(text)) == unicodedata.normalize("NFC", text)


def test_pdflatex_gets_letters_that_it_has_alone() -> None:
    """Others are an error of pdfLaTeX: it is told to print their numbers."""
    assert latex("naïve „müller“ €") == "naïve „müller“ €"
    assert latex("日本, é") == r"\otherscript{日本}{U+65E5~U+672C}, é"
    assert latex("a,,,b") == "a,{},{},b"


@given(SPECIAL)
def test_a_cell_of_numbers_prints_the_text_too(text: str) -> None:
    assert read_latex(latex_number(text)) == unicodedata.normalize("NFC", text)


def test_a_minus_before_a_digit_is_one() -> None:
    assert latex_number("[-0.5, +1]") == r"{[}\ensuremath{-}0.5, +1{]}"
    assert latex_number("-") == "{-}"
    assert latex("boundary-shrink") == r"boundary{-}shrink"


def test_control_characters_are_shown_as_escapes() -> None:
    assert latex("a\nb\x1b") == r"a\textbackslash{}nb\textbackslash{}x1b"
