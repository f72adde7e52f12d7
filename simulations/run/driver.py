"""Runs a scenario on any Flower Grid: training, requests and oracles, all recorded in the run folder."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from flwr.serverapp import Grid

from fed_unlearn.checkpoints import make_private_folder, remove_temporary_files, write_atomically
from fed_unlearn.class_names import UNNAMED_CLASSES
from fed_unlearn.errors import InvalidRequestError, collected, problems_of
from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import run_lock
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.run.assembly import new_inner_strategy, new_plan
from fed_unlearn.simulations.run.data_checks import Prepared, check_parts
from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.run.scenario_run import ScenarioRun
from fed_unlearn.simulations.run.stream import keep_experiences
from fed_unlearn.simulations.scenario.errors import errors_at, raise_any
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.tracking.tracking import check_trackers
from fed_unlearn.strategies import Observer


def prepare(scenario: Scenario, *, oracle: bool = False) -> Prepared:
    """Load the data and the model of a scenario, and check that all parts fit each other.

    Parameters
    ----------
    scenario : Scenario
    oracle : bool
        Whether retrain oracles are wanted.

    Raises
    ------
    FedUnlearnError
        If there is a problem. The message has a line for each, with place in the file, value and what is allowed.
    """
    problems: list[str] = []
    with collected(problems):
        prepared = check_parts(scenario)
        if scenario.run.batch_clients is not None:
            from fed_unlearn.simulations.engines.batching import check_batching

            check_batching(scenario)
    if oracle and scenario.model.checkpoint is not None:
        problems.append(
            f"{scenario.source_file}: --oracle with model.checkpoint: the model was trained elsewhere, so there is no"
            " training to repeat; leave one of them out"
        )
    problems += problems_of(new_inner_strategy, scenario)
    problems += problems_of(check_trackers, scenario)
    plan = new_plan(scenario)
    for index, request in _requests_of(scenario, None if problems else prepared):
        with collected(problems), errors_at(scenario, "timeline", index, "forget"):
            plan.parameters_of(request)
    raise_any(problems)
    return prepared


def _requests_of(scenario: Scenario, prepared: Prepared | None) -> Iterator[tuple[int, ForgetRequest]]:
    """The requests of a timeline; without those of classes that there are not, which were told of."""
    names = UNNAMED_CLASSES if prepared is None else prepared.source.classes
    for index, steps in scenario.forget_entries():
        for step in steps:
            try:
                request = scenario.request_of(step, names=names)
            except InvalidRequestError:
                continue
            yield index, request


def run_in_process(
    scenario: Scenario,
    out: Path,
    *,
    oracle: bool = False,
    observer: Observer | None = None,
    ledger_key: Path | None = None,
    receipt_key: Path | None = None,
) -> RunResults:
    """Run a scenario in this process, without Ray and sockets.

    Parameters
    ----------
    scenario : Scenario
    out : Path
        The run folder. It is made after the scenario was checked. If it holds part of the same run, the run continues.
    oracle : bool
        Train the retrain oracle for every request.
    observer : callable, optional
        Called with every event of the run.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not to stand beside the ledger.
    receipt_key : Path, optional
        The file of the key that signs receipts, if it is not to stand in the run folder.

    Raises
    ------
    FedUnlearnError
        If the scenario does not fit its data or model. Nothing is written then.
    """
    prepared = prepare(scenario, oracle=oracle)
    make_private_folder(out)
    with run_lock(out), frozen_objects():
        grid = in_process_grid(scenario, out)
        return serve(
            prepared,
            grid,
            out,
            engine="inprocess",
            oracle=oracle,
            observer=observer,
            ledger_key=ledger_key,
            receipt_key=receipt_key,
        )


def in_process_grid(scenario: Scenario, out: Path) -> Grid:
    """Make the run folder of a scenario, and a grid of its clients in this process."""
    from fed_unlearn.simulations.client_app import app
    from fed_unlearn.simulations.engines.batching import BatchedTraining
    from fed_unlearn.simulations.inprocess import InProcessGrid

    write_scenario(scenario, out)
    batch = scenario.run.batch_clients
    return InProcessGrid(
        app,
        scenario.clients.count,
        run_config={"scenario": str(out / SCENARIO_FILE), "out": str(out)},
        prepare=None if batch is None else BatchedTraining(),
        prepared_at_once=batch or 1,
    )


@contextmanager
def frozen_objects() -> Iterator[None]:
    """Keep the garbage collector away from all objects that exist, and restore torch's number of threads at the end.

    The libraries' objects stay until the process ends. Looking at them again and again costs a twentieth of a run.
    """
    threads = torch.get_num_threads()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)


def write_scenario(scenario: Scenario, out: Path) -> None:
    """Make the run folder and write the resolved scenario into it. A scenario that is there already stays."""
    make_private_folder(out)
    if not (out / SCENARIO_FILE).exists():
        write_atomically(out / SCENARIO_FILE, scenario.to_toml().encode())


def serve(
    prepared: Prepared,
    grid: Grid,
    out: Path,
    *,
    engine: str,
    oracle: bool = False,
    observer: Observer | None = None,
    ledger_key: Path | None = None,
    receipt_key: Path | None = None,
    stays: bool = False,
) -> RunResults:
    """Run a prepared scenario on a Grid. If the folder holds part of the run, continue it.

    Parameters
    ----------
    prepared : Prepared
    grid : Grid
        The grid. Its clients run :mod:`fed_unlearn.simulations.client_app` with the same scenario.
    out : Path
        The run folder.
    engine : str
        The engine's name in the results.
    oracle : bool
        Train the retrain oracle for every request.
    observer : callable, optional
        Called with every event of the run.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not to stand beside the ledger.
    receipt_key : Path, optional
        The file of the key that signs receipts, if it is not to stand in the run folder.
    stays : bool
        Whether to go on serving requests after the timeline, until the order to stop.

    Raises
    ------
    FedUnlearnError
        If the folder holds part of another run, or of this run with other experiences.
    """
    out = out.resolve()
    make_private_folder(out)
    with run_lock(out):
        remove_temporary_files(out)
        write_scenario(prepared.scenario, out)
        if prepared.experiences is not None:
            keep_experiences(prepared.scenario, prepared.experiences, out)
        with closing(Ledger(out / "ledger.db", key=ledger_key)) as ledger:
            run = ScenarioRun(
                prepared,
                grid,
                out,
                ledger,
                engine=engine,
                oracle=oracle,
                observer=observer,
                stays=stays,
                receipt_key=receipt_key,
            )
            return run.results()
