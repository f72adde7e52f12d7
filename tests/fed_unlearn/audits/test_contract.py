"""The contract of audits: counts of parts add up to those of the whole, and only counts that can be are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import pytest
import torch
from confidence_audit import NAME, MeanConfidence, install
from sklearn.metrics import accuracy_score
from torch import nn

from fed_unlearn.audits.accuracy import ForgetAccuracy
from fed_unlearn.audits.asked import count_extra, extra_audits, measured_of
from fed_unlearn.audits.attack import MembershipAttack
from fed_unlearn.audits.base import AUDITS, Figures, Judged, Observation, RequestAudit
from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.audits.membership import confidence_histogram, membership_auc
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.holder import halves, observe
from fed_unlearn.logits import predict_logits

CLASSES = 4


def samples(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return ImageSet(torch.rand(count, 1, 2, 2, generator=generator), labels, [f"{seed}/{i}" for i in range(count)])


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES))


def judged(model: nn.Module, images: ImageSet) -> Judged:
    return Judged.whole(images, predict_logits(model, images))


def seen_by(model: nn.Module, forget: ImageSet, scope: str = "sample") -> Observation:
    sides = {name: judged(model, samples(60, seed)) for name, seed in (("test", 5), ("validation", 6))}
    classes = (1, 2) if scope == "class" else ()
    return observe(model, scope, classes, judged(model, forget), CLASSES, **sides)  # type: ignore[arg-type]


AUDIT_CLASSES = [ForgetAccuracy, MembershipAttack, MeanConfidence]


@pytest.mark.parametrize("audit", AUDIT_CLASSES)
@pytest.mark.parametrize("scope", ["class", "sample", "client"])
def test_counts_of_parts_add_up_to_those_of_the_whole(model: nn.Module, audit: type[RequestAudit], scope: str) -> None:
    forget = samples(40, 0)
    parts = [forget.subset(part) for part in torch.arange(40).split([7, 33])]
    alike = [seen_by(model, part, scope) for part in (forget, *parts)]
    whole, *counts = (audit.count(seen) for seen in alike)
    total = counts[0] + counts[1]
    assert total.value == pytest.approx(whole.value, abs=1e-12) or audit is MembershipAttack
    for field in ("correct", "total", "class_totals", "member_histogram", "samples", "by_class"):
        assert getattr(total, field, None) == getattr(whole, field, None)
    assert total + audit() == total == audit() + total


def test_figures_are_those_of_scikit_learn_and_of_the_pooled_attack(model: nn.Module) -> None:
    forget = samples(40, 0)
    seen = seen_by(model, forget, "class")
    logits = predict_logits(model, forget)
    assert ForgetAccuracy.count(seen).value == accuracy_score(forget.labels, logits.argmax(1))
    test = samples(60, 5).of_classes((1, 2))
    sides = [confidence_histogram(predict_logits(model, part), part.labels) for part in (forget, test)]
    assert MembershipAttack.count(seen).value == membership_auc(*sides)


def test_unseen_samples_are_the_half_that_no_method_reads(model: nn.Module) -> None:
    forget = samples(3, 0)
    seen = seen_by(model, forget)
    _, kept = halves(samples(60, 6))
    expected = kept.of_classes(set(forget.labels.tolist()))
    assert seen.unseen is not None
    assert list(seen.unseen.samples.ids) == list(expected.ids)
    assert torch.equal(seen.unseen.logits, predict_logits(model, samples(60, 6))[seen.unseen.positions])
    assert seen_by(model, forget, "class").unseen is None


@pytest.mark.parametrize("audit", AUDIT_CLASSES)
def test_counts_travel_as_plain_numbers(model: nn.Module, audit: type[RequestAudit]) -> None:
    counts = audit.count(seen_by(model, samples(20, 0), "client"))
    numbers = counts.to_numbers()
    assert all(isinstance(item, int | float | list) for item in numbers.values())
    assert audit.from_numbers(numbers) == counts


@pytest.mark.parametrize(
    "numbers",
    [
        {"probability": -0.5},
        {"probability": math.nan},
        {"probability": math.inf},
        {"samples": 1.5},
        {"samples": [1]},
        {"by_class": [1, -1]},
        {"by_class": 3},
        {"names": [1]},
    ],
)
def test_counts_that_cannot_be_are_refused(numbers: dict[str, object]) -> None:
    with pytest.raises(InvalidDataError, match="MeanConfidence"):
        MeanConfidence.from_numbers(numbers)


def test_counts_of_a_request_hold_audits_of_other_packages_by_name(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extra_audits("sample") == ("above_reference",)
    install(monkeypatch)
    assert set(extra_audits("sample")) == {"above_reference", NAME}
    built_in = {"destinations", "logit_ranking", "recall_without_bias", "reset_rows", "sureness"}
    assert set(extra_audits("class")) == {NAME, *built_in}
    assert extra_audits("client") == ("above_reference", "backdoor_success", "client_membership_auc", NAME)
    counts = RequestCounts.of(seen_by(model, samples(20, 0)), extra_audits())
    assert set(counts.extra) == {"above_reference", NAME}
    assert {f"{NAME}/probability", f"{NAME}/samples", "correct"} <= set(counts.to_numbers())
    assert RequestCounts.from_numbers(counts.to_numbers()) == counts
    assert (counts + counts).extra[NAME].value == pytest.approx(counts.extra[NAME].value)
    assert (counts + RequestCounts()).extra == counts.extra


@dataclass(frozen=True)
class Broken(RequestAudit):
    """Fails at everything."""

    samples: int = 0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        raise ZeroDivisionError

    @property
    def value(self) -> float:
        raise ZeroDivisionError


def test_an_audit_that_fails_leaves_the_others_alone(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch)
    AUDITS.register("broken")(Broken)
    counted = count_extra(seen_by(model, samples(20, 0)), ("broken", "of-nobody", NAME))
    assert set(counted) == {NAME}
    assert "audit broken failed" in caplog.text
    values = measured_of({"broken": Broken(), **counted})
    assert values["broken"].value is None and values[NAME].value is not None


@pytest.mark.parametrize("name", ["retain_accuracy", "my/audit"])
def test_a_name_must_not_be_taken_for_another_figure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, name)
    with pytest.raises(InvalidParameterError, match=name):
        extra_audits()


def test_figures_are_written_as_before_where_there_are_no_further_ones() -> None:
    values: dict[str, float | None] = {
        "forget_accuracy": 0.0,
        "retain_accuracy": 1.0,
        "test_forget_accuracy": None,
        "test_retain_accuracy": 0.5,
        "membership_auc": 0.5,
    }
    assert Figures(**values).to_json() == values == Figures(**values).named()  # type: ignore[arg-type]
    more = Figures(**values, extra={NAME: 0.25})  # type: ignore[arg-type]
    assert more.to_json() == {**values, "extra": {NAME: 0.25}}
    assert Figures(**more.to_json()) == more  # type: ignore[arg-type]
    assert more.named() == {**values, NAME: 0.25}
