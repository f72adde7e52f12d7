"""Which class a request means: by name, by the data's own label, and by index only where that is the label."""

from pathlib import Path

import pytest

from fed_unlearn.class_names import ClassNames
from fed_unlearn.errors import InvalidDataError, InvalidRequestError
from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ClassScope, ClientScope, SampleScope, Scope
from fed_unlearn.scopes import scope_words

WORDS = ("cat", "deer", "fox")
FROM_ONE = tuple(str(number) for number in range(1, 11))
LETTERS = (*map(str, range(10)), "A", "B")
PADDED = ("01", "02", "10")
SPARSE = ("-3", "7", "100")


@pytest.mark.parametrize(
    ("names", "label", "index"),
    [
        (WORDS, "deer", 1),
        (WORDS, 1, 1),
        (WORDS, "2", 2),
        (FROM_ONE, 1, 0),
        (FROM_ONE, "1", 0),
        (FROM_ONE, 10, 9),
        (LETTERS, 5, 5),
        (LETTERS, 11, 11),
        (LETTERS, "B", 11),
        (PADDED, 1, 0),
        (PADDED, "01", 0),
        (PADDED, 10, 2),
        (SPARSE, -3, 0),
        (SPARSE, 7, 1),
        (("1", "2", "cat"), 1, 0),
        (("crane", "cat", "crane"), 2, 2),
        ((), 4, 4),
        ((), "4", 4),
    ],
)
def test_a_class_is_found_by_what_the_data_calls_it(names: tuple[str, ...], label: int | str, index: int) -> None:
    assert ClassNames(names).index(label) == index


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (WORDS, "dear", "'dear' is not a class of the data ('cat', 'deer', 'fox'); did you mean 'deer'?"),
        (WORDS, 3, "3 is not a class of the data ('cat', 'deer', 'fox')"),
        (FROM_ONE, 0, "0 is not a class of the data (1..10)"),
        (FROM_ONE, 11, "11 is not a class of the data (1..10)"),
        (SPARSE, 0, "0 is not a class of the data ('-3', '7', '100')"),
        (("1", "2", "cat"), 0, "0 is not a class of the data ('1', '2', 'cat')"),
        (
            ("crane", "cat", "crane"),
            "crane",
            "2 classes are called 'crane', with the indices 0, 2; expected one of these",
        ),
        ((), "deer", "class 'deer': the names of the classes are not known here; expected an index from 0"),
        ((), -1, "class -1: the names of the classes are not known here; expected an index from 0"),
        (tuple("abcdefgh"), "z", "'z' is not a class of the data ('a', 'b', 'c', 'd', 'e', 'f' and 2 more)"),
    ],
)
def test_what_is_no_class_is_refused_in_one_line(names: tuple[str, ...], label: int | str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ClassNames(names).index(label)
    assert str(caught.value) == message


def test_both_are_shown_where_they_differ() -> None:
    assert ClassNames(FROM_ONE).listed((0, 9)) == "'1' (index 0), '10' (index 9)"
    assert ClassNames(("0", "1", "two")).listed((0, 1, 2, 3)) == "0, 1, 'two' (index 2), 3"
    assert ClassNames(("\x1b[31m", "b")).shown(0) == "'\\x1b[31m' (index 0)"


@pytest.mark.parametrize(("names", "told"), [(FROM_ONE, "1 -> 0"), (SPARSE, "-3 -> 0, 7 -> 1"), (PADDED, "01 -> 0")])
def test_numbers_that_are_not_the_indices_are_told(names: tuple[str, ...], told: str) -> None:
    assert told in str(ClassNames(names).renumbering())


@pytest.mark.parametrize("names", [WORDS, LETTERS, ("0", "1"), ()])
def test_other_names_renumber_nothing(names: tuple[str, ...]) -> None:
    assert ClassNames(names).renumbering() is None


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (ClassScope((1,)), "class 'deer' (index 1)"),
        (ClassScope((0, 2)), "classes 'cat' (index 0), 'fox' (index 2)"),
        (SampleScope("7", count=3, of_class=1), "3 samples of class 'deer' (index 1) of client 7"),
        (SampleScope("7", ("x",)), "1 sample of client 7"),
        (ClientScope("7"), "client 7"),
    ],
)
def test_a_request_is_put_into_words_without_ids(scope: Scope, words: str) -> None:
    assert scope_words(scope, ClassNames(WORDS)) == words


def test_a_ledger_keeps_the_names_and_takes_no_others(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    assert ledger.class_names() == ClassNames()
    ledger.name_classes(FROM_ONE)
    ledger.name_classes(list(FROM_ONE))
    with pytest.raises(InvalidDataError, match=r"3 were given, and the ledger .* knows 10 that differ from index 0 on"):
        ledger.name_classes(WORDS)
    with pytest.raises(InvalidDataError, match=r"11 were given, .* knows 10 that differ from index 10 on"):
        ledger.name_classes([*FROM_ONE, "11"])
    with pytest.raises(InvalidDataError, match=r"class 1 is called ''; expected 1 to 200 characters"):
        ledger.name_classes(["a", ""])
    ledger.close()
    again = Ledger(tmp_path / "ledger.db", create=False)
    assert again.class_names().names == FROM_ONE and again.verify().problem is None
    again.close()
