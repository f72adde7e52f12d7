"""The tables of the page: relapse, cost and clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from markupsafe import Markup

from fed_unlearn.simulations.report.page.reading import DASH, Key, Reading, name_text
from fed_unlearn.simulations.report.page.words import target_markup
from fed_unlearn.strategies.clients.messages.exchange import client_order
from fed_unlearn.text import printable

_MOST_CLIENTS = 60
"""Clients that trained and are named; further ones are counted."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A request, a part or a client, with what the page calls it."""

    id: str
    shown_id: Markup
    target: Markup
    index: int


@dataclass(frozen=True, kw_only=True)
class RelapseCell:
    """One cell of the relapse matrix."""

    id: str
    shown: Markup
    relapsed: bool


@dataclass(frozen=True, kw_only=True)
class RelapseLine:
    """One event of the relapse matrix."""

    after: Markup
    cells: list[RelapseCell]


@dataclass(frozen=True, kw_only=True)
class RelapseTable:
    """The accuracy on what each request forgot, after every later event."""

    columns: list[Named]
    rows: list[RelapseLine]

    @property
    def relapsed(self) -> bool:
        """Whether some request has relapsed."""
        return any(cell.relapsed for row in self.rows for cell in row.cells)


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """What every request cost: the parts of its sample passes, and the requests that were served."""

    parts: list[tuple[str, Markup]]
    rows: list[Named]


@dataclass(frozen=True, kw_only=True)
class Life:
    """When a request came and ended, and between which models."""

    id: str
    shown_id: Markup
    submitted: Markup
    ended: Markup
    before: Markup
    after: Markup


@dataclass(frozen=True, kw_only=True)
class ClientRow:
    """One client: whether it trained, and what went wrong."""

    name: Markup
    kind: str
    mark: str
    state: str
    failures: list[tuple[Markup, Markup]] = field(default_factory=list)
    owed: Sequence[Markup] = ()
    left_out: Sequence[Markup] = ()


@dataclass(frozen=True, kw_only=True)
class ClientTable:
    """The clients of a run."""

    sentence: Markup
    trained: list[Markup]
    rows: list[ClientRow]

    @property
    def has_failures(self) -> bool:
        """Whether some client failed in a round."""
        return any(row.failures for row in self.rows)

    @property
    def has_owed(self) -> bool:
        """Whether some client owes tombstones."""
        return any(row.owed for row in self.rows)

    @property
    def has_left_out(self) -> bool:
        """Whether some client was not heard in a verdict."""
        return any(row.left_out for row in self.rows)


def named_requests(reading: Reading) -> list[Named]:
    """All requests, with what the page calls them."""
    return [
        Named(
            id=request["id"],
            shown_id=reading.text("requests", index, "id"),
            target=target_markup(reading, index),
            index=index,
        )
        for index, request in enumerate(reading.value("requests") or ())
    ]


def relapse_table(reading: Reading) -> RelapseTable:
    """The relapse matrix. Requests that no row has a figure of are left out."""
    rows = reading.value("relapse") or ()
    kinds = {
        request["id"]: "test_forget_accuracy" if request["scope"] == "class" else "forget_accuracy"
        for request in reading.value("requests") or ()
    }
    columns = [item for item in named_requests(reading) if any(item.id in row[kinds[item.id]] for row in rows)]
    lines = [
        RelapseLine(
            after=reading.text("relapse", number, "after"),
            cells=[
                RelapseCell(
                    id=item.id,
                    shown=reading.number("relapse", number, kinds[item.id], item.id),
                    relapsed=item.id in row["relapsed"],
                )
                for item in columns
            ],
        )
        for number, row in enumerate(rows)
    ]
    return RelapseTable(columns=columns, rows=lines)


def cost_table(reading: Reading) -> CostTable:
    """What every request cost. Requests that were never served are left out."""
    requests = reading.value("requests") or ()
    parts = dict.fromkeys(part for request in requests for part in request.get("passes_by_part") or {})
    served = [
        item for item in named_requests(reading) if requests[item.index]["passes"] or requests[item.index]["messages"]
    ]
    return CostTable(parts=[(part, name_text(part)) for part in parts], rows=served)


