from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.simulations.compare.escaping import _LATEX, latex, latex_number

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=40)
SPECIAL = st.text(st.sampled_from("\\{}$&#%_^~<>|\"-[]*`'a1 "), max_size=30)


def read_latex(text: str) -> str:
    """What LaTeX prints of text without macros of its own; a special character that is not escaped is an error."""
    shown = {r"\ensuremath{-}": "-", **{written: character for character, written in _LATEX.items()}}
    found = ""
    while text:
        token = next((written for written in sorted(shown, key=len, reverse=True) if text.startswith(written)), None)
        assert token is not None or text[0] not in "\\{}$&#%_^~", text
        found += shown[token] if token is not None else text[0]
        text = text[len(token or " ") :]
    return found


@given(PRINTABLE | SPECIAL)
def test_latex_prints_the_text(text: str) -> None:
    assert read_latex(latex(text)) == text


@given(SPECIAL)
def test_a_cell_of_numbers_prints_the_text_too(text: str) -> None:
    assert read_latex(latex_number(text)) == text


def test_a_minus_before_a_digit_is_one() -> None:
    assert latex_number("[-0.5, +1]") == r"{[}\ensuremath{-}0.5, +1{]}"
    assert latex_number("-") == "{-}"
    assert latex("boundary-shrink") == r"boundary{-}shrink"


def test_control_characters_are_shown_as_escapes() -> None:
    assert latex("a\nb\x1b") == r"a\textbackslash{}nb\textbackslash{}x1b"
