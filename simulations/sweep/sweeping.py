"""Run a sweep: check it, run its cells side by side, and keep how each ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from rich.console import Console

from fed_unlearn.checkpoints import is_temporary
from fed_unlearn.locks import exclusive
from fed_unlearn.simulations.report.layout import print_line
from fed_unlearn.simulations.run.folders import make_folder, usable_folder
from fed_unlearn.simulations.sweep.cells import argument_list, end_of_run, error_line, is_complete, wait_until_free
from fed_unlearn.simulations.sweep.order import SweepOrder
from fed_unlearn.simulations.sweep.plan import (
    LOCK,
    SweepPlan,
    continued,
    is_sweep_beginning,
    new_plan,
    resumed_plan,
    scenario_file,
)
from fed_unlearn.simulations.sweep.pool import Command, cores, run_commands
from fed_unlearn.simulations.sweep.record import FILE_NAME, OWN, Cell, SweepRecord

SEEDS = (0, 1, 2, 3, 4)
"""The seeds of a sweep that names none."""

_LONGEST_NAME = 100


def run_sweep(order: SweepOrder, console: Console) -> tuple[SweepRecord, Path]:
    """Run the cells of a sweep that are left.

    Parameters
    ----------
    order : SweepOrder
    console : Console

    Returns
    -------
    (SweepRecord, Path)
        How all cells ended, and the folder.

    Raises
    ------
    FedUnlearnError
        If the order cannot be carried out. No cell was begun then.
    KeyboardInterrupt
        On Ctrl-C, after the runs have stopped and it was printed how to go on.
    """
    with ExitStack() as stack:
        if order.resume is not None:
            out = order.resume.expanduser().absolute()
            SweepRecord.load(out)
            stack.enter_context(_sweep_lock(out))
            known = SweepRecord.load(out)
            plan = resumed_plan(known, out, order.methods, order.seeds, oracle=order.oracle or known.oracle)
        else:
            plan = new_plan(
                order.scenarios, order.overrides, order.methods or (OWN,), order.seeds or SEEDS, oracle=order.oracle
            )
            out = _folder(order, plan)
            if out.exists():
                stack.enter_context(_sweep_lock(out))
            if (out / FILE_NAME).exists():
                plan = continued(plan, SweepRecord.load(out), out)
        sweep = _Sweep(plan, out, order.jobs or cores(), console)
        if any(sweep.commands(order.retry_failed)):
            plan.check()
        make_folder(out)
        stack.enter_context(_sweep_lock(out))
        sweep.write(order.retry_failed)
        return sweep.run(), out


class _Sweep:
    """The cells of a plan, run in a folder that is locked."""

    def __init__(self, plan: SweepPlan, out: Path, jobs: int, console: Console) -> None:
        self._plan, self._out, self._jobs, self._console = plan, out, jobs, console
        self._record = plan.record

    def write(self, retries: bool) -> None:
        """Write down what is to be run; failed cells that are tried again have not ended any more."""
        _remove_temporary_files(self._out)
        if retries:
            for end in self._record.ends:
                if end.state == "failed":
                    self._record = self._record.without_end(end.cell)
        self._plan.write(self._out)
        self._record.save(self._out)

    def commands(self, retries: bool = False) -> Iterator[Command[Cell]]:
        """The commands of the cells that are left."""
        for cell in self._record.cells:
            folder, end = cell.folder(self._out), self._record.end_of(cell)
            if end is not None and end.state == "failed" and not retries:
                continue
            if end is None or end.state != "ended" or not is_complete(folder):
                scenario = scenario_file(self._out, cell.scenario, cell.method)
                arguments = argument_list(cell, folder, scenario, oracle=self._record.oracle)
                yield Command(cell, arguments, cell.log(self._out))

    def run(self) -> SweepRecord:
        """Run the cells that are left.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C.
        """
        commands = list(self.commands())
        failed = sum(end.state == "failed" for end in self._record.ends)
        kept = f", {failed} failed before (--retry-failed tries them again)" if failed else ""
        total = len(self._record.cells)
        done = total - len(commands) - failed
        runs = f"{total} run{'' if total == 1 else 's'}"
        self._say(f"{runs}: {done} complete{kept}, {len(commands)} to go, {min(self._jobs, total)} at once")
        try:
            run_commands(self._when_free(commands), self._jobs, self._note)
        except KeyboardInterrupt:
            ended = sum(end.state != "waiting" for end in self._record.ends)
            go_on = f"go on with: fed-unlearn sweep --resume {self._out}"
            self._say(f"interrupted; {ended} of {runs} {'has' if total == 1 else 'have'} ended; {go_on}")
            raise
        return self._record

    def _when_free(self, commands: list[Command[Cell]]) -> Iterator[Command[Cell]]:
        for command in commands:
            wait_until_free(command.name.folder(self._out))
            yield command

    def _note(self, command: Command[Cell], code: int, seconds: float) -> None:
        """Keep how a cell ended, and say so."""
        cell = command.name
        end, told = end_of_run(cell, cell.folder(self._out), code)
        self._record = self._record.with_end(end)
        self._record.save(self._out)
        total, ended = len(self._record.cells), len(self._record.ends)
        reason = f": {error_line(command.log)}; its log is {command.log}" if end.state == "failed" else told
        self._say(f"[{ended}/{total}] {cell.name}: {end.told} after {seconds:.0f} s{reason}")

    def _say(self, text: str) -> None:
        print_line(self._console, text)


def _folder(order: SweepOrder, plan: SweepPlan) -> Path:
    """The absolute path of the sweep's folder, which is new, or holds a sweep."""
    name = "+".join(plan.record.scenarios)[:_LONGEST_NAME]
    out = (order.out if order.out is not None else Path("sweeps") / name).expanduser().absolute()
    if (out / FILE_NAME).is_file():
        return out
    return usable_folder(out, FILE_NAME, is_sweep_beginning)


def _sweep_lock(out: Path) -> AbstractContextManager[None]:
    return exclusive(out / LOCK, f"the sweep {out}", "wait for its end, or end it, or give another --out")


def _remove_temporary_files(out: Path) -> None:
    """Remove what a killed sweep left beside its own files; those of runs are the runs' own."""
    for folder in (out, *(path for path in out.iterdir() if path.is_dir())):
        for path in folder.glob(".*"):
            if is_temporary(path) and path.is_file():
                path.unlink(missing_ok=True)
