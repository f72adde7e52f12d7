"""What clients count, weigh and claim is held against what they identified themselves with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fed_unlearn.audits.accuracy import ClassCounts, ForgetAccuracy
from fed_unlearn.audits.attack import MembershipAttack
from fed_unlearn.audits.counts import ClientCounts, RequestCounts
from fed_unlearn.audits.membership import BIN_COUNT
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.claims import bounded_claims, bounded_replies, check_audit, credible, most_retained
from fed_unlearn.strategies.clients.messages.exchange import Roster
from fed_unlearn.strategies.clients.weights import training_weights

CLASS, SAMPLES = ForgetRequest.for_class(1, id="c"), ForgetRequest.for_samples("a", count=2, id="s")


def roster(**changes: object) -> Roster:
    held = {"a": (10, 5, 0), "b": (4, 0, 8), "d": (6, 6, 6)}
    return replace(Roster(class_count=3, class_samples=held), **changes)  # type: ignore[arg-type]


def histogram(count: int) -> tuple[int, ...]:
    return (count, *[0] * (BIN_COUNT - 1))


def counted(retain: tuple[int, ...] = (10, 5, 0), **targets: RequestCounts) -> ClientCounts:
    parts = {"retain": retain, "validation": (2, 2, 2), "test": (3, 3, 3)}
    return ClientCounts({part: ClassCounts((0, 0, 0), total) for part, total in parts.items()}, targets)  # type: ignore[misc]


def held(total: int, member: int | None = None, outsiders: int = 3) -> RequestCounts:
    shown = histogram(total if member is None else member)
    return RequestCounts(ForgetAccuracy(0, total), MembershipAttack(shown, histogram(outsiders)))


def test_what_is_forgotten_is_no_part_of_what_is_retained() -> None:
    assert most_retained(roster(), "a") == ((10, 5, 0), 15)
    assert most_retained(roster(committed=(CLASS,)), "a") == ((10, 0, 0), 10)
    assert most_retained(roster(committed=(SAMPLES,)), "a") == ((10, 5, 0), 13)
    assert most_retained(roster(committed=(SAMPLES,)), "b") == ((4, 0, 8), 12)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (counted((11, 5, 0)), "11 retained samples of class 0, and has at most 10"),
        (counted((10, 5, 1)), "1 retained samples of class 2, and has at most 0"),
        (counted(c=held(6)), "6 samples of request c, and holds at most 5"),
        (counted(s=held(3)), "3 samples of request s, and holds at most 2"),
        (counted(c=held(5, member=4)), "does not add up to its 5 samples"),
        (counted(c=held(5, outsiders=10)), "more unseen samples than it has"),
    ],
)
def test_counts_of_more_than_a_client_has_are_refused(reply: ClientCounts, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        check_audit(reply, roster(), "a", (CLASS, SAMPLES), 0)


def test_counts_of_what_a_client_has_stay_as_they_are() -> None:
    reply = counted(c=held(5), s=held(2))
    assert check_audit(reply, roster(), "a", (CLASS, SAMPLES), 0) == (reply, [])
    with pytest.raises(ProtocolError, match="has at most 10"):  # seven, and one of each of the three classes
        check_audit(reply, roster(), "a", (CLASS, SAMPLES), 7)


def test_who_holds_nothing_of_a_request_does_not_count_for_it() -> None:
    reply = counted((4, 0, 8), c=held(3), s=held(0, outsiders=0))
    kept, foreign = check_audit(reply, roster(), "b", (CLASS, SAMPLES), 0)
    assert (set(kept.targets), foreign) == ({"s"}, ["c"])
    unseen = counted((4, 0, 8), c=held(0), s=held(0, outsiders=0))
    assert check_audit(unseen, roster(), "b", (CLASS, SAMPLES), 0) == (unseen, []), (
        "all count unseen samples of a class"
    )
    told = roster(holdings={"c": {"a": 0}})
    assert check_audit(counted(c=held(5)), told, "a", (CLASS,), 0)[1] == ["c"], "it said that it holds none"


def test_what_a_client_says_that_it_holds_is_bounded_and_kept() -> None:
    known = roster()
    assert credible(known, "a", (CLASS, SAMPLES), {"c": 10**9, "s": 1}) == (
        {"c": 5, "s": 1},
        ["says that it holds 1000000000 samples of request c, and has at most 5"],
    )
    assert known.holdings == {"c": {"a": 5}, "s": {"a": 1}}


def test_one_client_s_counts_are_at_most_its_share() -> None:
    many = ClientCounts({"validation": ClassCounts((50, 0, 50), (100, 100, 100))}, {"c": held(30)})
    few = ClientCounts({"validation": ClassCounts((1, 1, 1), (2, 2, 2))}, {"c": held(3)})
    bounded, lowered = bounded_replies({"a": many, "b": few, "d": few}, 0.5)
    assert lowered == {"a"}
    assert (bounded["b"], bounded["d"]) == (few, few)
    assert bounded["a"].parts["validation"] == ClassCounts((2, 0, 2), (4, 4, 4))
    assert bounded["a"].targets["c"].hits.total == 6
    assert sum(bounded["a"].targets["c"].membership.member_histogram) == 6


def test_counts_within_their_share_are_the_same_objects() -> None:
    replies = {client: counted(c=held(5)) for client in "abd"}
    bounded, lowered = bounded_replies(replies, 0.5)
    assert not lowered
    assert all(bounded[client] is reply for client, reply in replies.items())


def test_a_claim_of_a_thousand_million_samples_is_bounded() -> None:
    known = roster()
    known.class_samples["b"] = (0, 0, 10**9)
    claims, excessive = bounded_claims(known)
    assert excessive == {"b"}
    assert claims == {"a": (10, 5, 0), "b": (0, 0, 33), "d": (6, 6, 6)}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 15.0, "b": 12.0, "d": 18.0}, {"a": 15.0, "b": 12.0, "d": 18.0}),
        ({"a": 75.0, "b": 60.0, "d": 90.0}, {"a": 75.0, "b": 60.0, "d": 90.0}),
        ({"a": 15.0, "b": 1e12, "d": 18.0}, {"a": 15.0, "b": 12.0, "d": 18.0}),
        ({"a": 75.0, "b": 1e12, "d": 90.0}, {"a": 75.0, "b": 60.0, "d": 90.0}),
        ({"a": 15.0, "b": 1e300}, {"a": 15.0, "b": 12.0}),
    ],
    ids=["honest", "by epochs", "a million million", "a million million by epochs", "of two"],
)
def test_a_weight_is_at_most_the_client_s_samples(weights: dict[str, float], expected: dict[str, float]) -> None:
    assert training_weights(roster(), weights) == expected


def test_weights_of_another_unit_are_bounded_by_the_share_alone() -> None:
    weights = {"a": 1e6, "b": 2e6, "d": 1e12}
    assert training_weights(roster(), weights, in_samples=False) == {"a": 1e6, "b": 2e6, "d": 3e6}
