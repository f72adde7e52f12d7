"""The rules that must hold at every moment, on random timelines of training, requests, crashes and client faults."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from drawn_timelines import Deed, Drawn, drawn_cases
from flwr.app import ArrayRecord
from hypothesis import HealthCheck, event, given, settings
from timeline_rules import fingerprint, nothing_is_left_that_could_go_on, the_checkpoint_is_there
from timeline_witness import Witness, check_after_step
from tiny_federation import Process, tiny_model
from tiny_world import PowerCut, World, watched

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, unpack
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.gate import Gate, Verdict
from fed_unlearn.ledger import Ledger
from fed_unlearn.strategies import ContinualUnlearning
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError
from fed_unlearn.strategies.serving.judge import Judge

TIMEOUT = 0.01
IN_MEMORY = Path("/dev/shm")
BESIDE = 1000
"""Deeds from here on happen beside the running server."""


class _Noting(ContinualUnlearning):
    """Remembers what it has acknowledged."""

    witness: Witness

    def submit(self, request):  # type: ignore[no-untyped-def]
        name = super().submit(request)
        self.witness.acknowledged.add(name)
        return name


@dataclass
class Played:
    """A timeline that was run to its end: the model, and what the ledger says."""

    arrays: str
    requests: dict[str, tuple[str, int]]
    commits: list[str | None]
    looks: set[str]
    seen: set[str]
    was_cut: int


@dataclass
class Player:
    """Runs one case, in as many processes as it takes."""

    drawn: Drawn
    folder: Path
    process: Process | None = None
    was_cut: int = 0

    def __post_init__(self) -> None:
        drawn = self.drawn
        self.world = World(self.folder, drawn.clients, drawn.classes, drawn.faults, deque(drawn.cuts))
        self.witness = Witness(self.world, drawn.gate)
        self.witness.trusts_audits = all(fault.message in _TRUSTED for fault in drawn.faults)
        self.world.on_message = self.witness.on_message
        self.world.on_training = self.witness.on_training
        self.world.on_point = self.witness.on_point
        self.world.deeds = {deed.when - BESIDE: partial(self.do, deed) for deed in drawn.deeds if deed.when >= BESIDE}

    @property
    def ledger_path(self) -> Path:
        return self.folder / "server" / "ledger.db"

    def play(self) -> Played:
        """Entry by entry, and the whole once more: what was done already is not repeated."""
        with watched(self.world), judged(self.witness):
            try:
                for end in range(1, len(self.drawn.timeline) + 1):
                    self.run_to(end)
                    for deed in self.drawn.deeds:
                        if deed.when == end:
                            self.do(deed)
                    if not self.drawn.one_process:
                        self.stop()
                served = self.run_to(len(self.drawn.timeline))
                self.assert_nothing_left(healed=False)
                if self.drawn.faults or self.drawn.deeds:
                    served = self.heal()
                assert served is not None
                return self.played(served)
            finally:
                self.stop()

    def heal(self) -> Mapping[str, np.ndarray]:
        """Run once more with nobody failing; afterwards nothing may be left that somebody's fault had held up."""
        self.world.heal()
        self.stop()
        self.run_to(len(self.drawn.timeline))
        process = self.start()
        healed = unpack(process.strategy.start(process.grid, num_rounds=0, timeout=TIMEOUT).arrays)
        check_after_step(self.witness, healed)
        self.assert_nothing_left(healed=True)
        return healed

    def run_to(self, end: int) -> Mapping[str, np.ndarray] | None:
        """Run so many entries, and look at all rules; whatever is cut off is begun again.

        There is no model where all clients fail, which the call must say. That is no fault of the server's.
        """
        while True:
            try:
                process = self.start()
                result = process.strategy.run(process.grid, self.drawn.timeline[:end], self.initial(), TIMEOUT)
                break
            except PowerCut:
                self.was_cut += 1
                self.stop()
                self.assert_restartable()
            except ClientsFailedError:
                if not self.world.faults:
                    raise
                check_after_step(self.witness, None)
                return None
        served = unpack(result.arrays)
        check_after_step(self.witness, served)
        return served

    def initial(self) -> ArrayRecord:
        """The model to start from; another one after a restart: the ledger's has to win."""
        arrays = tiny_model(self.drawn.classes).state_dict()
        if self.was_cut and self.witness.models_seen:
            arrays = {name: torch.full_like(value, 7.0) for name, value in arrays.items()}
        return ArrayRecord(arrays)

    def start(self) -> Process:
        """The process that runs, or a new one."""
        if self.process is None:
            self.process = Process(self.world, self.new_strategy)
            self.witness.process = self.process
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.end()
        self.process = self.witness.process = None

    def new_strategy(self) -> ContinualUnlearning:
        drawn = self.drawn
        strategy = _Noting(drawn.new_inner(), ledger=self.ledger_path, gate=drawn.gate, plan=drawn.plan, seed=3)
        strategy.witness = self.witness
        return strategy

    def do(self, deed: Deed) -> None:
        """What somebody else does, with a ledger object of their own."""
        if deed.kind == "lose":
            client = int(deed.target)
            with self.world.unseen():
                ledger = Ledger(self.ledger_path)
                if str(client) in ledger.confirmed_tombstones():
                    self.witness.lost.add(client)
                ledger.close()
            self.world.lose_store(client)
            self.witness.known.pop(client, None)
            self.witness.trusts_audits = False
            return
        with self.world.unseen():
            other = Ledger(self.ledger_path)
            try:
                (other.withdraw if deed.kind == "withdraw" else other.approve)(str(deed.target))
            except InvalidRequestError:
                pass  # not there yet, or at its end already
            finally:
                other.close()

    def assert_restartable(self) -> None:
        """What a crash leaves on disk."""
        if not self.ledger_path.exists():
            return
        ledger = Ledger(self.ledger_path)
        checkpoints = CheckpointStore(self.ledger_path.parent / "checkpoints")
        problems = list(the_checkpoint_is_there(ledger, checkpoints))
        assert not problems and ledger.verify().problem is None, problems
        assert self.witness.acknowledged <= {entry.id for entry in ledger.entries()}
        ledger.close()

    def assert_nothing_left(self, *, healed: bool) -> None:
        problems = list(nothing_is_left_that_could_go_on(self.witness, healed=healed))
        assert not problems, "\n".join(problems)

    def played(self, served: Mapping[str, np.ndarray]) -> Played:
        ledger = self.witness.ledger
        events = ledger.events()
        return Played(
            fingerprint(served),
            {entry.id: (str(entry.status), entry.attempt) for entry in ledger.entries()},
            [item.request_id for item in events if item.name == "committed"],
            {str(item.facts["after"]) for item in events if item.name == "relapse-audit"},
            {item.name for item in events},
            self.was_cut,
        )


