"""Processes that are started again when they end, and whose lines are passed on."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

WARM = "executor is warm"
"""What an executor says when it can answer messages."""

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_STEADY_SECONDS = 60.0
_LAST_LINES = 40
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"^(DEBUG|INFO|WARNING|ERROR) ?: *")


class Supervised:
    """One process that is kept running.

    After it ends it is started again: at first in a second, then after waits that double up to a minute. A process that
    ran for a minute counts as steady, and begins with the short wait.

    Parameters
    ----------
    name : str
        What its lines begin with.
    command : callable
        Gives the command of the next start.
    environment : mapping of str to str
    say : callable
        Called with a line for the log.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        environment: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.name = name
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._command = command
        self._environment = dict(environment)
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._started = 0.0
        self._wait = _FIRST_WAIT
        self.next_start: float | None = 0.0

    @property
    def is_running(self) -> bool:
        """Whether its process is there and was not yet found to have ended."""
        return self._process is not None

    def start(self, selector: selectors.BaseSelector) -> None:
        """Start the process in a session of its own: Ctrl-C reaches the command alone, which then ends it in order."""
        self.last_lines.clear()
        self._process = subprocess.Popen(
            list(self._command()), env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        if (output := self._process.stdout) is not None:
            os.set_blocking(output.fileno(), False)
            selector.register(output, selectors.EVENT_READ, self)
        self._started, self.next_start = time.monotonic(), None
        self._say(f"{self.name} started, process {self._process.pid}")

    def read(self, selector: selectors.BaseSelector) -> None:
        """Pass on the lines that it has written."""
        if self._process is None or self._process.stdout is None or self._process.stdout.closed:
            return
        stream = self._process.stdout
        while True:
            try:
                data = os.read(stream.fileno(), 65536)
            except BlockingIOError:
                return
            if not data:
                selector.unregister(stream)
                stream.close()
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._pass_on(line)

    def ended(self, selector: selectors.BaseSelector) -> int | None:
        """The exit code, once, if the process has ended since the last call. It is then due to start again."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self.read(selector)
        if self._process.stdout is not None and not self._process.stdout.closed:
            selector.unregister(self._process.stdout)
            self._process.stdout.close()
        if self._rest:
            self._pass_on(self._rest)
        self._rest, self._process = b"", None
        if time.monotonic() - self._started >= _STEADY_SECONDS:
            self._wait = _FIRST_WAIT
        self.next_start = time.monotonic() + self._wait
        return code

    def wait_longer(self) -> float:
        """Double the wait after the next end, and return the present one in seconds."""
        wait, self._wait = self._wait, min(2 * self._wait, _LONGEST_WAIT)
        return wait

    def signal(self, number: int) -> None:
        """Send a signal to the process. SIGKILL is sent to all that it started, too."""
        if self._process is None:
            return
        try:
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
        except ProcessLookupError:  # it has just ended
            return

    def _pass_on(self, line: bytes) -> None:
        text = _COLOUR.sub("", line.decode("utf-8", "replace")).rstrip()
        text = _LEVEL.sub(lambda found: "" if found[1] == "INFO" else f"{found[1]}: ", text)
        if text:
            self.last_lines.append(text)
            self._say(f"{self.name}: {text}")


def say(line: str) -> None:
    """Write a line of the log to standard error."""
    print(line, file=sys.stderr, flush=True)
