"""Makes the page of a run: one HTML file that loads nothing."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import StorageError
from fed_unlearn.simulations.report.anonymous import anonymised, client_names
from fed_unlearn.simulations.report.charts.words import samples_word
from fed_unlearn.simulations.report.figures import vega_lite_version
from fed_unlearn.simulations.report.page.devices import device_table
from fed_unlearn.simulations.report.page.examples import examples_of
from fed_unlearn.simulations.report.page.facts import facts_of
from fed_unlearn.simulations.report.page.meanings import meanings_of
from fed_unlearn.simulations.report.page.pictures import pictures_of
from fed_unlearn.simulations.report.page.reading import Reading, name_text
from fed_unlearn.simulations.report.page.slimming import one_address, packed
from fed_unlearn.simulations.report.page.source import source_of
from fed_unlearn.simulations.report.page.summary import MEANINGS, headline, request_summaries
from fed_unlearn.simulations.report.page.tables import (
    client_table,
    cost_table,
    named_requests,
    relapse_table,
    request_lives,
)
from fed_unlearn.simulations.report.page.verdicts import MODELS, UNKNOWN_BOUNDS, AuditRow, audit_rows
from fed_unlearn.simulations.run.pseudonyms import is_anonymous
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.text import printable

FILE_NAME = "report.html"
"""Name of the page in a run folder."""

SECTIONS = {
    "summary": "Summary",
    "timeline": "Timeline",
    "requests": "Requests",
    "audits": "Audits",
    "relapse": "Relapse",
    "destinations": "Destinations",
    "features": "Features",
    "membership": "Membership",
    "cost": "Cost",
    "clients": "Clients",
    "settings": "Settings",
    "versions": "Versions",
    "digests": "Digests",
}
"""Headings of the page's sections by their ids, in their order."""

_MAIN_FIGURES = ("forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy", "membership_auc")
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval';"
    " connect-src {}; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, kw_only=True)
class AuditedRequest:
    """A request with the rows of its audit table."""

    id: str
    shown_id: Markup
    target: Markup
    rows: list[AuditRow]

    @property
    def main_rows(self) -> list[AuditRow]:
        """The rows of the figures that every request has."""
        return [row for row in self.rows if row.name in _MAIN_FIGURES]

    @property
    def without_verdict(self) -> str:
        """What is said where no row is inside or outside a bound."""
        unknown = any(row.verdict.words == UNKNOWN_BOUNDS for row in self.rows)
        return UNKNOWN_BOUNDS if unknown else "no bound on these figures"

    @property
    def outside(self) -> list[AuditRow]:
        """The rows that are outside their bound."""
        return [row for row in self.rows if row.verdict.kind == "outside"]

    @property
    def inside(self) -> list[AuditRow]:
        """The rows that are inside their bound."""
        return [row for row in self.rows if row.verdict.kind == "inside"]


def render_report(
    results: RunResults,
    folder: Path,
    *,
    images: bool = False,
    live: bool = False,
    anonymous: bool = False,
) -> str:
    """Make the page of a run.

    Parameters
    ----------
    results : RunResults
        The results of the run, complete or not.
    folder : Path
        Its run folder.
    images : bool
        Whether to show some test images of the forgotten classes.
    live : bool
        Whether the page is served by a run that goes on: its policy then allows connections to its own server.
    anonymous : bool
        Whether clients have letters in place of their names.

    Returns
    -------
    str
        HTML.
    """
    anonymous = anonymous or is_anonymous(folder)  # whoever begins a run says once that nobody is to read names
    if anonymous:
        results = anonymised(results, client_names(folder))
    reading = Reading(results.to_json())
    audited, source = _audited(reading), source_of(results)
    has_oracle = any(request.oracle is not None for request in results.requests)
    return (
        _environment()
        .get_template("page.jinja")
        .render(
            title=f"{printable(results.scenario)}: {source.kind[0].lower()}{source.kind[1:]}",
            source=source,
            samples=samples_word(results),
            policy=_POLICY.format("'self'" if live else "'none'"),
            style=Markup(_text("page.css")),
            library=library(),
            scripts=[Markup(_text("page.js")), *_live_scripts(live)],
            sections=_sections(images),
            reading=reading,
            headline=headline(reading),
            requests=request_summaries(reading),
            meanings=[
                item for item in MEANINGS.items() if any(item[0] == known.evidence for known in results.requests)
            ],
            pictures=pictures_of(results),
            measured_requests=audited,
            models=[model for model in MODELS if model != "oracle" or has_oracle],
            has_oracle=has_oracle,
            glossary=_glossary(audited),
            relapse=relapse_table(reading),
            costs=cost_table(reading),
            lives=request_lives(reading),
            clients=client_table(reading),
            devices=device_table(reading),
            facts=facts_of(folder, anonymous=anonymous),
            examples=examples_of(results, reading, folder) if images else None,
        )
    )


def write_report(
    folder: Path,
    results: RunResults | None = None,
    *,
    images: bool = False,
    anonymous: bool = False,
    to: Path | None = None,
) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    folder : Path
        A run folder.
    results : RunResults, optional
        Its results; read from the folder where they are not given.
    images : bool
        Whether to show some test images of the forgotten classes.
    anonymous : bool
        Whether clients have letters in place of their names.
    to : Path, optional
        The file; ``report.html`` in the run folder by default. One that exists is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ResultsError
        If the folder holds no results.
    StorageError
        If the file cannot be written.
    """
    known = RunResults.load(folder) if results is None else results
    target = folder / FILE_NAME if to is None else to
    page = render_report(known, folder, images=images, anonymous=anonymous)
    try:
        write_atomically(target, page.encode())
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror}; choose another file with --out") from None
    return target


@functools.cache
def library() -> str:
    """The script that draws charts, packed: vega, vega-lite and vega-embed."""
    import vl_convert

    return packed(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version()))


def _sections(images: bool) -> dict[str, str]:
    """Headings by id; examples stand before the settings where they are shown."""
    known, place = list(SECTIONS.items()), list(SECTIONS).index("settings")
    return dict([*known[:place], *([("examples", "Examples")] if images else []), *known[place:]])


def _audited(reading: Reading) -> list[AuditedRequest]:
    return [
        AuditedRequest(id=item.id, shown_id=item.shown_id, target=item.target, rows=rows)
        for item in named_requests(reading)
        if (rows := audit_rows(reading, item.index))
    ]


def _glossary(audited: list[AuditedRequest]) -> list[tuple[Markup, str]]:
    """What the figures are that the page shows."""
    names = dict.fromkeys(row.name for item in audited for row in item.rows)
    return [(name_text(name), meaning) for name, meaning in meanings_of(names).items()]


def _live_scripts(live: bool) -> list[Markup]:
    if not live:
        return []
    folder = Path(__file__).parents[2] / "live"
    return [Markup(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.js"))]


@functools.cache
def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    """The templates. Whatever they are given is escaped, unless it is markup already."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fed_unlearn.simulations.report.page", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    environment.filters["one_address"] = one_address
    return environment
