"""What ``fed-unlearn sweep`` was told to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.override_option import Overrides
from fed_unlearn.simulations.seeds import parsed_names, parsed_seeds
from fed_unlearn.text import quoted


def _methods(text: str) -> tuple[str, ...]:
    """The methods of a list that names some."""
    names = parsed_names(text)
    if not names:
        raise BadParameter(f"{quoted(text)} was given; expected a method or several, such as delete,scrub")
    return names


@dataclass(frozen=True, kw_only=True)
class SweepOrder:
    """A sweep as it was typed; None and empty where nothing was."""

    scenarios: Annotated[
        tuple[str, ...], Argument(metavar="SCENARIO...", help="Built-in scenarios or TOML files.")
    ] = ()
    methods: Annotated[
        tuple[str, ...],
        Option(
            parser=_methods,
            metavar="A,B",
            help="Methods, each in place of the scenario's own wherever it serves; own: the scenario as it is.",
        ),
    ] = ()
    seeds: Annotated[
        tuple[int, ...], Option(parser=parsed_seeds, metavar="SEEDS", help="0-4, or 0,3,7-9. Without it, 0-4.")
    ] = ()
    overrides: Overrides = ()
    jobs: Annotated[int | None, Option(min=1, max=1024, help="Runs at once. Without it, one a core.")] = None
    oracle: Annotated[bool, Option("--oracle", help="Retrain from scratch for every request, to compare.")] = False
    out: Annotated[Path | None, Option(metavar="DIR", help="The sweep's folder. Without it, sweeps/SCENARIO.")] = None
    resume: Annotated[
        Path | None, Option(metavar="DIR", help="Go on with a sweep; --methods and --seeds add to its own.")
    ] = None
    retry_failed: Annotated[bool, Option("--retry-failed", help="Try runs again that failed.")] = False

    def __post_init__(self) -> None:
        if self.resume is None:
            if not self.scenarios:
                raise InvalidParameterError("no scenario was given; expected one to sweep, or --resume DIR")
            if any(override.partition("=")[0].strip() == "seed" for override in self.overrides):
                raise InvalidParameterError("--set seed with a sweep: its runs have seeds of their own; give --seeds")
            return
        for name, given in (("a scenario", self.scenarios), ("--set", self.overrides), ("--out", self.out)):
            if given:
                raise InvalidParameterError(f"{name} with --resume: a sweep goes on as it was begun; leave {name} out")
