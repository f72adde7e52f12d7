"""The figures and the report of a run, written at its end. What goes wrong with them changes nothing of the run."""

from __future__ import annotations

import logging
from pathlib import Path

from fed_unlearn.simulations.run.pseudonyms import is_anonymous
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.text import printable

logger = logging.getLogger("fed_unlearn.simulations")


def write_pages(results: RunResults, folder: Path, *, anonymous: bool = False) -> list[str]:
    """Draw the figures of a run and write its report.

    Parameters
    ----------
    results : RunResults
    folder : Path
        The run folder.
    anonymous : bool
        Whether clients have letters in place of their names. So they have where the run was begun with ``--anonymous``.

    Returns
    -------
    list of str
        Lines to print: where the report is, or why there is none.
    """
    from fed_unlearn.simulations.report.anonymous import anonymised, client_names
    from fed_unlearn.simulations.report.figures import write_figures
    from fed_unlearn.simulations.report.page import write_report

    anonymous = anonymous or is_anonymous(folder)
    lines = []
    try:
        write_figures(anonymised(results, client_names(folder)) if anonymous else results, folder / "figures")
    except Exception as error:  # the run has ended and its results are kept: a drawing must not make it fail
        lines.append(_told("figures", error))
    try:
        lines.append(f"report: {write_report(folder, results, anonymous=anonymous)}")
    except Exception as error:
        lines.append(_told("report", error))
    return lines


def _told(what: str, error: Exception) -> str:
    logger.debug("the %s could not be made", what, exc_info=error)
    why = printable(f"{type(error).__name__}: {error}", 300)
    return f"no {what} could be made ({why}); the results are complete: fed-unlearn report makes it again"
