"""A run of a scenario on a federation that is started for it, and ended with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from fed_unlearn.simulations.deployment.federation import LocalFederation
from fed_unlearn.simulations.deployment.layout import Layout
from fed_unlearn.simulations.engines.app_run import AppRun, run_app, run_settings, scenario_app

_CHECK_SECONDS = 1.0


def run_on_superlink(
    out: Path,
    layout: Layout,
    *,
    oracle: bool = False,
    ledger_key: Path | None = None,
    receipt_key: Path | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    on_end: Callable[[LocalFederation, AppRun], None] | None = None,
) -> AppRun:
    """Run the scenario of a run folder as a Flower app on a SuperLink and nodes of its own, and wait for its end.

    Parameters
    ----------
    out : Path
        The run folder. The resolved ``scenario.toml`` is in it.
    layout : Layout
    oracle : bool
        Whether the retrain oracle is trained.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not to stand beside the ledger.
    receipt_key : Path, optional
        The file of the key that signs receipts, if it is not to stand in the run folder.
    on_line : callable
        Called with every line that the run prints.
    on_end : callable, optional
        Called after the run, while everything is still up. Then everything stays up until it is interrupted.

    Raises
    ------
    EngineError
        If a process does not start, or ends before the run does.
    KeyboardInterrupt
        On Ctrl-C, after the run was stopped and all of its processes ended.
    """
    out = out.resolve()
    settings = run_settings(out, "superlink", oracle=oracle, ledger_key=ledger_key, receipt_key=receipt_key)
    with LocalFederation(out, layout, say=on_line) as federation:
        run = run_app(
            federation.commands,
            scenario_app(),
            settings,
            on_line=on_line,
            check=federation.check,
            stops=False,
        )
        if on_end is not None:
            on_end(federation, run)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    federation.check()
                    time.sleep(_CHECK_SECONDS)
        return run
