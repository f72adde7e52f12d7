"""``fed-unlearn run`` and ``fed-unlearn launch``: check the order, run it on an engine, print and draw the results."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError, StorageError
from fed_unlearn.ledger.key import check_place, read_key
from fed_unlearn.locks import LockedError, run_lock
from fed_unlearn.simulations.cli.answers import of_the_system
from fed_unlearn.simulations.cli.interrupts import never_missing_an_interrupt
from fed_unlearn.simulations.cli.log_lines import print_log_line
from fed_unlearn.simulations.cli.orders.launch_order import LaunchOrder
from fed_unlearn.simulations.cli.orders.receipt_key import check_receipt_key, receipt_key_file
from fed_unlearn.simulations.cli.orders.run_order import RunOrder
from fed_unlearn.simulations.engines.errors import RunFailedError
from fed_unlearn.simulations.live.watching import LivePage, check_live, served, view_of_run
from fed_unlearn.simulations.report.layout import print_line
from fed_unlearn.simulations.run.anonymity import anonymity_of
from fed_unlearn.simulations.run.folders import (
    RECEIPTS,
    SCENARIO_FILE,
    holds_a_run,
    is_beginning,
    is_free,
    is_of_older_version,
    make_folder,
    usable_folder,
)
from fed_unlearn.simulations.run.logs import quiet_flower
from fed_unlearn.simulations.run.missing_receipts import issue_missing
from fed_unlearn.simulations.run.results import FILE_NAME, RunResults
from fed_unlearn.simulations.scenario import Scenario, load_scenario
from fed_unlearn.simulations.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from fed_unlearn.simulations.deployment.federation import LocalFederation
    from fed_unlearn.simulations.engines.app_run import AppRun
    from fed_unlearn.simulations.engines.ray_engine import RayResources
    from fed_unlearn.simulations.report.telling import Telling
    from fed_unlearn.strategies import Event

AnyOrder = RunOrder | LaunchOrder

_OF_OLDER_VERSION = (
    "the run was begun by an older version: it goes on under the bounds of this one, such as max-request-norm = 1;"
    " where a request fails for them, begin a new run that names other bounds"
)


def launch(order: AnyOrder, console: Console, telling: Telling | None = None) -> RunResults | None:
    """Run a scenario and print its progress and results.

    Parameters
    ----------
    order : RunOrder or LaunchOrder
    console : Console
    telling : Telling, optional
        How a run in this process is told of, in place of all its steps and figures.

    Returns
    -------
    RunResults or None
        None if the engine did not finish the run. The reason is printed then.

    Raises
    ------
    FedUnlearnError
        If the order cannot be carried out. Nothing is written then.
    KeyboardInterrupt
        On Ctrl-C, after printing where the results so far are.
    """
    if isinstance(order, RunOrder) and order.engine == "inprocess" and (order.gpus_per_client or order.gpus):
        raise InvalidParameterError(f"--gpus-per-client {order.gpus_per_client:g}: expected 0 without --engine ray")
    scenario, out = _to_resume(order) if order.resume is not None else _to_begin(order)
    check_live(order.live, order.live_port)
    is_measured = order.resume is not None and (out / FILE_NAME).exists()
    if is_measured and (finished := RunResults.load(out)).complete:
        print_line(console, f"{out}: the run is complete; there is nothing to go on with")
        for line in issue_missing(out, _key_file(order), receipt_key_file(order.receipt_key)):
            print_line(console, line)
        _report(finished, out, order, console)
        return finished
    _check(scenario, order, out)
    if order.resume is not None and is_of_older_version(out):
        print_line(console, _OF_OLDER_VERSION)
    view = view_of_run(out, scenario.name) if order.live else None
    with served(view, order.live_port, console) as live:
        return _run_and_report(order, scenario, out, console, live, telling)


def _run_and_report(
    order: AnyOrder, scenario: Scenario, out: Path, console: Console, live: LivePage, telling: Telling | None
) -> RunResults | None:
    is_new = make_folder(out)
    results: RunResults | None
    try:
        if order.runs_on == "inprocess":
            results = _run_in_process(order, scenario, out, console, live, telling)
        else:
            results = _run_as_app(order, scenario, out, console, live)
    except KeyboardInterrupt:
        if (out / FILE_NAME).exists():
            where = f"results so far in {out}; go on with: {_going_on(out, order)}"
        else:
            where = "nothing was measured yet"
            if is_new:
                shutil.rmtree(out, ignore_errors=True)
        print_line(console, f"interrupted; {where}")
        raise
    if results is not None and not (isinstance(order, LaunchOrder) and order.keep):
        if telling is not None:
            telling.report(results, out, console)
        else:
            _report(results, out, order, console)
        live.finish(_finished(out))
    return results


def _to_begin(order: AnyOrder) -> tuple[Scenario, Path]:
    scenario = order.loaded_scenario()
    return scenario, _chosen_folder(order, scenario)


def _to_resume(order: AnyOrder) -> tuple[Scenario, Path]:
    folder = (order.resume or Path()).expanduser().absolute()
    unchanged = ("--set", order.overrides), ("--seed", order.seed is not None), ("--out", order.out)
    for name, given in (*unchanged, ("--tracker", order.trackers), ("--anonymous", order.anonymous)):
        if given:
            raise InvalidParameterError(f"{name} with --resume: a run goes on as it was begun; leave {name} out")
    if not holds_a_run(folder):
        raise InvalidParameterError(f"--resume {folder}: no run was begun there; expected the folder of a run")
    return load_scenario(str(folder / SCENARIO_FILE)), folder


def _chosen_folder(order: AnyOrder, scenario: Scenario) -> Path:
    """The absolute path of the run folder: as ordered, or the first that is free of ``runs/NAME-seedN``, ``...-2``."""
    if order.out is None:
        suffix = "" if order.runs_on == "inprocess" else f"-{order.runs_on}"
        base = Path.cwd() / "runs" / f"{scenario.name}-seed{scenario.seed}{suffix}"
        number = 1
        folder = base
        while not is_free(folder, scenario.to_toml()):
            number += 1
            folder = base.with_name(f"{base.name}-{number}")
    else:
        folder = order.out
    return usable_folder(folder, FILE_NAME, lambda given: is_beginning(given, scenario.to_toml()))


def _check(scenario: Scenario, order: AnyOrder, out: Path) -> None:
    from fed_unlearn.simulations.run.driver import prepare

    if scenario.run.batch_clients is not None and order.runs_on != "inprocess":
        raise InvalidParameterError(
            f"run.batch-clients: {scenario.run.batch_clients} was given, and clients in processes of their own are"
            " trained each by itself; leave it out"
        )
    if isinstance(order, LaunchOrder):
        order.layout(scenario, out).check_port()
    elif order.engine == "ray":
        _resources(scenario, order).federation()
    prepare(scenario, oracle=order.oracle)
    check_receipt_key(receipt_key_file(order.receipt_key))
    if (key := _key_file(order)) is not None:
        if key.exists():
            read_key(key)
        else:
            check_place(key)


def _resources(scenario: Scenario, order: RunOrder) -> RayResources:
    from fed_unlearn.simulations.engines.ray_engine import RayResources

    return RayResources(clients=scenario.clients.count, gpus_per_client=order.gpus_per_client, gpus=order.gpus)


def _run_in_process(
    order: AnyOrder, scenario: Scenario, out: Path, console: Console, live: LivePage, telling: Telling | None
) -> RunResults:
    from fed_unlearn.simulations.report.progress import sentence, watching
    from fed_unlearn.simulations.run.driver import run_in_process

    watch = watching if telling is None else telling.watching
    with quiet_flower(), watch(console) as told, never_missing_an_interrupt(told) as noticed:

        def observer(event: Event) -> None:
            live.say(sentence(event))
            noticed(event)

        try:
            keys = {"ledger_key": _key_file(order), "receipt_key": receipt_key_file(order.receipt_key)}
            return run_in_process(scenario, out, oracle=order.oracle, observer=observer, **keys)
        except (LockedError, ScenarioError):
            raise
        except (FedUnlearnError, OSError) as error:
            if isinstance(error, StorageError | OSError) or isinstance(error.__cause__, OSError):
                raise _stopped_by_storage(error, out, order) from error
            raise RunFailedError(f"{scenario.source_file}: {_told(error, out)}; results so far in {out}") from error


def _told(error: Exception, out: Path) -> str:
    anonymity = anonymity_of(out)
    return str(error) if anonymity is None else anonymity.hidden(str(error))


def _stopped_by_storage(error: Exception, out: Path, order: AnyOrder) -> StorageError:
    """An error of the disk, with what to do about the run."""
    told = of_the_system(error) if isinstance(error, OSError) else str(error)
    again = f"go on with: {_going_on(out, order)}" if holds_a_run(out) else "begin the run again"
    return StorageError(f"{told}; see that the folder is there, can be written and has room, and {again}")


def _going_on(out: Path, order: AnyOrder) -> str:
    """The command that goes on with a run."""
    keys = {"--ledger-key": _key_file(order), "--receipt-key": receipt_key_file(order.receipt_key)}
    return " ".join([order.going_on, str(out), *(f"{name} {key}" for name, key in keys.items() if key is not None)])


def _key_file(order: AnyOrder) -> Path | None:
    """The absolute path of the ledger's key, if the operator names one."""
    return None if order.ledger_key is None else order.ledger_key.expanduser().absolute()


