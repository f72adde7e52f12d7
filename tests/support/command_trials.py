"""Trials of the command line: what a command that nobody meant well does, and what it must leave as it was.

A trial runs one command line in this process, in a folder with a ledger and scenario files. What takes long is not run:
a command that would begin to train is seen to start, and ends there.
"""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import hypothesis
from hypothesis import HealthCheck, Phase

from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.cli.answers import LINE_LENGTH

LEDGER = "ledger.db"
HOSTILE_TEXTS = [
    *(
        "",
        " ",
        "\n",
        "a\nb",
        "\x00",
        "a\x00b",
        "\x07",
        "\x1b[31mred",
        "\x1b]0;title\x07",
        "\r",
        "\x85",
        "\u2028",
        "\ufeff",
    ),
    *("\u202etxt", "\u200b", "\ud800", "x\udcff", "\U000e0001", "é", "日本", "a\u0301" * 50, "\U0001f600"),
    *(
        "[red]x[/red]",
        "[/]",
        "[/red]",
        "[",
        "]",
        "\\[",
        "[link=x]",
        ":smile:",
        "%s",
        "%n",
        "{}",
        "{0}",
        "${HOME}",
        "$(id)",
    ),
    *("-1", "--", "-", "0", "1", "nan", "inf", "-inf", "1e999", "1e-320", "0x10", "1_000", "+1", "٣", "²", "1.", "01"),
    *("9" * 19, "9" * 20, "9" * 400, "9" * 4300, "9" * 5000, "-" + "9" * 5000, "0." + "1" * 5000, "1e" + "9" * 100),
    *(
        "true",
        "false",
        "none",
        "null",
        "all",
        "[1]",
        "[[[",
        "{}",
        "{a=1}",
        '"',
        "'",
        '""',
        "'''",
        "a=b",
        "=",
        "a=",
        "=b",
    ),
    *(
        "a" * 65,
        "a" * 300,
        "a" * 5000,
        "a " * 5000,
        "a" * 100_000,
        "x/" * 2000,
        "../" * 100 + "x",
        "..",
        ".",
        "./",
        "~nobody",
    ),
    *("a+b", "a,b", ",", ";", "1979-05-27", "0001-01-01", "9999-12-31T23:59:59", "2026-02-30", "07:32:00"),
    *("/", "/nonexistent/x", "/proc/self/mem", "no-such-file", "folder", "folder/x.db", "text", "text/x", "fifo"),
    *("empty.db", "junk.db", "other.db", "half.db", "tiny.toml", "digits", LEDGER, "r1", "r77"),
    *("math:sqrt", "builtins:dict", "no.module:x", "hf:", "folder:", "folder:x", "torchvision:", "torchvision:../x"),
    *("[" * 100, "[" * 50_000, "{a=" * 100, "a." * 100 + "b=1", "timeline[99999999999999].x=1", "timeline.-1=2"),
    *("__class__=1", "self=1", "name=1", "cls=1", "learning-rate=nan", "epochs=1e9", "clients.count=999999999999"),
]
"""Texts that broke command lines, here or elsewhere. None is a path on which something could be written."""

TINY = """
name = "tiny"
[data]
dataset = "digits"
[clients]
count = 2
[model]
name = "small-cnn"
[[timeline]]
train = { rounds = 1 }
[[timeline]]
forget = { class = 3 }
"""


@dataclass(frozen=True)
class Answer:
    """What a command line did.

    Attributes
    ----------
    arguments : list of str
    code : int
        The exit code.
    output, errors : str
        Standard output and standard error.
    has_started : bool
        Whether it would have begun to train.
    """

    arguments: list[str]
    code: int
    output: str
    errors: str
    has_started: bool


