"""``bench methods`` with audits: planted ones beside several oracles, the cache, and what is bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import nn

from fed_unlearn.audits.base import AUDITS, CentralAudit, Observation
from fed_unlearn.data.sources import ImageSource, load_source
from fed_unlearn.errors import EmptySetError
from fed_unlearn.models import build_model, save_checkpoint
from fed_unlearn.simulations.bench import making
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.training import TrainingSettings, train_locally

CLASS = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> ImageSource:
    return load_source("digits")


def trained(digits: ImageSource, seed: int, classes: set[int]) -> nn.Module:
    model = build_model("small-cnn", class_count=10, image_shape=(1, 8, 8), seed=seed, parameters={"width": 4})
    settings = TrainingSettings(local_epochs=2)
    train_locally(model, digits.train.of_classes(classes), settings, torch.Generator().manual_seed(seed))
    return model.eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, digits: ImageSource) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_checkpoint(trained(digits, 0, set(range(10))), folder / "model.safetensors")
    for seed in (1, 2, 3):
        save_checkpoint(trained(digits, seed, set(range(10)) - {CLASS}), folder / f"oracle{seed}.safetensors")
    return folder


@dataclass(frozen=True)
class FeatureSize(CentralAudit):
    """How large the features of the forget set are; with some passes, and how many oracles stand beside."""

    size: float = 0.0
    oracles: int = 0
    seen: ClassVar[list[tuple[int, tuple[str, ...], float]]] = []

    @classmethod
    def count(cls, seen: Observation) -> Self:
        assert seen.central is not None and seen.central.original is not None
        readings = seen.central.readings
        readings.passes.add(forward=5, backward=2)
        ids = tuple(readings.data.parts["retain"].ids)  # type: ignore[attr-defined]
        cls.seen.append((seen.seed, ids, float(torch.rand(1))))
        return cls(float(readings.answers("forget").features.norm(dim=1).mean()), len(seen.central.oracles))

    @property
    def value(self) -> float | None:
        return self.size


@dataclass(frozen=True)
class Broken(FeatureSize):
    """Fails for every model."""

    @classmethod
    def count(cls, seen: Observation) -> Self:
        raise EmptySetError("broken: nothing to read; give samples")


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few audits beside the planted ones."""
    names = ("forget_accuracy", "membership_auc", "splits", "population_attack", "logit_ranking")
    monkeypatch.setattr(AUDITS, "_classes", {name: AUDITS.find(name) for name in names})
    AUDITS.register("feature_size")(FeatureSize)
    AUDITS.register("broken")(Broken)
    FeatureSize.seen.clear()
    monkeypatch.chdir(tmp_path)


def bench(checkpoints: Path, *arguments: object, out: str = "out", oracles: int = 3) -> dict[str, Any]:
    given = [f"--oracle-checkpoint={checkpoints}/oracle{seed}.safetensors" for seed in range(1, oracles + 1)]
    command = ["bench", "methods", "--device", "cpu", "--out", out, "--forget-class", CLASS, "--unseen", 0,
               "--checkpoint", checkpoints / "model.safetensors", *given, *arguments]  # fmt: skip
    assert run_command([str(word) for word in command]) == 0
    body: dict[str, Any] = json.loads(Path(out, "bench.json").read_text())
    return body


