"""Text from outside stays text in Markdown, as a reader of Markdown sees it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fed_unlearn.simulations.markdown import code, listed, plain, table
from fed_unlearn.text import printable

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=40)
SPECIAL = st.text(st.sampled_from("\\{}$&#%_^~<>|\"-[]*`'a1 "), max_size=30)


@given(PRINTABLE | SPECIAL)
def test_markdown_shows_the_text(text: str) -> None:
    written = plain(text)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", written) == text
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>*_`]", written)


def test_control_characters_are_shown_as_escapes() -> None:
    assert plain("a\nb") == r"a\\nb"
    assert code("a\nb") == r"`a\nb`"


def test_a_table_keeps_its_columns_whatever_is_in_a_cell() -> None:
    rows = [[plain("a|b"), code("a|b")], [plain("\\|"), code("|")]]
    lines = table(["name", "number"], rows, has_numbers=True).splitlines()
    assert lines[:2] == ["| name | number |", "| --- | ---: |"]
    assert all(len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) == 4 for line in lines)
    assert table(["a", "b"], []).splitlines()[1] == "| --- | --- |"


@pytest.mark.parametrize(
    ("items", "words"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c"), ([], "")]
)
def test_items_are_listed_as_words(items: list[str], words: str) -> None:
    assert listed(items) == words


@pytest.mark.parametrize(
    "text", ["a|b", "`", "``x`", " a ", "a\\", "a\\|b", "<b>", "a\nb", "", "[x](y)", "www.a.example"]
)
def test_a_code_span_gives_the_text_back(text: str) -> None:
    html = MarkdownIt("commonmark").enable("table")
    tokens = html.parse(f"| a |\n| --- |\n| x {code(text)} y |\n")
    inline = next(token for token in tokens if token.type == "inline" and token.content.startswith("x"))
    assert [child.type for child in inline.children or ()] == ["text", "code_inline", "text"]
    assert (inline.children or [])[1].content == (printable(text) or " ")
