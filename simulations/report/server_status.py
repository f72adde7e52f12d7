"""What ``fed-unlearn status`` prints: who is there, what runs, what waits and why, what is owed, and last audits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from fed_unlearn.class_names import ClassNames
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.locks import worker_on
from fed_unlearn.simulations.report.layout import plain_table, plain_text
from fed_unlearn.simulations.report.ledger_tables import is_overdue, target_text, time_text
from fed_unlearn.simulations.report.outcome_facts import evidence_of
from fed_unlearn.strategies.clients.messages.exchange import client_order
from fed_unlearn.strategies.outcomes import RelapseRow
from fed_unlearn.strategies.serving.relapse import relapse_rows
from fed_unlearn.strategies.state import rounds_of_open_training
from fed_unlearn.strategies.staying.live_status import SILENT_SECONDS, LiveStatus, read_live_status
from fed_unlearn.strategies.staying.present import is_said_by
from fed_unlearn.strategies.staying.stopping import is_stop_ordered
from fed_unlearn.strategies.worn_off import worn_off_at

_UNBOUNDED = 10_000  # columns, where the output is no terminal: nothing is folded


_CLIENT_HEADINGS = ("client", "state", "owes", "reason")
_REQUEST_HEADINGS = ("id", "target", "status", "evidence", "last audit", "owed by", "reason")


@dataclass(frozen=True)
class ServerStatus:
    """How a federation stands, by its ledger and by what its server says.

    Attributes
    ----------
    live : LiveStatus or None
        What the last server that stayed said; None if none ever did.
    process : int or None
        The process of this machine that works on the ledger; None if there is none.
    body : mapping
        The whole status as a JSON object. Times are in seconds since the epoch.
    """

    live: LiveStatus | None
    process: int | None
    body: Mapping[str, object]

    @classmethod
    def of(cls, ledger: Ledger) -> ServerStatus:
        """The status of a ledger's federation now."""
        live, worker = read_live_status(ledger.path), worker_on(ledger.path)
        process = None if worker is None else worker.process
        if worker is not None and not is_said_by(worker, live):
            live = None
        entries, training, names = ledger.entries(), rounds_of_open_training(ledger), ledger.class_names()
        last = _last_audits(relapse_rows(ledger))
        body: dict[str, object] = {
            "ledger": str(ledger.path),
            "model": ledger.served_model(),
            "server": _server_json(live, process, ledger),
            "training": None if training is None else dict(zip(("name", "done", "rounds"), training, strict=True)),
            "clients": _clients_json(ledger, entries, live if process is not None else None),
            "requests": [_request_json(entry, last.get(entry.id), names) for entry in entries],
            "owed": {entry.id: list(entry.owed) for entry in entries if entry.owed},
        }
        return cls(live, process, body)

    @property
    def is_healthy(self) -> bool:
        """Whether a server works on the ledger, says so, and nothing went wrong when it last did something."""
        return self.process is not None and (
            self.live is None or (self.live.problem is None and self.live.silent_for < SILENT_SECONDS)
        )

    def print(self) -> None:
        """Print it as facts and tables."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_UNBOUNDED)
        for name, value in self._facts().items():
            console.print(Text(f"{name:<10}", style="bold").append_text(plain_text(value, "not bold")))
        for title, headings, rows in (
            ("clients", ("client", "state", "owes", "reason"), self._client_rows()),
            (
                "requests",
                ("id", "target", "status", "evidence", "last audit", "owed by", "reason"),
                self._request_rows(),
            ),
        ):
            table = plain_table(*headings)
            for row in rows:
                table.add_row(*map(plain_text, row))
            console.print()
            console.print(table if rows else f"no {title}")

    def _facts(self) -> dict[str, str]:
        facts = {"ledger": str(self.body["ledger"]), "model": str(self.body["model"] or "none accepted yet")}
        if self.process is None:
            facts["server"] = "none works on the ledger"
            if self.live is not None:
                facts["server"] += f"; the last one, process {self.live.process}: {self.live.doing}"
        elif self.live is None:
            facts["server"] = f"process {self.process} works on the ledger"
        else:
            facts["server"] = f"process {self.process} since {time_text(self.live.started)}"
            facts["doing"] = f"{self.live.doing}, since {time_text(self.live.since)}"
            if self.live.wakes_at is not None:
                facts["wakes at"] = time_text(self.live.wakes_at)
            if self.live.problem is not None:
                facts["problem"] = self.live.problem
            if self.live.silent_for >= SILENT_SECONDS:
                facts["silent"] = f"it has said nothing since {time_text(self.live.written)}: it hangs, or works long"
            facts["messages"] = str(self.live.messages)
        training = self.body["training"]
        if isinstance(training, dict):
            facts["training"] = f"{training['name']}: {training['done']} of {training['rounds']} rounds done"
        return facts

    def _client_rows(self) -> list[tuple[str, ...]]:
        return [
            (str(row["client"]), str(row["state"]), ", ".join(map(str, _list(row["owes"]))), str(row["reason"] or ""))
            for row in _rows(self.body["clients"])
        ]

    def _request_rows(self) -> list[tuple[str, ...]]:
        return [
            (
                *(str(row[name] or "") for name in ("id", "target", "status", "evidence")),
                _audit_text(row["last_audit"]),
                ", ".join(map(str, _list(row["owed"]))),
                str(row["reason"] or "") + (" overdue" if row["overdue"] else ""),
            )
            for row in _rows(self.body["requests"])
        ]


def _server_json(live: LiveStatus | None, process: int | None, ledger: Ledger) -> dict[str, object]:
    said: dict[str, object] = {} if live is None else dict(vars(live))
    for name in ("connected", "left_out"):  # they stand with the clients
        said.pop(name, None)
    return {**said, "running": process is not None, "process": process, "stop_ordered": is_stop_ordered(ledger)}


def _clients_json(ledger: Ledger, entries: list[LedgerEntry], live: LiveStatus | None) -> list[dict[str, object]]:
    departed = ledger.departed()
    connected, left_out = ((), {}) if live is None else (live.connected, dict(live.left_out))

    def state_of(client: str) -> str:
        if client in departed:
            return "departed"
        if live is None:
            return "unknown"
        return "left out" if client in left_out else "connected" if client in connected else "away"

    names = sorted({*ledger.known_clients(), *left_out}, key=client_order)
    return [
        {
            "client": name,
            "state": state_of(name),
            "reason": left_out.get(name),
            "owes": [entry.id for entry in entries if name in entry.owed],
        }
        for name in names
    ]


def _request_json(entry: LedgerEntry, audit: Mapping[str, object] | None, names: ClassNames) -> dict[str, object]:
    return {
        "id": entry.id,
        "scope": entry.request.scope.kind,
        "target": f"{entry.request.scope.kind} {target_text(entry.request, names)}",
        "status": entry.status.value,
        "waits": entry.status in (Status.RECEIVED, Status.WAITING, Status.HELD),
        "reason": entry.reason,
        "attempt": entry.attempt,
        "deadline": entry.request.deadline,
        "overdue": is_overdue(entry),
        "evidence": evidence_of(entry),
        "owed": list(entry.owed),
        "last_audit": audit,
    }


def _last_audits(rows: list[RelapseRow]) -> dict[str, dict[str, object]]:
    """By request, the figures of the last audit after a commit or a training."""
    last: dict[str, dict[str, object]] = {}
    for row in rows:
        for name in {*row.forget_accuracy, *row.test_forget_accuracy, *row.relapsed}:
            last[name] = {
                "after": row.after,
                "forget_accuracy": row.forget_accuracy.get(name),
                "test_forget_accuracy": row.test_forget_accuracy.get(name),
                "relapsed": worn_off_at(rows, name) is not None,
            }
    return last


def _audit_text(audit: object) -> str:
    if not isinstance(audit, dict):
        return ""
    figures = (
        f"{what} {audit[name]:.3f}"
        for what, name in (("forget", "forget_accuracy"), ("test", "test_forget_accuracy"))
        if audit[name] is not None
    )
    return f"after {audit['after']}: {', '.join(figures)}{' relapsed' if audit['relapsed'] else ''}"


def _rows(value: object) -> list[dict[str, object]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []
