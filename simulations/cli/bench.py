"""The commands below ``fed-unlearn bench``. Commands import heavy libraries only when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from fed_unlearn.simulations.bench.sequence.settings import SequenceSettings
from fed_unlearn.simulations.bench.settings import MethodBenchSettings
from fed_unlearn.simulations.cli.orders.options import with_options
from fed_unlearn.simulations.override_option import Overrides

bench = typer.Typer(help="Measure what things cost on this machine.", no_args_is_help=True)


@bench.command()
@with_options
def overhead(
    scenario: Annotated[str, typer.Argument(help="A scenario that begins with training by FedAvg.")] = "digits",
    overrides: Overrides = (),
    repetitions: Annotated[int, typer.Option(min=1, help="How often everything is measured, alternating.")] = 5,
    ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Measure the Ray engine too.")] = True,
) -> int:
    """Compare the same training as a plain PyTorch loop, in process, and on Ray."""
    from fed_unlearn.simulations.bench.overhead import measure_overhead
    from fed_unlearn.simulations.bench.table import print_overhead
    from fed_unlearn.simulations.scenario import load_scenario

    report = measure_overhead(
        load_scenario(scenario, overrides), repetitions=repetitions, with_ray=ray, on_progress=print
    )
    print_overhead(report)
    return 0 if report.arrays_equal else 1


@bench.command("methods")
@with_options
def bench_methods(settings: MethodBenchSettings) -> int:
    """Compare unlearning methods on your model and data, in one table and one figure; no federation."""
    from rich.console import Console

    from fed_unlearn.simulations.bench.methods import run_method_bench
    from fed_unlearn.simulations.bench.table import print_bench

    report = run_method_bench(settings, on_progress=lambda text: print(text, flush=True))
    print_bench(report, settings.out, Console())
    return 1 if report.has_errors else 0


@bench.command("sequence")
@with_options
def bench_sequence(settings: SequenceSettings) -> int:
    """Measure each earlier request of a scenario after every later event, beside oracles trained for that moment."""
    from rich.console import Console

    from fed_unlearn.simulations.bench.sequence.bench import run_sequence_bench
    from fed_unlearn.simulations.bench.sequence.table import print_sequence

    report = run_sequence_bench(settings, on_progress=lambda text: print(text, flush=True))
    print_sequence(report, settings.out, Console())
    return 0
