"""The command that compares runs."""

from __future__ import annotations

from fed_unlearn.simulations.cli.orders.codes import COMMITTED
from fed_unlearn.simulations.cli.orders.compare_order import CompareOrder
from fed_unlearn.simulations.cli.orders.options import with_options


@with_options
def compare(order: CompareOrder) -> int:
    """Compare the methods of runs over seeds: means, paired differences with intervals, and ranks."""
    from rich.console import Console

    from fed_unlearn.errors import InvalidParameterError
    from fed_unlearn.simulations.compare.comparison import comparison_of
    from fed_unlearn.simulations.compare.printed import print_comparison
    from fed_unlearn.simulations.compare.runs import found_runs
    from fed_unlearn.simulations.compare.written import write_comparison

    if not order.folders:
        raise InvalidParameterError("no folder was given; expected the folder of a run or of a sweep, or one above")
    settings, places = order.settings(), order.places()
    comparison = comparison_of(found_runs(order.folders), settings)
    write_comparison(comparison, places)  # first: whoever reads the tables may stop reading, as head does
    print_comparison(comparison, Console())
    return COMMITTED
