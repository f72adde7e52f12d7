"""``--live``: the page of a run for the time of a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from typer import Option

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.report.layout import print_line

if TYPE_CHECKING:
    from fed_unlearn.simulations.live.server import LiveServer
    from fed_unlearn.simulations.live.view import RunView

Live = Annotated[bool, Option("--live", help="Serve the growing report on 127.0.0.1 while the command lasts.")]
LivePort = Annotated[
    int | None, Option("--live-port", min=1, max=65535, help="The port of --live.", show_default="a free one")
]


@dataclass
class LivePage:
    """Tells the page of a run how it goes. Without a server it tells nobody.

    Attributes
    ----------
    server : LiveServer or None
    """

    server: LiveServer | None = None

    def say(self, text: str) -> None:
        """Show a line of progress."""
        if self.server is not None:
            self.server.say(text)

    def finish(self, text: str) -> None:
        """Say that the run is over."""
        if self.server is not None:
            self.server.finish(text)


def check_live(live: bool, port: int | None) -> None:
    """Raise if a port is given for a page that is not asked for."""
    if port is not None and not live:
        raise InvalidParameterError(f"--live-port {port} without --live: give --live too, or leave it out")


@contextmanager
def served(view: RunView | None, port: int | None, console: Console) -> Iterator[LivePage]:
    """Serve a page for the time of a ``with`` block, and print its address.

    Parameters
    ----------
    view : RunView or None
        What the page shows. None serves nothing.
    port : int or None
        The port; a free one where None.
    console : Console

    Raises
    ------
    InvalidParameterError
        If the port cannot be used.
    """
    if view is None:
        yield LivePage()
        return
    from fed_unlearn.simulations.live.server import LiveServer

    server = LiveServer(view, port)
    try:
        print_line(console, f"live: {server.address}")
        yield LivePage(server)
    finally:
        error = sys.exc_info()[1]
        server.close(_words(error), draws=error is None)


def view_of_run(folder: Path, name: str) -> RunView:
    """What the page of a run folder shows; see :class:`~fed_unlearn.simulations.live.view.RunView`."""
    from fed_unlearn.simulations.live.view import RunView

    return RunView(folder, name)


def view_of_ledger(ledger: Path, name: str, *, ledger_key: Path | None = None) -> RunView:
    """What the page of a Flower app shows, whose server has a ledger and no run folder.

    Parameters
    ----------
    ledger : Path
        The ledger's file. It may be made later.
    name : str
        What the page is called.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not beside the ledger.
    """
    from fed_unlearn.simulations.live.view import RunView, version_of
    from fed_unlearn.simulations.run.ledger_results import results_of_ledger

    log = ledger.with_name(f"{ledger.name}-wal")
    return RunView(
        ledger.parent,
        name,
        results=lambda: results_of_ledger(ledger, ledger_key, name=name),
        version=lambda: f"{version_of(ledger)}+{version_of(log)}",
    )


def _words(error: BaseException | None) -> str:
    """How a command ended, for a page that was not told."""
    if error is None:
        return "the run is over"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "the run has stopped: see the terminal"
