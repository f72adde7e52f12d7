"""What audits count at one client is of no more samples than it has, and within its share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import pytest

from fed_unlearn.audits.accuracy import ClassCounts, ForgetAccuracy
from fed_unlearn.audits.base import Observation, RequestAudit
from fed_unlearn.audits.counts import ClientCounts, RequestCounts
from fed_unlearn.audits.outputs.destinations import Destinations
from fed_unlearn.audits.outputs.logit_ranking import LogitRanking
from fed_unlearn.audits.outputs.reset_rows import BIN_COUNT as CLASS_BINS
from fed_unlearn.audits.outputs.reset_rows import ResetRows
from fed_unlearn.audits.outputs.score_histograms import BIN_COUNT
from fed_unlearn.audits.outputs.sureness import UNIT, Sureness
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.claims import bounded_replies, check_audit
from fed_unlearn.strategies.clients.messages.exchange import Roster

CLASS = ForgetRequest.for_class(1, id="c")
ROSTER = Roster(class_count=3, class_samples={"a": (10, 5, 0), "b": (4, 0, 8)})


@dataclass(frozen=True)
class Undeclared(RequestAudit):
    """Does not say which samples it counts."""

    total: int = 0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        return cls(len(seen.forget))

    @property
    def value(self) -> float:
        return float(self.total)


def at(place: int, count: int) -> tuple[int, ...]:
    counts = [0] * BIN_COUNT
    counts[place] = count
    return tuple(counts)


def reply(extra: dict[str, RequestAudit], *, held: int, validation: int = 2) -> ClientCounts:
    parts = {
        "retain": ClassCounts((0, 0, 0), (10, 0, 0)),
        "validation": ClassCounts((0, 0, 0), (2, validation, 2)),
        "test": ClassCounts((0, 0, 0), (3, 3, 3)),
    }
    return ClientCounts(parts, {"c": RequestCounts(hits=ForgetAccuracy(0, held), extra=extra)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("audit", "words"),
    [
        (LogitRanking(test_class=at(0, 4)), "4 samples (test_class), and it has at most 3"),
        (LogitRanking(test_staying=at(0, 7)), "7 samples (test_staying), and it has at most 6"),
        (LogitRanking(held_out_class=at(0, 3)), "3 samples (held_out_class), and it has at most 2"),
        (LogitRanking(held_out_staying=at(0, 5)), "5 samples (held_out_staying), and it has at most 4"),
        (Sureness(forget_total=6), "6 samples (forget_total), and it has at most 5"),
        (Destinations(test=(4, 0, 0), stays=(1, 0, 1)), "4 samples (test), and it has at most 3"),
    ],
)
def test_more_samples_than_a_client_has_are_refused(audit: RequestAudit, words: str) -> None:
    told = reply({"x": audit}, held=5)
    with pytest.raises(ProtocolError, match=words.replace("(", r"\(").replace(")", r"\)")):
        check_audit(told, ROSTER, "a", (CLASS,), 0)


def test_the_forget_set_stands_in_where_there_is_no_validation_sample() -> None:
    told = reply({"x": LogitRanking(held_out_class=at(0, 5))}, held=5, validation=0)
    assert check_audit(told, ROSTER, "a", (CLASS,), 0) == (told, [])


def test_who_holds_nothing_does_not_count_a_forget_set() -> None:
    told = reply({"x": Sureness(forget_total=1)}, held=0)
    told = replace(told, parts={**told.parts, "retain": ClassCounts((0, 0, 0), (4, 0, 8))})
    kept, foreign = check_audit(told, ROSTER, "b", (CLASS,), 0)
    assert (kept.targets, foreign) == ({}, ["c"])


def test_one_client_s_histogram_does_not_outweigh_those_of_the_others() -> None:
    honest = RequestCounts(extra={"x": LogitRanking(at(500, 10), at(400, 40))})
    lying = RequestCounts(extra={"x": LogitRanking(at(0, 10_000), at(1000, 40))})
    replies = {client: ClientCounts({}, {"c": honest}) for client in "abd"} | {"e": ClientCounts({}, {"c": lying})}
    bounded, lowered = bounded_replies(replies, 0.4)
    assert lowered == {"e"} and all(bounded[client] is replies[client] for client in "abd")
    counted = bounded["e"].targets["c"].extra["x"]
    assert counted == LogitRanking(at(0, 20), at(1000, 40)), "2 of 5 samples, and the other side as it is"


def test_sums_are_scaled_with_their_samples() -> None:
    few = RequestCounts(ForgetAccuracy(0, 10), extra={"x": Sureness(10, 5 * UNIT, 3 * UNIT, 20 * UNIT, 50 * UNIT)})
    many = Sureness(1000, 900 * UNIT, 850 * UNIT, 100 * UNIT, 40 * UNIT)
    replies = {client: ClientCounts({}, {"c": few}) for client in "abd"}
    replies["e"] = ClientCounts({}, {"c": RequestCounts(ForgetAccuracy(0, 1000), extra={"x": many})})
    counted = bounded_replies(replies, 0.4)[0]["e"].targets["c"]
    assert counted.hits.total == 20
    assert counted.extra["x"] == Sureness(20, 18 * UNIT, 17 * UNIT, 2 * UNIT, 8 * UNIT // 10)


def test_a_histogram_beside_the_samples_keeps_its_size_where_each_count_is_small() -> None:
    own, rest = (20, *[0] * (CLASS_BINS - 1)), (*[1] * 40, *[0] * (CLASS_BINS - 40))
    few = RequestCounts(extra={"x": ResetRows((*[0] * (CLASS_BINS - 1), 5), rest)})
    replies = {client: ClientCounts({}, {"c": few}) for client in "abd"}
    replies["e"] = ClientCounts({}, {"c": RequestCounts(extra={"x": ResetRows(own, rest)})})
    counted = bounded_replies(replies, 0.4)[0]["e"].targets["c"].extra["x"]
    assert isinstance(counted, ResetRows)
    assert sum(counted.own) == 10 and sum(counted.rest) == 20, "half of both, and none is lost to rounding"


def test_what_does_not_say_its_samples_is_left_out_where_the_client_exceeds_its_share() -> None:
    few, many = (
        ClientCounts({}, {"c": RequestCounts(ForgetAccuracy(0, count), extra={"x": Undeclared(count)})})
        for count in (10, 1000)
    )
    bounded, _ = bounded_replies({"a": few, "b": few, "d": few, "e": many}, 0.4)
    assert bounded["e"].targets["c"].extra == {}
    assert bounded["a"].targets["c"].extra == {"x": Undeclared(10)}
