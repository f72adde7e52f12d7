"""Command lines that are wrong somewhere: over all commands and options, drawn by hypothesis, the same every time.

Each must end with exit code 2 and one line of at most 400 characters where it is refused, with no traceback, and with
nothing half-written; a valid one must be seen to start, or to do its work.
"""

from __future__ import annotations

import argparse
import sys

import click
import typer
from command_trials import HOSTILE_TEXTS, LEDGER, Trials, drawn, summary, trials
from hypothesis import strategies as st

from fed_unlearn.simulations.cli import app

Draw = st.DrawFn
_OPTIONS_DRAWN = 4
_VALUES = {
    "scenario": ("digits", "tiny.toml"),
    "place": (LEDGER, "."),
    "folder": (".", "folder"),
    "request_id": ("r1", "mine"),
    "name": ("delete", "boundary-shrink", "fedosd"),
    "model": ("model.safetensors", "small-cnn"),
    "out": ("out", "new/out"),
    "overrides": ("seed=3", "clients.count=3", "boundary-shrink.epochs=1", "timeline.0.train.rounds=2"),
    "parameters": ("epochs=1", "learning-rate=0.1"),
    "model_parameters": ("width=1",),
    "dataset": ("digits",),
    "method": ("boundary-shrink", "instance-wise", "fedosd"),
    "methods": ("delete", "delete,boundary-shrink"),
    "deadline": ("2030-01-01", "2030-01-01T12:00:00+00:00"),
    "client": ("4", "clinic"),
    "sample_ids": ("7", "scan-1"),
    "id": ("own", "r5"),
    "device": ("cpu",),
    "resume": (".", "folder"),
    "head": ("0" * 64, "12"),
    "key": ("ledger.key", "text"),
    "ledger_key": ("ledger.key",),
    "file": ("copy.db", "folder/copy.db"),
}
"""Valid values of parameters, by name; others get one of their type."""


def commands() -> dict[tuple[str, ...], click.Command]:
    """Every command by the words that call it."""
    found: dict[tuple[str, ...], click.Command] = {}

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        if not isinstance(command, click.Group):
            found[words] = command
            return
        for name, below in command.commands.items():
            walk(below, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


def arguments() -> st.SearchStrategy[list[str]]:
    """A valid list of arguments, or nearly one, with up to three mutations."""
    known = commands()

    @st.composite
    def drawn_arguments(draw: Draw) -> list[str]:
        words = draw(st.sampled_from(sorted(known)))
        given = [*words, *_given(draw, known[words])]
        for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
            _mutate(draw, given, len(words))
        return given

    return drawn_arguments()


def _given(draw: Draw, command: click.Command) -> list[str]:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    needed = [option for option in options if option.required]
    free = [option for option in options if not option.required]
    chosen = draw(st.lists(st.sampled_from(free), max_size=_OPTIONS_DRAWN, unique=True)) if free else []
    given: list[str] = []
    for option in [*needed, *chosen]:
        name = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
        given += [name] if option.is_flag else [name, _value(draw, option)]
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and (parameter.required or draw(st.booleans())):
            given.append(_value(draw, parameter))
    return given


def _value(draw: Draw, parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Choice):
        return draw(st.sampled_from([str(choice) for choice in parameter.type.choices]))
    if parameter.name in _VALUES:
        return draw(st.sampled_from(_VALUES[parameter.name]))
    if isinstance(parameter.type, click.types.FloatParamType | click.types.FloatRange):
        return draw(st.sampled_from(["0", "0.5", "1.0"]))
    if isinstance(parameter.type, click.types.IntParamType | click.types.IntRange):
        return str(draw(st.integers(0, 9)))
    return draw(st.sampled_from(["new", "new.db", "text"]))


def hostile() -> st.SearchStrategy[str]:
    """A text that nobody meant well."""
    anything = st.text(st.characters(), max_size=30)
    numbers = st.integers(-(2**70), 2**70).map(str) | st.floats().map(repr)
    return st.sampled_from(HOSTILE_TEXTS) | anything.filter(lambda text: "/" not in text and "~" not in text) | numbers


def _mutate(draw: Draw, given: list[str], words: int) -> None:
    kind = draw(st.sampled_from(["replace"] * 5 + ["part"] * 2 + ["drop", "insert", "twice", "swap", "option"]))
    place = draw(st.integers(words if kind != "swap" else 0, max(len(given) - 1, words)))
    if place >= len(given) or kind == "insert":
        given.insert(place, draw(hostile()))
    elif kind == "replace":
        given[place] = draw(hostile())
    elif kind == "part":
        key, separator, _ = given[place].partition("=")
        given[place] = f"{key}{separator or '='}{draw(hostile())}"
    elif kind == "drop":
        del given[place]
    elif kind == "twice":
        given[place:place] = given[place : place + 2]
    elif kind == "swap":
        other = draw(st.integers(0, len(given) - 1))
        given[place], given[other] = given[other], given[place]
    else:
        given.insert(place, "--" + draw(hostile()))


def mutated_arguments(count: int) -> Trials:
    """Try so many command lines."""
    with trials() as made:
        drawn(count, arguments(), made.run)
    return made


def main() -> None:
    """Try as many as the command line says, print what came of it, and exit with 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="How many command lines are tried.")
    made = mutated_arguments(parser.parse_args().count)
    print(summary(made).encode("ascii", "backslashreplace").decode())
    sys.exit(bool(made.problems))


if __name__ == "__main__":
    main()