def request_lives(reading: Reading) -> list[Life]:
    """When every request came and ended, and between which models; without those that the results say nothing of."""
    return [
        Life(
            id=item.id,
            shown_id=item.shown_id,
            submitted=_moment(reading, item.index, "submitted"),
            ended=_moment(reading, item.index, "ended"),
            before=_digest(reading, item.index, "model_before"),
            after=_digest(reading, item.index, "model_after"),
        )
        for item in named_requests(reading)
        if reading.value("requests", item.index, "submitted") is not None
    ]


def _moment(reading: Reading, index: int, key: str) -> Markup:
    seconds = reading.value("requests", index, key)
    if seconds is None:
        return Markup("{}").format(DASH)
    moment = datetime.fromtimestamp(seconds, UTC)
    shown = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), shown)


def _digest(reading: Reading, index: int, key: str) -> Markup:
    if reading.value("requests", index, key) is None:
        return Markup("{}").format(DASH)
    return Markup("<code>{}</code>").format(reading.text("requests", index, key))


def client_table(reading: Reading) -> ClientTable:
    """Who trained, who failed and why, who owes tombstones, and who is left out."""
    training = reading.value("training") or {}
    trained = {name: index for index, name in enumerate(training.get("trained_clients") or ())}
    never: Mapping[str, str] = training.get("never_trained") or {}
    failures: dict[str, dict[str, tuple[Key, ...]]] = {}
    for number, entry in enumerate(training.get("clients") or ()):
        for name, why in entry["failed"].items():
            failures.setdefault(name, {}).setdefault(why, ("training", "clients", number, "failed", name))
    owed, left_out, departed = _named_by_requests(reading)
    names = sorted({*trained, *never, *failures, *owed, *left_out, *departed}, key=client_order)
    rows = []
    for name in names:
        place = ("training", "trained_clients", trained[name]) if name in trained else None
        kind, mark, state = _state(name in trained, name in never, name in departed)
        row = ClientRow(
            name=reading.text(*place) if place else _name(name),
            kind=kind,
            mark=mark,
            state=state,
            failures=[
                (reading.count("training", "clients", where=(("failed", name), why)), reading.text(*at))
                for why, at in failures.get(name, {}).items()
            ],
            owed=owed.get(name, ()),
            left_out=left_out.get(name, ()),
        )
        if row.failures or row.owed or row.left_out or kind != "inside":
            rows.append(row)
    single = reading.value("training", "rounds") == 1
    sentence = Markup("{} client{} trained in {}{} round{}").format(
        reading.count("training", "trained_clients"),
        "" if len(trained) == 1 else "s",
        "" if single else "at least one of ",
        reading.number("training", "rounds"),
        "" if single else "s",
    )
    listed = sorted(trained, key=client_order)
    shown = [reading.text("training", "trained_clients", trained[name]) for name in listed[:_MOST_CLIENTS]]
    if len(listed) > _MOST_CLIENTS:
        shown.append(Markup("and others"))
    return ClientTable(sentence=sentence, trained=shown, rows=rows)


def _named_by_requests(reading: Reading) -> tuple[dict[str, list[Markup]], dict[str, list[Markup]], set[str]]:
    """Requests whose tombstones each client owes, those whose verdict left it out, and clients that were forgotten."""
    owed, left_out, departed = dict[str, list[Markup]](), dict[str, list[Markup]](), set[str]()
    for index, request in enumerate(reading.value("requests") or ()):
        for key, found in (("owed", owed), ("left_out", left_out)):
            for client in request.get(key) or ():
                found.setdefault(client, []).append(reading.text("requests", index, "id"))
        if request["scope"] == "client" and request["status"] == "committed":
            departed.add(str(request["target"]["client"]))
    return owed, left_out, departed


def _state(has_trained: bool, never: bool, departed: bool) -> tuple[str, str, str]:
    if departed:
        return "none", "→", "trained, was forgotten and is left out since" if has_trained else "left out: forgotten"
    if has_trained:
        return "inside", "✓", "trained"
    return ("outside", "✕", "never trained") if never else ("none", DASH, "was not asked")


def _name(name: str) -> Markup:
    return Markup('<span data-name="client">{}</span>').format(printable(name))