@dataclass
class Trials:
    """Commands that were tried, and what went wrong.

    Attributes
    ----------
    folder : Path
        The current folder of the commands.
    codes : Counter of str
        How often each exit code came; ``started`` for a command that would have begun to train.
    problems : list of str
        A text for each command that did what none may do.
    """

    folder: Path
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _starts: int = 0

    def run(self, arguments: list[str]) -> Answer:
        """Run a command line, and note what is wrong with its answer or with what it left behind."""
        before, starts = self._contents(), self._starts
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = run_command(arguments)
        answer = Answer(arguments, code, output.getvalue(), errors.getvalue(), self._starts > starts)
        self.codes["started" if answer.has_started else str(code)] += 1
        after = self._contents()
        for problem in (*_problems_with(answer), *(() if code == 0 else _differences(before, after))):
            self.problems.append(f"{_shown(arguments)}: {problem}")
        if after != before:
            self._fill()
        return answer

    def start(self, *_: object, **__: object) -> None:
        """Stand in for whatever would take long."""
        self._starts += 1
        raise SystemExit(0)

    @property
    def _root(self) -> Path:
        return self.folder.parents[2]

    def _contents(self) -> dict[str, object]:
        """Every file of the folder, a ledger as the rows of its tables."""
        found: dict[str, object] = {}
        for path in sorted(self._root.rglob("*")):
            name = os.fsencode(path.relative_to(self._root)).decode("utf-8", "backslashreplace")
            if name.endswith(("-wal", "-shm")):
                continue
            if path.name == LEDGER and path.parent == self.folder:
                with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                    found[name] = list(database.iterdump())
            else:
                found[name] = path.read_bytes() if path.is_file() else None
        return found

    def _fill(self) -> None:
        """Make the folder anew."""
        for path in sorted(self._root.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if path not in (self.folder, *self.folder.parents):  # commands stand in it
                    path.rmdir()
            else:
                path.unlink()
        (self.folder / "folder").mkdir()
        with closing(Ledger(self.folder / LEDGER)) as ledger:
            ledger.receive(ForgetRequest.for_class(3))
            ledger.receive(ForgetRequest.for_samples("clinic \x1b[31m[/red]", ["scan-[1]"], id="mine"))
        (self.folder / "empty.db").write_bytes(b"")
        (self.folder / "junk.db").write_bytes(bytes(range(256)) * 20)
        (self.folder / "half.db").write_bytes((self.folder / LEDGER).read_bytes()[:3000])
        (self.folder / "text").write_text("text")
        (self.folder / "tiny.toml").write_text(TINY)
        with closing(sqlite3.connect(self.folder / "other.db")) as other:
            other.execute("CREATE TABLE requests(x)")
            other.commit()


@contextlib.contextmanager
def trials() -> Iterator[Trials]:
    """Make a folder, go there, and let nothing start that takes long, until the ``with`` block ends."""
    from fed_unlearn.simulations.bench import methods, overhead
    from fed_unlearn.simulations.bench.sequence import measuring
    from fed_unlearn.simulations.cli import launch
    from fed_unlearn.simulations.deployment import serving
    from fed_unlearn.simulations.deployment.nodes import node

    with tempfile.TemporaryDirectory(prefix="fed-unlearn-trials-") as place, contextlib.ExitStack() as stack:
        made = Trials(Path(place) / "outer" / "a" / "b" / "c")
        made.folder.mkdir(parents=True)
        made._fill()
        stack.enter_context(contextlib.chdir(made.folder))
        home = str(Path(place) / "home")
        stack.enter_context(mock.patch.dict(os.environ, FED_UNLEARN_HOME=home, COLUMNS="200"))
        for owner, name in (
            (launch, "_run_in_process"),
            (launch, "_run_as_app"),
            (node, "run_node"),
            (serving.SupervisedServer, "run"),
            (methods._Bench, "run"),
            (measuring.SeedMeasures, "results"),
            (overhead, "_timed"),
        ):
            stack.enter_context(mock.patch.object(owner, name, made.start))
        yield made


def drawn(
    count: int, strategy: hypothesis.strategies.SearchStrategy[list[str]], run: Callable[[list[str]], object]
) -> None:
    """Run what a strategy draws, `count` times; the same every time."""

    @hypothesis.settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def trial(value: list[str]) -> None:
        run(value)

    trial()


def summary(made: Trials) -> str:
    """What was tried, in one line, and a line for each problem."""
    counts = ", ".join(f"{count} x {code}" for code, count in sorted(made.codes.items()))
    return "\n".join([f"{made.codes.total()} trials: {counts}; {len(made.problems)} problems", *made.problems])


def _problems_with(answer: Answer) -> Iterator[str]:
    if answer.code not in (0, 1, 2):
        yield f"exit code {answer.code}: {answer.errors[:600]!r}"
    if answer.code == 2:
        line = answer.errors.removesuffix("\n")
        if not line.startswith("fed-unlearn: ") or not line.isprintable() or len(line) > LINE_LENGTH:
            yield f"exit code 2 with other than one line of at most {LINE_LENGTH} characters: {answer.errors[:600]!r}"
        if answer.output and "Usage: " not in answer.output:
            yield f"exit code 2 with output: {answer.output[:200]!r}"
    if "Traceback" in answer.output + answer.errors:
        yield "a traceback"
    if not (answer.output + answer.errors).replace("\n", "").isprintable():
        yield f"unprintable characters: {(answer.output + answer.errors)[:600]!r}"


def _differences(before: dict[str, object], after: dict[str, object]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if name not in before:
            yield f"left {name} behind"
        elif name not in after:
            yield f"took {name} away"
        elif before[name] != after[name]:
            yield f"changed {name}"


def _shown(arguments: list[str]) -> str:
    return " ".join(repr(text) if len(text) <= 80 else f"{text[:60]!r}..({len(text)})" for text in arguments)