def _run_as_app(order: AnyOrder, scenario: Scenario, out: Path, console: Console, live: LivePage) -> RunResults | None:
    """Run the scenario as a Flower app, by ``flwr run``."""
    from fed_unlearn.simulations.run.driver import write_scenario

    with run_lock(out):
        write_scenario(scenario, out)
    run = _app_run(order, scenario, out, console, live)
    if run.completed:
        return RunResults.load(out)
    anonymity = anonymity_of(out)
    line = run.error_line if anonymity is None else anonymity.hidden(run.error_line)
    print_line(console, f"the run ended {run.status}: {line}")
    print_line(console, f"its log is in {out}")
    return None


def _app_run(order: AnyOrder, scenario: Scenario, out: Path, console: Console, live: LivePage) -> AppRun:
    on_line = functools.partial(print_log_line, console=console, anonymity=anonymity_of(out), say=live.say)
    if isinstance(order, LaunchOrder):
        from fed_unlearn.simulations.deployment.run import run_on_superlink

        layout = order.layout(scenario, out)
        console.print(f"starting a SuperLink and {layout.nodes} nodes", highlight=False)

        def stay(federation: LocalFederation, run: AppRun) -> None:
            if run.completed:
                _report(RunResults.load(out), out, order, console)
                live.finish(f"{_finished(out)}; the federation stays up")
            print_line(console, f"all stays up until Ctrl-C: {federation.how_to_use}")

        return run_on_superlink(
            out,
            layout,
            oracle=order.oracle,
            ledger_key=_key_file(order),
            receipt_key=receipt_key_file(order.receipt_key),
            on_line=on_line,
            on_end=stay if order.keep else None,
        )
    from fed_unlearn.simulations.engines.ray_engine import run_on_ray

    console.print("starting Flower's simulation runtime", highlight=False)
    resources = _resources(scenario, order)
    keys = {"ledger_key": _key_file(order), "receipt_key": receipt_key_file(order.receipt_key)}
    return run_on_ray(out, resources, oracle=order.oracle, on_line=on_line, **keys)


def _finished(out: Path) -> str:
    from fed_unlearn.simulations.report.page import FILE_NAME as REPORT_FILE

    return f"finished; the report is {out / REPORT_FILE}"


def _report(results: RunResults, out: Path, order: AnyOrder, console: Console) -> None:
    from fed_unlearn.simulations.cli.ledger import opened_ledger
    from fed_unlearn.simulations.report.anonymous import shown
    from fed_unlearn.simulations.report.pages import write_pages
    from fed_unlearn.simulations.report.table import print_results

    print_results(shown(results, out), console)
    if (out / "ledger.db").is_file():
        with opened_ledger(out, order.ledger_key) as ledger:
            events, digest = ledger.head()
        print_line(console, f"ledger: {events} events, head {digest}")
    if (out / RECEIPTS).is_dir():
        print_line(console, f"receipts in {out / RECEIPTS}")
    print_line(console, f"results in {out}")
    for line in write_pages(results, out):
        print_line(console, line)