_TRUSTED = (protocol.TRAIN, protocol.UNLEARN, protocol.REPAIR, protocol.CONFIRM, protocol.DISCARD, "evaluate")


@contextmanager
def judged(witness: Witness) -> Iterator[None]:
    """Note which models are audited, and which ones the gate accepts for what."""
    judge, audit, decide = Judge.judge, Auditor.audit, Gate.decide_training

    def noted_audit(auditor: Auditor, arrays: Arrays, *rest, **named):  # type: ignore[no-untyped-def]
        witness.audited = fingerprint(arrays)
        return audit(auditor, arrays, *rest, **named)

    def noted_judge(self: Judge, attempt, *rest):  # type: ignore[no-untyped-def]
        judgement = judge(self, attempt, *rest)
        candidate = fingerprint(attempt.candidate)
        if candidate != witness.audited:
            witness.broken.append("the gate judged a model by the audit of another one")
        witness.accepted.update((candidate, name) for name in judgement.accepted)
        return judgement

    def noted_decision(gate: Gate, **evidence):  # type: ignore[no-untyped-def]
        decision = decide(gate, **evidence)
        if decision.verdict is Verdict.ACCEPT:
            witness.accepted.add((witness.audited, "train"))
        return decision

    with (
        mock.patch.object(Auditor, "audit", noted_audit),
        mock.patch.object(Judge, "judge", noted_judge),
        mock.patch.object(Gate, "decide_training", noted_decision),
    ):
        yield


def check_case(drawn: Drawn) -> None:
    """Play a case, and where nothing but the power failed, compare it with one in which nothing did."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        played = Player(drawn, Path(folder) / "cut").play()
        event(f"cuts: {played.was_cut}")
        for name in sorted(played.seen):
            event(f"seen: {name}")
        comparable = not drawn.faults and not any(deed.when >= BESIDE for deed in drawn.deeds)
        if comparable and played.was_cut:
            event("compared with the run without cuts")
            whole = Player(replace(drawn, cuts=(), one_process=True), Path(folder) / "whole").play()
            assert played.requests == whole.requests
            assert played.commits == whole.commits
            assert played.looks == whole.looks
            assert played.arrays == whole.arrays, "the model is another one than without the crash"


ALIKE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(ALIKE, max_examples=12)
@given(drawn_cases())
def test_the_four_rules_hold_on_a_few_timelines(drawn: Drawn) -> None:
    check_case(drawn)


@pytest.mark.slow
@settings(ALIKE, max_examples=200)
@given(drawn_cases())
def test_the_four_rules_hold_whatever_happens(drawn: Drawn) -> None:
    check_case(drawn)