def test_every_model_is_audited_with_the_same_draws_and_judged_beside_the_oracles(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = bench(checkpoints, "--audit", "full", "--methods", "delete", "--controls", "--repair")
    rows = {row["method"]: row for row in body["rows"]}
    assert list(rows) == [
        "original", "guarded repair", "delete", "delete + guarded repair", "mask-output", "mask-output + guarded repair",
        "oracle 1", "oracle 2", "oracle 3",
    ]  # fmt: skip
    assert len(set(FeatureSize.seen)) == 1 and len(FeatureSize.seen) == 9
    for name, row in rows.items():
        size = row["audits"]["feature_size"]
        assert size["audit"] == "feature_size" and size["oracles"] == (2 if name.startswith("oracle") else 3)
        cost = row["audit_costs"]["feature_size"]
        assert (cost["forward_passes"], cost["backward_passes"], cost["error"]) == (5, 2, None)
        assert row["audit_costs"]["broken"]["error"] == "broken: nothing to read; give samples"
        assert row["audit_costs"]["reading"]["forward_passes"] == 1797  # every sample of digits once
        assert row["outside"]["judged_figures"] == 9 and "p_value" in row["fingerprint"]
    assert rows["original"]["audits"]["forget_accuracy"]["verdict"] == "above"
    assert rows["mask-output"]["audits"]["forget_accuracy"]["verdict"] == "inside"
    assert body["left_out_oracles"]["judged_figures"] == 27
    printed = capsys.readouterr().out
    assert "audit broken failed for 9 models: broken: nothing to read; give samples" in printed
    assert "3 oracles: each, left out" in printed and "feature_size" in Path("out/audits.md").read_text()


def test_audits_are_left_out_by_level_and_by_name(checkpoints: Path) -> None:
    by_default = bench(checkpoints, "--methods", "mask-output", out="default")
    assert "feature_size" not in by_default["data"]["audits"] and "logit_ranking" in by_default["data"]["audits"]
    skipped = bench(checkpoints, "--methods", "mask-output", "--audit", "full", "--skip-audits", "broken", out="full")
    assert "feature_size" in skipped["data"]["audits"] and "broken" not in skipped["data"]["audits"]


def test_what_is_read_is_bounded(checkpoints: Path) -> None:
    bounds = ("--audit-forget-samples", 20, "--audit-test-samples", 15, "--retain-samples", 30)
    body = bench(checkpoints, "--methods", "mask-output", *bounds, oracles=0)
    data = body["data"]
    assert [data[f"{part}_samples_measured"] for part in ("forget", "retain", "test")] == [20, 30, 30]
    assert body["rows"][0]["audit_costs"]["reading"]["forward_passes"] == 20 + 30 + 15 + 15
    assert body["rows"][0]["forget_accuracy"] * 20 == pytest.approx(round(body["rows"][0]["forget_accuracy"] * 20))


def test_what_an_earlier_comparison_made_is_not_made_again(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--methods", "delete", "--repair", "--cache", "kept", "--oracle", "--epochs", 1)
    first = bench(checkpoints, *options, out="first", oracles=2)
    monkeypatch.setattr(making, "train_locally", lambda *_: (_ for _ in ()).throw(AssertionError("trained again")))
    monkeypatch.setattr(making.ModelMaker, "warm_up", lambda self: None)
    second = bench(checkpoints, *options, "--audit", "full", out="second", oracles=2)
    assert "with * are those of an earlier comparison" in capsys.readouterr().out
    for before, after in zip(first["rows"], second["rows"], strict=True):
        made_here = before["seconds"] is not None
        assert "from_cache" not in before and after.get("from_cache", False) is made_here
        for name in ("seconds", "forward_passes", "backward_passes", "steps", "converged", "forget_accuracy"):
            assert before[name] == after[name]
        assert before["audits"].items() <= after["audits"].items()
    assert [row["method"] for row in second["rows"]][-3:] == ["oracle 1", "oracle 2", "oracle 3"]


@pytest.mark.slow
def test_oracles_that_are_trained_here_differ_and_are_the_same_again(digits: ImageSource) -> None:
    bodies = []
    for out in ("first", "again"):
        command = ["bench", "methods", "--device", "cpu", "--out", out, "--forget-class", str(CLASS), "--unseen", "0",
                   "--epochs", "1", "--model-parameter", "width=4", "--methods", "mask-output", "--oracles", "2"]  # fmt: skip
        assert run_command(command) == 0
        bodies.append({row["method"]: row for row in json.loads(Path(out, "bench.json").read_text())["rows"]})
    for row in ("oracle 1", "oracle 2"):
        assert bodies[0][row]["audits"] == bodies[1][row]["audits"]
    assert bodies[0]["oracle 1"]["audits"] != bodies[0]["oracle 2"]["audits"]


@pytest.mark.parametrize("cache", ["file", "file/below"])
def test_a_cache_at_a_file_is_an_error_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("none of a cache")
    options = ("--forget-class", "3", "--methods", "delete", "--cache", cache, "--out", "out")
    assert run_command(["bench", "methods", *options]) == 2
    printed = capsys.readouterr()
    assert f"--cache {cache}: file is a file" in printed.err and "training" not in printed.out + printed.err
    assert not Path("out").exists()
