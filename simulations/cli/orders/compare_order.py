"""What ``fed-unlearn compare`` was told to compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from fed_unlearn.errors import InvalidParameterError

if TYPE_CHECKING:
    from fed_unlearn.simulations.compare.tables import CompareSettings

_FILE = "FILE"


@dataclass(frozen=True, kw_only=True)
class CompareOrder:
    """A comparison as it was typed; None and empty where nothing was."""

    folders: Annotated[
        tuple[Path, ...], Argument(metavar="DIR...", help="Run folders, sweeps, or folders above them.")
    ] = ()
    figures: Annotated[
        tuple[str, ...],
        Option("--figure", metavar="NAME", help="A figure; may be repeated. all: every one but seconds."),
    ] = ()
    scope: Annotated[
        tuple[str, ...],
        Option(metavar="SCOPE", help="class, sample or client: these requests alone; may be repeated."),
    ] = ()
    baseline: Annotated[
        str | None, Option(metavar="METHOD", help="What others are compared with. Without it, the first.")
    ] = None
    level: Annotated[float, Option(help="Level of the intervals, between 0 and 1.")] = 0.95
    markdown: Annotated[Path | None, Option(metavar=_FILE, help="Write the tables in Markdown.")] = None
    csv: Annotated[Path | None, Option(metavar=_FILE, help="Write a row for each figure and method.")] = None
    runs_csv: Annotated[Path | None, Option(metavar=_FILE, help="Write a row for each run and figure.")] = None
    latex: Annotated[Path | None, Option(metavar=_FILE, help="Write the tables in LaTeX, for booktabs.")] = None
    html: Annotated[Path | None, Option(metavar=_FILE, help="Write the tables as a page.")] = None

    def settings(self) -> CompareSettings:
        """What is compared, and how."""
        from fed_unlearn.simulations.compare.tables import CompareSettings

        return CompareSettings(figures=self.figures, scopes=self.scope, baseline=self.baseline, level=self.level)

    def places(self) -> dict[str, Path]:
        """The files to write, by format.

        Raises
        ------
        InvalidParameterError
            If a file is a folder, or its folder is missing.
        """
        given = {name: getattr(self, name) for name in ("markdown", "csv", "runs_csv", "latex", "html")}
        places = {name: path.expanduser().absolute() for name, path in given.items() if path is not None}
        for name, path in places.items():
            option = f"--{name.replace('_', '-')} {path}"
            if path.is_dir() or not path.parent.is_dir():
                problem = "is a folder" if path.is_dir() else "its folder does not exist"
                raise InvalidParameterError(f"{option}: {problem}; expected a file in a folder that is there")
        return places
