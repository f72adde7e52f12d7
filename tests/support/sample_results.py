"""Results of a run that never was: a committed class request with an oracle, and a failed sample request."""

from fed_unlearn.audits.base import Figures
from fed_unlearn.simulations.run.installed import installed_versions
from fed_unlearn.simulations.run.results import (
    DeviceCount,
    HistoryPoint,
    RelapseResult,
    RequestResult,
    RunResults,
)
from fed_unlearn.simulations.run.training_results import TrainingResult


def figures(forget: float, retain: float, test_forget: float | None = None) -> Figures:
    return Figures(
        forget_accuracy=forget,
        retain_accuracy=retain,
        test_forget_accuracy=test_forget,
        test_retain_accuracy=retain - 0.01,
        membership_auc=0.5,
    )


REQUEST = RequestResult(
    id="r1",
    scope="class",
    target={"classes": [3]},
    method="boundary-shrink",
    status="committed",
    attempts=1,
    before=figures(1.0, 0.99, 0.97),
    unlearned=figures(0.0, 0.93, 0.0),
    after=figures(0.0, 0.98, 0.01),
    oracle=figures(0.0, 0.99, 0.0),
    seconds=0.5,
    oracle_seconds=10.0,
    passes=200,
    oracle_passes=5000,
    messages=31,
    bytes_sent=10,
    bytes_received=20,
)
SAMPLES = RequestResult(
    id="r2",
    scope="sample",
    target={"client": "4", "samples": 4},
    method="instance-wise",
    status="failed",
    attempts=2,
    reason="forget accuracy 0.250 is above 0",
    before=figures(1.0, 0.98),
    after=figures(0.25, 0.97),
    seconds=1.0,
)
RESULTS = RunResults(
    scenario="digits",
    seed=3,
    engine="inprocess",
    training=TrainingResult(rounds=30, seconds=9.1, test_accuracy=0.97, forward_passes=7, backward_passes=5),
    requests=(REQUEST, SAMPLES),
    relapse=(
        RelapseResult(after="r1", forget_accuracy={"r1": 0.0}, test_forget_accuracy={"r1": 0.01}),
        RelapseResult(after="r2", forget_accuracy={"r2": 0.25}, test_forget_accuracy={"r1": 0.05}),
        RelapseResult(after="train:2", forget_accuracy={"r2": 0.5}, test_forget_accuracy={"r1": 0.03}),
    ),
    history=(
        HistoryPoint(event="train:1", round=30, test_accuracy=0.97),
        HistoryPoint(event="r1", round=32, test_accuracy=0.96, test_forget_accuracy=0.01),
    ),
    devices=(DeviceCount(client="0", message="train", device="cuda:0", cuda_visible_devices="1", count=30),),
    versions=installed_versions(),
    complete=True,
)
