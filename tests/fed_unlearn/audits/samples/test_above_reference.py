from __future__ import annotations

import pytest
import torch
from torch import nn

from fed_unlearn.audits.asked import measured_of
from fed_unlearn.audits.base import AUDITS, Judged
from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.audits.samples.above_reference import AboveReference
from fed_unlearn.data.images import ImageSet
from fed_unlearn.evidence import Evidence
from fed_unlearn.gate import Gate, Verdict
from fed_unlearn.holder import observe

SAMPLES = ImageSet(torch.zeros(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
LOGITS = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, 3.0], [2.0, 0.0]])
"""Log-odds of the samples' own classes: 5, 1, 3 and -2."""


def counted(limits: torch.Tensor | None, scope: str = "sample") -> RequestCounts:
    seen = observe(nn.Identity(), scope, (), Judged.whole(SAMPLES, LOGITS), 2, limits=limits)  # type: ignore[arg-type]
    return RequestCounts.of(seen, ["above_reference"])


def evidence(limits: torch.Tensor | None, **fields: object) -> Evidence:
    figures = measured_of(counted(limits).extra, for_gate=True)
    kept = {"retain_accuracy": 0.9, "accepted_retain_accuracy": 0.9, "first_retain_accuracy": 0.9}
    return Evidence(
        forget_accuracy=0.75,
        finite=True,
        repair_rounds=3,
        attempt=2,
        figures=figures,
        **kept,
        **fields,  # type: ignore[arg-type]
    )


LEFT, RIGHT = torch.tensor([2.0, 2.0, 9.0, 0.0]), torch.tensor([6.0, 1.5, 3.5, 0.0])


def test_samples_above_their_own_limits_are_counted_by_hand() -> None:
    audit = counted(LEFT).extra["above_reference"]
    assert audit == AboveReference(samples=4, above=1) and audit.value == 0.25
    assert (audit + audit).value == 0.25
    assert AUDITS.find("above_reference").from_numbers(audit.to_numbers()) == audit
    assert audit.fits(2) and not AboveReference(samples=2, above=3).fits(2)


def test_without_a_reference_there_is_no_figure() -> None:
    assert counted(None).extra["above_reference"].value is None
    assert counted(LEFT, scope="class").extra == {}


def test_the_gate_refuses_one_sample_that_is_left_whatever_the_attack_on_all_says() -> None:
    interval = (0.3, 0.7)
    left = Gate().decide("sample", evidence(LEFT, membership_interval=interval), "indistinguishable")
    assert left.verdict is Verdict.ROLL_BACK and left.reason == "above_reference 0.250 is over 0.050"
    right = Gate().decide("sample", evidence(RIGHT, membership_interval=interval), "indistinguishable")
    assert right.verdict is Verdict.ACCEPT


@pytest.mark.parametrize(
    ("limits", "verdict", "reason"),
    [
        (RIGHT, Verdict.ACCEPT, None),
        (LEFT, Verdict.ROLL_BACK, "above_reference 0.250 is over 0.050; no step of the method has changed the model"),
        (
            None,
            Verdict.ROLL_BACK,
            "no step of the method has changed the model, and no reference says that the samples stood as unseen ones"
            " do",
        ),
    ],
)
def test_an_unchanged_model_is_accepted_only_where_a_reference_says_that_its_samples_stood_right(
    limits: torch.Tensor | None, verdict: Verdict, reason: str | None
) -> None:
    found = evidence(limits, changed=False)
    decision = Gate().decide("sample", found, "indistinguishable", before=found)
    assert (decision.verdict, decision.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("limits", "verdict", "reason"),
    [
        (RIGHT, Verdict.ACCEPT, None),
        (LEFT, Verdict.ROLL_BACK, "no step of the method has changed the model"),
        (None, Verdict.ROLL_BACK, "no step of the method has changed the model"),
    ],
)
def test_the_same_holds_for_all_samples_of_a_client(
    limits: torch.Tensor | None, verdict: Verdict, reason: str | None
) -> None:
    found = evidence(limits, changed=False, unseen_accuracy=0.75)
    decision = Gate().decide("client", found, before=found)
    assert (decision.verdict, decision.reason) == (verdict, reason)
