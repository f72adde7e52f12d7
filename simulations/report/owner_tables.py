"""What became of an owner's requests, as their node knows it; of samples, only ids that it does not know are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console

from fed_unlearn.owner import KeptReceipts, OwnerAnswer, OwnerRequest
from fed_unlearn.simulations.report.layout import plain_table, plain_text
from fed_unlearn.simulations.report.ledger_tables import time_text
from fed_unlearn.text import printable, quoted

_MOST_IDS = 10
_SHOWN = {"forget_accuracy": "forget accuracy", "retain_accuracy": "retained", "membership_auc": "attack AUC"}


def print_requests(requests: Sequence[OwnerRequest], receipts: KeptReceipts) -> None:
    """Print a table with a line for each request and each server that was told of it, and where its receipts are."""
    if not requests:
        print("nothing was asked for here")
        return
    table = plain_table("id", "queued", "what", "goal", "deadline", "status", "request", "figures", "why", "note")
    for request in requests:
        for ledger in request.told or ("",):
            answer = request.answers.get(ledger)
            cells = (
                *(request.id, time_text(request.queued), what_text(request), request.goal or ""),
                *("" if request.deadline is None else time_text(request.deadline), status_text(request, ledger)),
                *("" if answer is None else answer.request, "" if answer is None else figures_text(answer)),
                *(reason_text(request, answer), request.note),
            )
            table.add_row(*map(plain_text, cells))
    receipt_lines = [line for request in requests for line in receipt_texts(request, receipts)]
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    Console(highlight=False, width=None if is_terminal else 10_000).print(table)
    for line in receipt_lines:
        print(line)


def print_json(requests: Iterable[OwnerRequest], receipts: KeptReceipts) -> None:
    """Print the requests as JSON, each with what every server made of it and with the files of its receipts."""
    print(json.dumps([_as_json(request, receipts) for request in requests], indent=2, allow_nan=False))


def what_text(request: OwnerRequest) -> str:
    """What is to be forgotten, such as ``3 samples``."""
    if request.kind == "all":
        return "all of this client"
    count = request.count
    samples = f"{count} sample{'' if count == 1 else 's'}" if count else "samples"
    return samples if request.kind == "samples" else f"{samples} of class {_class_text(request)} here"


def _class_text(request: OwnerRequest) -> str:
    """The class as its owner wrote it, and its index where the node has found another one."""
    if not request.label:
        return str(request.of_class)
    if request.of_class is None or request.label == str(request.of_class):
        return request.label
    return f"{quoted(request.label)} (index {request.of_class})"


def status_text(request: OwnerRequest, ledger: str) -> str:
    """How a request stands with one server."""
    status = request.status_at(ledger)
    if status is None:
        if request.is_withdrawn:
            return "withdrawn" if not ledger else "withdrawal asked"
        return "refused" if request.refused else "sent" if ledger else "queued"
    return f"{status}, withdrawal asked" if request.is_withdrawn and not request.is_over else status


def reason_text(request: OwnerRequest, answer: OwnerAnswer | None) -> str:
    """Why it stands there, or what it waits for."""
    if answer is None:
        if request.refused:
            return "; ".join(filter(None, (request.refused, unknown_text(request))))
        return "" if request.is_withdrawn else "waits for the server's next message and the answer to this node's reply"
    relapsed = f"the forgetting has worn off {answer.relapses} times since" if answer.relapses else ""
    return "; ".join(filter(None, (answer.reason, relapsed, unknown_text(request))))


def unknown_text(request: OwnerRequest) -> str:
    """The first ids that no sample here has, for their owner."""
    shown = ", ".join(quoted(sample_id) for sample_id in request.unknown_ids[:_MOST_IDS])
    more = len(request.unknown_ids) - _MOST_IDS
    return f"unknown: {shown}{f' and {more} more' if more > 0 else ''}" if shown else ""


def figures_text(answer: OwnerAnswer) -> str:
    """The figures before and after, such as ``forget accuracy 1.000 -> 0.000``."""
    parts: list[str] = []
    for name, shown in _SHOWN.items():
        before, after = answer.figures.get(f"before/{name}"), answer.figures.get(f"after/{name}")
        if after is not None:
            parts.append(f"{shown} {'-' if before is None else f'{before:.3f}'} -> {after:.3f}")
    return ", ".join([*parts, *filter(None, (answer.evidence, answer.method))])


def receipt_texts(request: OwnerRequest, receipts: KeptReceipts) -> list[str]:
    """Where the receipts of a request are, and why one was refused; a line for each."""
    refusal = receipts.refusal(request.id)
    return [
        *(f"{request.id}: receipt in {printable(str(file), 1000)}" for file in receipts.files(request.id)),
        *([f"{request.id}: a receipt was refused: {refusal}"] if refusal else []),
    ]


def _as_json(request: OwnerRequest, receipts: KeptReceipts) -> dict[str, object]:
    body = request.model_dump(
        include={"id", "kind", "queued", "of_class", "label", "goal", "deadline", "note", "refused", "unknown_ids"}
    )
    servers = [
        {
            "ledger": ledger,
            "status": status_text(request, ledger),
            "answered": request.answered.get(ledger),
            **(
                request.answers[ledger].model_dump(exclude={"owner_request", "status"})
                if ledger in request.answers
                else {}
            ),
        }
        for ledger in request.told
    ]
    status = {"status": status_text(request, "")} if not request.told else {}
    found = {
        "receipts": [str(file) for file in receipts.files(request.id)],
        "receipt_refused": receipts.refusal(request.id),
    }
    return {**body, "samples": request.count, **status, "withdrawn": request.is_withdrawn, "servers": servers, **found}
