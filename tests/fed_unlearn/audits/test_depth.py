import subprocess
import sys

import pytest
from trained_digits import FORGOTTEN, Digits, fitted, train_digits, untrained_network

from fed_unlearn.audits.depth import Depth, DepthReport, depth
from fed_unlearn.audits.probe import ProbeResult, probe
from fed_unlearn.audits.relearning import RelearnResult, RelearnSettings, relearn
from fed_unlearn.data.images import concatenate
from fed_unlearn.errors import EmptySetError, InvalidParameterError
from fed_unlearn.methods import create
from fed_unlearn.seeding import seeded_generator


@pytest.fixture(scope="module")
def digits() -> Digits:
    return train_digits()


def test_the_control_is_shallow_and_an_oracle_is_as_deep_as_itself(digits: Digits) -> None:
    train, test = concatenate(digits.forget, digits.retain), concatenate(digits.test_forget, digits.test_retain)
    oracle = fitted(untrained_network(), digits.retain, epochs=8)
    masked = create("mask-output").unlearn(digits.model, digits.forget).model
    report = depth(masked, oracle, train, test, [FORGOTTEN], seed=0)
    assert report.relearn_ratio is not None and 0 < report.relearn_ratio < 0.75 and not report.is_within(0.2)
    assert report.probe_ratio is not None and report.probe_ratio > 1
    assert report.oracle.probe == probe(oracle, train, test, [FORGOTTEN], seed=0)
    own = depth(masked, oracle, train, test, [FORGOTTEN], seed=0, settings=RelearnSettings(fresh_row=False))
    assert own.relearn_ratio == 0
    itself = depth(oracle, oracle, train, test, [FORGOTTEN], seed=0)
    assert itself.model == itself.oracle == report.oracle
    assert (itself.probe_ratio, itself.relearn_ratio, itself.is_within(0.0)) == (1.0, 1.0, True)
    half = depth(oracle, oracle, train, test, [FORGOTTEN], seed=0, original_accuracy=0.5)
    by_hand = relearn(oracle, digits.forget, target_accuracy=0.45, generator=seeded_generator(0, "depth", "relearn"))
    assert half.oracle.relearning == by_hand and by_hand.steps < report.oracle.relearning.steps


def test_ratios_by_hand() -> None:
    def report(*found: tuple[float, int, bool]) -> DepthReport:
        model, oracle = (
            Depth(ProbeResult(b, 10, 90), RelearnResult(steps, reached, 0.0)) for b, steps, reached in found
        )
        return DepthReport(model, oracle)

    near = report((0.9, 55, True), (0.75, 50, True))
    assert (near.probe_ratio, near.relearn_ratio) == pytest.approx((1.2, 1.1))
    assert near.is_within(0.21) and not near.is_within(0.19)
    assert report((0.9, 10, True), (0.9, 500, False)).relearn_ratio == 0.02
    assert report((0.9, 500, False), (0.9, 100, True)).relearn_ratio == 5.0
    for unknown in (report((0.9, 500, False), (0.9, 500, False)), report((0.9, 3, True), (0.9, 0, True))):
        assert unknown.relearn_ratio is None and not unknown.is_within(1.0)


def test_what_cannot_be_judged_is_refused(digits: Digits) -> None:
    with pytest.raises(EmptySetError, match=r"depth: no training sample is of classes \[3\]"):
        depth(digits.trained, digits.trained, digits.retain, digits.retain, [FORGOTTEN], seed=0)
    with pytest.raises(InvalidParameterError, match=r"depth: original_accuracy = 0\.0 was given"):
        depth(digits.trained, digits.trained, digits.forget, digits.forget, [FORGOTTEN], seed=0, original_accuracy=0.0)


def test_importing_the_audits_costs_no_scikit_learn() -> None:
    code = "import sys, fed_unlearn.audits.depth; print({'sklearn', 'scipy', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
