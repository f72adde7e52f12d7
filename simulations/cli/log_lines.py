"""Lines of a Flower app's log, as a command shows them."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from fed_unlearn.simulations.report.layout import print_line
from fed_unlearn.simulations.run.anonymity import Anonymity

_NOISE = ("Using SuperLink: ", "Successfully installed ", "WARNING :   Since flwr 1.32")


def print_log_line(
    line: str,
    console: Console,
    anonymity: Anonymity | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> None:
    """Print messages of fed_unlearn, and Flower's from warnings on. The file ``log.txt`` has all of them.

    Parameters
    ----------
    line : str
    console : Console
    anonymity : Anonymity, optional
        Takes clients' names out of it.
    say : callable, optional
        Called with the messages of fed_unlearn.
    """
    if line.startswith(_NOISE):
        return
    line = line if anonymity is None else anonymity.hidden(line)
    level, separator, text = line.partition(" :")
    _, own, said = text.partition("fed_unlearn: ")
    if own or not separator or level not in ("INFO", "DEBUG"):
        print_line(console, said if own else line)
    if own:
        say(said)
