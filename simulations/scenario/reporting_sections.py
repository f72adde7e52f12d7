"""``[reporting]``: who is told of a run besides its own results."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from fed_unlearn.simulations.scenario.section_types import Section, as_tuple


class ReportingSection(Section):
    """``[reporting]``: the server's models evaluated by Avalanche's EvaluationPlugin, and written down by its loggers.

    ``loggers`` are any of ``text`` (``reports/text.log``), ``tensorboard`` (``reports/tensorboard``) and ``csv``
    (``reports/metrics.csv``) of the run folder. Without any Avalanche is not imported.
    """

    loggers: Annotated[tuple[Literal["text", "tensorboard", "csv"], ...], BeforeValidator(as_tuple)] = ()
