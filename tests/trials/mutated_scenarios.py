"""Scenario files that are wrong somewhere, drawn by hypothesis, the same every time.

``fed-unlearn run FILE`` must end with exit code 2 and one line of at most 400 characters where the file is refused, with
no traceback, and with no run folder or part of one left; a valid file must be seen to start.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from command_trials import HOSTILE_TEXTS, TINY, Trials, drawn, summary, trials
from hypothesis import strategies as st

from fed_unlearn.simulations.scenario import built_in_scenarios

Draw = st.DrawFn
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Raw:
    """A value as it stands in a file, which no Python value is written as."""

    text: str


_RAW = [
    *(
        "1979-05-27T07:32:00Z",
        "1979-05-27",
        "07:32:00",
        "9" * 4000,
        "9" * 5000,
        "0x" + "f" * 5000,
        "1e400",
        "-nan",
        "0b1",
    ),
    *(
        "[" * 30 + "]" * 30,
        "[" * 50 + "]" * 50,
        "[" * 5000,
        "[" * 60_000,
        "{a = " * 50 + "1" + "}" * 50,
        "{a = " * 5000,
    ),
    *('"\\u0000"', '"\\ud800"', '"""a\nb"""', "'''\n'''", "[1, 'a', {}]", "{}", "", "=", "\x1b[31m", "'\udcff'"),
]
_NUMBERS = [
    *(-1, 0, 1, 2, 3, 10, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**15, 10**30, True, False),
    *(-0.5, 0.0, 1e-320, 0.5, 1.0, 1.5, 1e15, 1e308, math.nan, math.inf, -math.inf),
]
_KEYS = [
    "unknown",
    "",
    "é",
    "a.b",
    "[x]",
    "__class__",
    "seed",
    "forget",
    "train",
    '"',
    "\n",
    "\x1b",
    "self",
    "name",
    "a" * 5000,
]


def bases() -> list[str]:
    """Texts of valid scenario files that need no download."""
    built_in = [path.read_text(encoding="utf-8") for name, path in built_in_scenarios().items() if "digits" in name]
    return [*built_in, TINY]


def files() -> st.SearchStrategy[list[str]]:
    """A scenario file with up to three mutations of its values, or of its bytes, as one text with surrogates."""
    texts = bases()
    tables = [tomllib.loads(text) for text in texts]

    @st.composite
    def drawn_file(draw: Draw) -> list[str]:
        number = draw(st.integers(0, len(texts) - 1))
        if draw(st.integers(0, 4)) == 0:
            content = bytearray(texts[number].encode())
            for _ in range(draw(st.sampled_from([1, 2, 3, 30]))):
                _mutate_bytes(draw, content)
            return [content.decode("utf-8", "surrogateescape")]
        table = copy.deepcopy(tables[number])
        for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2, 3]))):
            _mutate(draw, table)
        return ["".join(f"{_quoted(key)} = {_written(value)}\n" for key, value in table.items())]

    return drawn_file()


def values() -> st.SearchStrategy[object]:
    """A value that nobody meant well."""
    simple = (
        st.sampled_from(HOSTILE_TEXTS) | st.sampled_from(_NUMBERS) | st.integers() | st.floats() | st.text(max_size=20)
    )
    lists = st.lists(simple, max_size=4)
    tables = st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=5), simple, max_size=3)
    return simple | simple | lists | tables | st.lists(lists, max_size=2) | st.sampled_from(_RAW).map(Raw)


def _mutate(draw: Draw, table: dict[str, object]) -> None:
    places = list(_places(table))
    if not places:
        return
    *way, last = draw(st.sampled_from(places))
    target: object = table
    for part in way:
        target = target[part] if isinstance(target, dict | list) else None
    kind = draw(st.sampled_from(["value"] * 8 + ["drop", "key", "copy"]))
    if isinstance(target, list) and isinstance(last, int):
        if kind == "drop":
            del target[last]
        elif kind == "copy":
            target.insert(last, copy.deepcopy(target[last]))
        else:
            target[last] = draw(values())
    elif isinstance(target, dict):
        if kind == "drop":
            del target[last]
        elif kind == "key":
            target[draw(st.sampled_from(_KEYS) | st.text(max_size=8))] = draw(values())
        elif kind == "copy":
            target[f"{last}2"] = copy.deepcopy(target[last])
        else:
            target[last] = draw(values())


def _places(value: object, place: Place = ()) -> Iterator[Place]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in below:
        yield (*place, key)
        yield from _places(item, (*place, key))


def _mutate_bytes(draw: Draw, content: bytearray) -> None:
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    kind = draw(st.sampled_from(["change", "delete", "insert"]))
    if kind == "delete":
        del content[place : place + draw(st.integers(1, 20))]
    elif kind == "insert" or not content:
        content[place:place] = draw(st.binary(min_size=1, max_size=4))
    else:
        content[place] = draw(st.integers(0, 255))


def _written(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return (
                "nan"
                if math.isnan(value)
                else "inf"
                if value == math.inf
                else "-inf"
                if value == -math.inf
                else repr(value)
            )
        case str():
            return _quoted(value)
        case list():
            return f"[{', '.join(map(_written, value))}]"
        case dict():
            return f"{{{', '.join(f'{_quoted(key)} = {_written(item)}' for key, item in value.items())}}}"
        case Raw():
            return value.text
    return str(value)


def _quoted(text: str) -> str:
    letters = (letter if letter.isprintable() and letter not in '"\\' else _escaped(letter) for letter in text)
    return f'"{"".join(letters)}"'


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def mutated_scenarios(count: int) -> Trials:
    """Try so many scenario files."""
    with trials() as made:

        def run(content: list[str]) -> None:
            file = made.folder / "s.toml"
            file.write_bytes(
                content[0].encode("utf-8", "surrogateescape" if _is_bytes(content[0]) else "surrogatepass")
            )
            before = len(made.problems)
            made.run(["run", "s.toml", "--out", "out/new"])
            for number in range(before, len(made.problems)):
                made.problems[number] += f"\n{content[0][:3000]}"

        drawn(count, files(), run)
    return made


def _is_bytes(text: str) -> bool:
    return all(not 0xD800 <= ord(letter) <= 0xDFFF or 0xDC80 <= ord(letter) <= 0xDCFF for letter in text)


def main() -> None:
    """Try as many as the command line says, print what came of it, and exit with 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="How many scenario files are tried.")
    made = mutated_scenarios(parser.parse_args().count)
    print(summary(made).encode("ascii", "backslashreplace").decode())
    sys.exit(bool(made.problems))


if __name__ == "__main__":
    main()
