"""The edge of the command line: every error ends here, as one line and an exit code.

Nothing is imported at the top that takes time, so that an interrupt is caught from the first moment on.
"""

from __future__ import annotations

import os
import signal
import sys

from fed_unlearn.simulations.cli.orders.codes import COMMITTED, INTERRUPTED

TYPE_CHECKING = False  # typing itself takes a while to import
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

_interrupts: list[int] = []
"""Signals that asked the program to stop. Other code may swallow the exception that they raise, or raise another."""


def main() -> NoReturn:
    """Run the command line and exit with its code. An error is printed as one line, without a traceback."""
    takes_interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if takes_interrupts:
        signal.signal(signal.SIGINT, _leave)
    import fed_unlearn.simulations.cli.answers
    import fed_unlearn.simulations.cli.commands  # noqa: F401

    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        if takes_interrupts:
            sys.unraisablehook = _raised_where_nothing_catches
            signal.signal(signal.SIGINT, _interrupt)
        code = _flushed(run_command(sys.argv[1:]))
        if takes_interrupts:
            signal.signal(signal.SIGINT, _leave)
    except KeyboardInterrupt:  # while an error was being answered
        code = INTERRUPTED
    sys.exit(code)


def run_command(arguments: list[str]) -> int:
    """Run one command line.

    Parameters
    ----------
    arguments : list of str
        The arguments, without the program's name.

    Returns
    -------
    int
        The exit code: 0 if all requests were committed, 1 if a request was not or a run failed, 2 for bad input and
        for files and folders that cannot be used, 70 for an error of the program's own, 130 if the run was
        interrupted, 141 if standard output was closed.
    """
    try:
        from fed_unlearn.simulations.cli.commands import app

        code = app(args=arguments, prog_name="fed-unlearn", standalone_mode=False)
        return code if isinstance(code, int) else COMMITTED
    except BaseException as error:  # nothing may end in a traceback
        if _interrupts:
            return INTERRUPTED
        from fed_unlearn.simulations.cli.answers import answer_to

        return answer_to(error, arguments)


def _leave(*_: object) -> NoReturn:
    """End at once. This is safe while nothing was begun, and after everything was done.

    A command begins nothing before its libraries are there.
    """
    os._exit(INTERRUPTED)


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt; while torch is imported, leave: its native code would swallow the exception."""
    if getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False):
        _leave()
    _interrupts.append(number)
    raise KeyboardInterrupt


def _raised_where_nothing_catches(unraisable: sys.UnraisableHookArgs) -> None:
    """Interrupt once more, a little later, if the exception came up in a destructor, which swallows it."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    from threading import Timer

    again = Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def _flushed(code: int) -> int:
    """Write out what is left of standard output, and return the exit code."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except OSError as error:
        from fed_unlearn.simulations.cli.answers import answer_to, drop_output

        drop_output()
        return answer_to(error, [])
