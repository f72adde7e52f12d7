"""What a client keeps for itself comes back where an attempt is undone, and is gone for good where it is committed."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import ArrayRecord
from keeping_node import (
    CLASS,
    OTHER_CLASS,
    Keeping,
    KeepingNode,
    holds_bytes,
    put_by,
    samples_request,
    seen,
)
from partial_models import HEAD

from fed_unlearn import protocol

SAMPLES = samples_request()
MORE_SAMPLES = samples_request(1, "of-other-client")


@pytest.fixture
def node(tmp_path: Path) -> KeepingNode:
    return KeepingNode(tmp_path)


@pytest.fixture
def first(node: KeepingNode) -> dict[str, object]:
    """What the client keeps before anything is asked of it."""
    return seen(node.keep_all())


def test_a_discard_puts_back_all_records_bit_for_bit(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((CLASS, 1))
    renewed = seen(node.state)
    assert renewed.keys() == {HEAD, "counts"} and renewed[HEAD] != first[HEAD]
    assert renewed["counts"] == {"seen": [0, 0]}
    node.repair((CLASS, 1))
    assert seen(node.state)[HEAD] != renewed[HEAD], "repair keeps what it has made"
    node.discard((CLASS, 1))
    assert seen(node.state) == first and not put_by(node.state)


def test_what_was_not_there_before_is_taken_away(node: KeepingNode) -> None:
    node.unlearn((CLASS, 1))
    assert HEAD in node.state
    node.discard((CLASS, 1))
    assert not node.state


def test_a_confirmation_leaves_no_byte(node: KeepingNode, first: dict[str, object]) -> None:
    old = node.state.array_records[HEAD]
    node.unlearn((CLASS, 1))
    assert holds_bytes(node.state, old)
    node.repair((CLASS, 1))
    made = seen(node.state)
    node.confirm((CLASS, 1))
    assert seen(node.state) == made and not put_by(node.state)
    assert not holds_bytes(node.state, old)
    secret = {array.data[-64:] for array in old.values()}
    files = [path.read_bytes() for path in node.folder.rglob("*") if path.is_file()]
    assert files and not any(part in file for part in secret for file in files)


def test_further_turns_of_an_attempt_change_nothing_of_what_is_put_by(
    node: KeepingNode, first: dict[str, object]
) -> None:
    for step in range(3):
        node.unlearn((SAMPLES, 1), step=step)
        node.repair((SAMPLES, 1))
    node.discard((SAMPLES, 1))
    assert seen(node.state) == first


def test_it_is_put_by_where_the_samples_are_only_taken_out(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((SAMPLES, 1), method=None)
    assert HEAD not in node.state
    node.discard((SAMPLES, 1))
    assert seen(node.state) == first


def test_the_app_does_not_see_it(tmp_path: Path) -> None:
    names: list[set[str]] = []

    class Looking(Keeping):
        def forget_personal(self, context) -> None:  # type: ignore[no-untyped-def]
            names.append(set(context.state))
            for name in list(context.state.array_records):
                del context.state[name]

    node = KeepingNode(tmp_path, Looking)
    first = seen(node.keep_all())
    node.unlearn((SAMPLES, 1))
    node.unlearn((SAMPLES, 1), step=1)
    assert names == [{HEAD, "facts", "counts"}] * 2 and put_by(node.state) == {"fed_unlearn/head"}
    node.discard((SAMPLES, 1))
    assert seen(node.state) == first


@pytest.mark.parametrize("request_of_samples", [SAMPLES, MORE_SAMPLES])
def test_a_reply_says_whether_something_is_put_by(
    node: KeepingNode, first: dict[str, object], request_of_samples: object
) -> None:
    attempt = (request_of_samples, 1)
    assert protocol.has_put_by(node.repair(attempt))  # type: ignore[arg-type]
    assert not protocol.has_put_by(node.discard(attempt))  # type: ignore[arg-type]
    assert seen(node.state) == first


# ---------------------------------------------------------------------- lost messages


def test_a_discard_of_another_attempt_puts_nothing_back(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((CLASS, 1))
    renewed = seen(node.state)
    for other in ((CLASS, 2), (OTHER_CLASS, 1)):
        node.discard(other)
        assert seen(node.state) == renewed
    node.discard((CLASS, 1))
    assert seen(node.state) == first


def test_a_later_attempt_begins_where_the_earlier_one_began(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((SAMPLES, 1))
    once = seen(node.state)
    node.unlearn((SAMPLES, 2))
    assert put_by(node.state) == {"fed_unlearn/head", "fed_unlearn/facts", "fed_unlearn/counts"}
    node.discard((SAMPLES, 1))
    assert seen(node.state) != first, "the attempt that is open is the second one"
    node.discard((SAMPLES, 2))
    assert seen(node.state) == first != once


def test_a_later_attempt_at_a_committed_request_puts_nothing_back(node: KeepingNode, first: dict[str, object]) -> None:
    """The confirmation was lost after its tombstones; the request has relapsed and is tried again."""
    old = node.state.array_records[HEAD]
    node.unlearn((SAMPLES, 1))
    node.store.confirm(SAMPLES.id, retention_days=1.0)
    node.unlearn((SAMPLES, 2))
    assert not holds_bytes(node.state, old)
    node.discard((SAMPLES, 2))
    assert not holds_bytes(node.state, old) and seen(node.state) != first


def test_a_training_round_drops_it_while_the_samples_are_quarantined(
    node: KeepingNode, first: dict[str, object]
) -> None:
    old = node.state.array_records[HEAD]
    node.unlearn((SAMPLES, 1))
    node.train()
    assert set(node.state) == {HEAD, "counts"} and not holds_bytes(node.state, old)
    made = seen(node.state)
    node.discard((SAMPLES, 1))
    assert seen(node.state) == made, "a discard that comes late finds nothing"


def test_a_training_round_puts_it_back_where_nothing_is_quarantined_any_more(
    node: KeepingNode, first: dict[str, object]
) -> None:
    node.unlearn((SAMPLES, 1))
    assert "facts" not in node.state
    node.store.release(SAMPLES.id)
    node.train()
    assert node.state.config_records["facts"]["of"] == "all digits"
    assert node.state.metric_records["counts"]["seen"] == [3, 4]
    assert set(node.state) == set(first)


def test_a_training_round_of_the_attempt_itself_is_put_by_and_undone(tmp_path: Path) -> None:
    """Retraining sends the app's own training messages while the request is served."""
    node = KeepingNode(tmp_path)
    first = seen(node.keep_all())
    node.train((MORE_SAMPLES, 1))
    assert seen(node.state)[HEAD] != first[HEAD] and put_by(node.state) == {"fed_unlearn/head"}
    node.discard((MORE_SAMPLES, 1))
    assert seen(node.state) == first


