"""What is said of an error at the command line: one line of at most 400 characters, and an exit code."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.cli.orders.codes import (
    BAD_INPUT,
    COMMITTED,
    INTERNAL_ERROR,
    INTERRUPTED,
    NOT_COMMITTED,
    OUTPUT_CLOSED,
)
from fed_unlearn.simulations.engines.errors import EngineError, RunFailedError
from fed_unlearn.text import printable, quoted

LINE_LENGTH = 400
"""Greatest length of an error's line in characters."""

_PREFIX = "fed-unlearn: "
_VALUE_LENGTH = 200
_LONG_WORD = re.compile(rf"\S{{{_VALUE_LENGTH + 1},}}")
_NULL_BYTE = "embedded null"
_TOO_MANY_DIGITS = "integer string conversion"


def answer_to(error: BaseException, arguments: Sequence[str]) -> int:
    """Print one line on standard error for an error, and return the exit code.

    Parameters
    ----------
    error : BaseException
        Whatever a command raised.
    arguments : sequence of str
        The arguments of the command. Long ones are cut where the error repeats them.

    Returns
    -------
    int
        Exit code, see :func:`fed_unlearn.simulations.cli.edge.run_command`.
    """
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    told = error.__context__ if isinstance(error, SystemExit) else error  # rich makes a SystemExit of it
    if isinstance(told, BrokenPipeError):
        drop_output()
        return OUTPUT_CLOSED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else INTERNAL_ERROR if error.code else COMMITTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message())
        return _complain(["a command is missing; expected one of those above"], BAD_INPUT, arguments)
    problems = _problems(error)
    if problems is None:
        return _internal_error(error, arguments)
    failed = isinstance(error, EngineError | RunFailedError)
    return _complain(problems, NOT_COMMITTED if failed else BAD_INPUT, arguments)


def one_line(problems: Iterable[str], arguments: Sequence[str] = ()) -> str:
    """Problems as one printable line, without its end. Those that do not fit are counted.

    Parameters
    ----------
    problems : iterable of str
        Texts of the problems, at least one.
    arguments : sequence of str
        Texts that are cut at 200 characters where a problem repeats them.
    """
    first, *others = (_cut(problem, arguments) for problem in problems)
    room = LINE_LENGTH - len(_PREFIX)
    if others and len(first) > room - len(_more(len(others))):
        return _PREFIX + printable(first, room - len(_more(len(others)))) + _more(len(others))
    line = printable(first, room)
    for number, problem in enumerate(others):
        left = len(others) - number - 1
        if len(line) + len(problem) + 2 + len(_more(left)) > room:
            return _PREFIX + line + _more(left + 1)
        line += f"; {problem}"
    return _PREFIX + line


def _more(count: int) -> str:
    return f"; and {count} more" if count else ""


def _cut(problem: str, arguments: Sequence[str]) -> str:
    """A problem on one line and printable; long values in it are cut at 200 characters."""
    for argument in {part for given in arguments for part in (given, given.partition("=")[2])}:
        if len(argument) > _VALUE_LENGTH:
            short = printable(argument, _VALUE_LENGTH)
            problem = problem.replace(argument, short).replace(repr(argument)[1:-1], short)
    problem = re.sub(r" *\n\s*", " ", problem.strip())
    problem = _LONG_WORD.sub(lambda found: printable(found.group(), _VALUE_LENGTH), problem[: 100 * LINE_LENGTH])
    return printable(problem, LINE_LENGTH)


def _complain(problems: Iterable[str], code: int, arguments: Sequence[str]) -> int:
    _say(one_line(problems, arguments))
    return code


def _say(line: str) -> None:
    if sys.stderr is not None:
        print(line, file=sys.stderr)


def _problems(error: BaseException) -> Sequence[str] | None:
    """What is wrong, where the error is one that users' input, files and machines can lead to; else None."""
    match error:
        case FedUnlearnError():
            return error.problems or ("it failed, and no reason was given",)
        case click.ClickException():
            return (error.format_message(),)
        case OSError():
            return (of_the_system(error),)
        case sqlite3.Error():
            return (f"the ledger cannot be read or written ({error}); see that it is whole and that its disk has room",)
        case UnicodeError():
            return (f"a text holds bytes that are no UTF-8 ({error}); give it in UTF-8",)
        case RecursionError():
            return ("the input is nested too deeply; take levels out of it",)
        case MemoryError():
            return ("there is not enough memory; give smaller numbers, or take a larger machine",)
        case ValueError() if _TOO_MANY_DIGITS in str(error):
            return ("a number has too many digits; expected at most 64 bits",)
        case ValueError() if _NULL_BYTE in str(error):
            return ("a path or text holds a null byte; leave it out",)
    return None


def of_the_system(error: OSError) -> str:
    """What an error of the operating system says: its files and the reason."""
    reason = error.strerror or str(error) or type(error).__name__
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes | Path)]
    return f"{' and '.join(map(quoted, names))}: {reason}" if names else reason


def _internal_error(error: BaseException, arguments: Sequence[str]) -> int:
    """Write the traceback to a file that nobody else can read, and name it."""
    try:
        place = f"; its traceback is in {_written(error, arguments)}"
    except OSError as failure:
        place = f"; its traceback cannot be written ({failure.strerror})"
    room = max(LINE_LENGTH - len(_PREFIX) - len(place), 60)
    said = f"internal error, please report it: {type(error).__name__}: {error}"
    _say(_PREFIX + printable(_cut(said, arguments), room) + place)
    return INTERNAL_ERROR


def _written(error: BaseException, arguments: Sequence[str]) -> str:
    home = os.environ.get("FED_UNLEARN_HOME")
    if home:
        Path(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=time.strftime("fed-unlearn-error-%Y%m%d-"), suffix=".txt", dir=home or None
    )
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        print("fed-unlearn", *(quoted(argument) for argument in arguments), file=file)
        file.writelines(traceback.format_exception(error))
    return name


def drop_output() -> None:
    """Let nothing more be written where nobody reads; the interpreter would complain at its end."""
    if sys.stdout is None:
        return
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no real file
        return
