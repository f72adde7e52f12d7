"""A server that stays, driven from outside while it sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fault_trials import Trial
from federation import initial_arrays

from fed_unlearn.ledger import Ledger
from fed_unlearn.strategies import Forget, ServeSettings, Train, UnlearningResult
from fed_unlearn.strategies.staying.stopping import order_stop

FAST = ServeSettings(ledger_seconds=0.01, node_seconds=0.01, owner_seconds=3600.0, retry_seconds=3600.0)


def in_turns(
    trial: Trial,
    *steps: Callable[[Ledger], object],
    timeline: tuple[Train | Forget, ...] = (),
    settings: ServeSettings = FAST,
) -> None:
    """Serve; after each turn one more of the steps is taken from outside, with a ledger of its own; then it is stopped.

    A step is taken a moment after the turn, while the server sleeps.
    """
    path, left = trial.strategy.ledger.path, [*steps, order_stop]

    def take() -> None:
        time.sleep(0.05)
        ledger = Ledger(path, create=False)
        left.pop(0)(ledger)
        ledger.close()

    def turned(_: UnlearningResult) -> None:
        threads.append(threading.Thread(target=take))
        threads[-1].start()

    threads: list[threading.Thread] = []
    trial.strategy.serve(trial.grid, timeline, initial_arrays(), timeout=0.2, settings=settings, on_turn=turned)
    for thread in threads:
        thread.join()
    assert not left