def test_what_training_counts_stays_counted(tmp_path: Path) -> None:
    class Counting(Keeping):
        def train(self, *given):  # type: ignore[no-untyped-def]
            from fed_unlearn.client import current_session

            current_session().context.state.metric_records["counts"]["seen"] = [9, 9]
            return super().train(*given)

    node = KeepingNode(tmp_path, Counting)
    first = seen(node.keep_all())
    node.repair((MORE_SAMPLES, 1))
    node.discard((MORE_SAMPLES, 1))
    assert seen(node.state) == {**first, "counts": {"seen": [9, 9]}}


def test_a_confirmation_of_another_request_drops_it(node: KeepingNode, first: dict[str, object]) -> None:
    old = node.state.array_records[HEAD]
    node.unlearn((SAMPLES, 1))
    node.confirm((MORE_SAMPLES, 4))
    assert not holds_bytes(node.state, old)


def test_an_attempt_at_another_request_drops_it(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((SAMPLES, 1))
    renewed = seen(node.state)
    node.unlearn((OTHER_CLASS, 1))
    node.discard((OTHER_CLASS, 1))
    assert seen(node.state) == renewed


def test_a_new_run_begins_with_nothing(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((SAMPLES, 1))
    node.new_run()
    node.discard((SAMPLES, 1))
    assert not node.state


# ---------------------------------------------------------------------- requests that share an attempt


def test_a_joint_attempt_is_undone_as_a_whole(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((CLASS, 1), (OTHER_CLASS, 1))
    node.discard((CLASS, 1), (OTHER_CLASS, 1))
    assert seen(node.state) == first


def test_a_joint_attempt_is_undone_in_parts(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((CLASS, 1), (OTHER_CLASS, 1))
    renewed = seen(node.state)
    node.discard((OTHER_CLASS, 1), release=True)
    assert seen(node.state) == renewed
    node.discard((CLASS, 1))
    assert seen(node.state) == first


def test_where_a_part_is_committed_nothing_is_put_back(node: KeepingNode, first: dict[str, object]) -> None:
    old = node.state.array_records[HEAD]
    node.unlearn((CLASS, 1), (OTHER_CLASS, 1))
    renewed = seen(node.state)
    node.discard((OTHER_CLASS, 1))
    node.confirm((CLASS, 1))
    assert seen(node.state) == renewed and not holds_bytes(node.state, old)


def test_a_client_that_a_joint_attempt_asks_for_a_part_is_told_of_all(
    node: KeepingNode, first: dict[str, object]
) -> None:
    instruction = protocol.UnlearnInstruction(targets=(protocol.Target.of(SAMPLES, 1),), step=0, method=None, seed=0)
    both = ((SAMPLES, 1), (MORE_SAMPLES, 1))
    node.send(protocol.UNLEARN, instruction, both)
    node.discard((SAMPLES, 1))
    assert seen(node.state) != first
    node.discard((MORE_SAMPLES, 1))
    assert seen(node.state) == first


# ---------------------------------------------------------------------- confirmations that come again


def test_a_confirmation_that_comes_again_changes_nothing(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((CLASS, 1))
    node.confirm((CLASS, 1), dies=True)
    assert len(node.store.tombstoned_ids()) > 0 and put_by(node.state), "the tombstones are on disk, the state is not"
    node.confirm((CLASS, 1))
    once = seen(node.state)
    assert HEAD in once and not put_by(node.state)
    node.confirm((CLASS, 1))
    assert seen(node.state) == once


@pytest.mark.parametrize("died", [False, True])
def test_a_client_that_was_away_renews_what_it_keeps(node: KeepingNode, first: dict[str, object], died: bool) -> None:
    old = node.state.array_records[HEAD]
    if died:
        node.confirm((CLASS, 1), dies=True)
        assert len(node.store.tombstoned_ids()) > 0 and HEAD in node.state
    node.confirm((CLASS, 1))
    assert HEAD not in node.state and not holds_bytes(node.state, old)
    node.keep(head=ArrayRecord({"weight": old["head.weight"]}))
    node.confirm((CLASS, 1))
    assert HEAD in node.state, "what was made since is not dropped by the same confirmation"


def test_notes_of_confirmed_requests_go_with_the_next_training(node: KeepingNode, first: dict[str, object]) -> None:
    node.unlearn((CLASS, 1))
    node.confirm((CLASS, 1))
    assert "fed_unlearn" in node.state
    node.train()
    assert set(node.state) == {HEAD, "counts"}


def test_an_older_server_names_attempts_in_its_instructions_alone(node: KeepingNode, first: dict[str, object]) -> None:
    instruction = protocol.UnlearnInstruction(targets=(protocol.Target.of(SAMPLES, 1),), step=0, method=None, seed=0)
    node.send(protocol.UNLEARN, instruction)
    assert HEAD not in node.state
    node.discard((SAMPLES, 1))
    assert seen(node.state) == first
