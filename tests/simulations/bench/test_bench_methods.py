import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from confidence_audit import NAME, install
from matplotlib.image import imread
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn import methods
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sources import ImageSource, load_source
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.holder import Guard, guard_retained
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import available, create, register
from fed_unlearn.methods.base import Applied, Method, Workspace
from fed_unlearn.models import build_model, load_checkpoint, save_checkpoint
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.bench import making
from fed_unlearn.simulations.bench.checks import check_forget
from fed_unlearn.simulations.bench.settings import MethodBenchSettings
from fed_unlearn.simulations.bench.setup import prepare_bench
from fed_unlearn.simulations.bench.table import short_count
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.training import TrainingSettings, train_locally

CLASS = 3
QUICK = [
    "--methods",
    "boundary-shrink",
    "--set",
    "boundary-shrink.epochs=3",
    "--set",
    "boundary-shrink.learning-rate=0.005",
]
QUICK_SHRINK = {"epochs": 3, "learning_rate": 0.005}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> ImageSource:
    return load_source("digits")


def narrow_model() -> nn.Module:
    return build_model("small-cnn", class_count=10, image_shape=(1, 8, 8), seed=0, parameters={"width": 8})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, digits: ImageSource) -> Path:
    """A small network of a width that is not the default, trained."""
    model = narrow_model()
    train_locally(model, digits.train, TrainingSettings(local_epochs=5), torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("models") / "digits.safetensors"
    save_checkpoint(model, path)
    return path


def given_model(checkpoint: Path) -> nn.Module:
    model = narrow_model()
    load_checkpoint(model, checkpoint)
    return model.eval()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bench(*arguments: object, out: str = "out", code: int = 0) -> dict[str, Any]:
    assert run_command(["bench", "methods", "--device", "cpu", "--out", out, *map(str, arguments)]) == code
    body: dict[str, Any] = json.loads(Path(out, "bench.json").read_text())
    return body


def rows_of(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in body["rows"]}


def without_class(samples: ImageSet) -> ImageSet:
    return samples.of_classes(set(range(10)) - {CLASS})


def losses(model: nn.Module, samples: ImageSet) -> Tensor:
    return functional.cross_entropy(predict_logits(model, samples).double(), samples.labels, reduction="none")


def measured(model: nn.Module, digits: ImageSource) -> dict[str, float]:
    """The five figures by scikit-learn, on all training and test samples."""
    parts = {
        "forget_accuracy": digits.train.of_classes([CLASS]),
        "retain_accuracy": without_class(digits.train),
        "test_forget_accuracy": digits.test.of_classes([CLASS]),
        "test_retain_accuracy": without_class(digits.test),
    }
    figures = {
        key: float(accuracy_score(part.labels, predict_logits(model, part).argmax(dim=1)))
        for key, part in parts.items()
    }
    members, outsiders = (losses(model, parts[key]) for key in ("forget_accuracy", "test_forget_accuracy"))
    truth = [1] * len(members) + [0] * len(outsiders)
    return {**figures, "membership_auc": float(roc_auc_score(truth, -torch.cat([members, outsiders])))}


def assert_measured(row: dict[str, Any], model: nn.Module, digits: ImageSource) -> None:
    for key, value in measured(model, digits).items():
        assert row[key] == pytest.approx(value, abs=1e-9), key
    low, high = row["membership_auc_interval"]
    assert 0 <= low <= row["membership_auc"] <= high <= 1


def test_rows_are_what_the_library_and_scikit_learn_give(
    checkpoint: Path, digits: ImageSource, capsys: pytest.CaptureFixture[str]
) -> None:
    body = bench("--checkpoint", checkpoint, "--forget-class", CLASS, "--repair", "--unseen", 0, "--seed", 4, *QUICK)  # fmt: skip
    rows = rows_of(body)
    assert list(rows) == ["original", "guarded repair", "boundary-shrink", "boundary-shrink + guarded repair"]
    assert body["complete"] and body["seed"] == 4 and body["device"] == "cpu" and body["threads"] == 1
    assert body["settings"]["model_parameters"] == {"width": 8} and body["versions"]["torch"] == version("torch")
    assert body["methods"]["boundary-shrink"]["learning_rate"] == 0.005
    assert body["settings"]["repair"]["fraction"] == 1  # of digits all, of more than 7,500 images a fifth

    model = given_model(checkpoint)
    assert_measured(rows["original"], model, digits)
    assert not any("extra" in row for row in rows.values())
    assert all({"logit_auc", "recall_at_5", "destination_top"} <= set(row["audits"]) for row in rows.values())
    assert rows["original"]["seconds"] is None and rows["original"]["converged"] is None

    forget, retain = digits.train.of_classes([CLASS]), without_class(digits.train)
    outcome = create("boundary-shrink", **QUICK_SHRINK).unlearn(
        model,
        forget,
        retain,
        excluded_classes=[CLASS],
        generator=seeded_generator(4, "bench", "unlearn", "boundary-shrink"),
    )
    assert_measured(rows["boundary-shrink"], outcome.model, digits)
    for key in ("converged", "steps", "forward_passes", "backward_passes"):
        assert rows["boundary-shrink"][key] == getattr(outcome, key)

    def repaired(start: nn.Module, labels: Tensor) -> nn.Module:
        mixed = guard_retained(retain, [Guard(forget, labels)], weight=1, margin=8.0)
        start = copy.deepcopy(start)
        settings = TrainingSettings(learning_rate=0.01, batch_size=100)
        train_locally(start, mixed, settings, seeded_generator(4, "bench", "repair"))
        return start

    assert outcome.guard_labels is not None
    both = rows["boundary-shrink + guarded repair"]
    assert_measured(both, repaired(outcome.model, outcome.guard_labels), digits)
    assert both["forward_passes"] == outcome.forward_passes + len(digits.train)
    assert both["steps"] == outcome.steps + -(-len(digits.train) // 100)

    logits = predict_logits(model, forget)
    logits[:, CLASS] = -torch.inf
    assert_measured(rows["guarded repair"], repaired(model, logits.argmax(dim=1)), digits)
    assert rows["guarded repair"]["forward_passes"] == len(digits.train) + len(forget)

    printed = capsys.readouterr().out
    assert f"{len(forget)} samples to forget, class 3; seed 4" in printed and "results in out" in printed
    pixels = imread("out/figures/methods.png")[..., :3]
    assert (pixels != 1).any(axis=2).mean() > 0.02
    assert sorted(path.name for path in Path("out").rglob("*")) == ["audits.md", "bench.json", "figures", "methods.png"]


def test_audits_of_other_packages_have_a_figure_in_every_row(
    checkpoint: Path, digits: ImageSource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch)
    body = bench("--checkpoint", checkpoint, "--forget-class", CLASS, "--unseen", 0, *QUICK)
    forget = digits.train.of_classes([CLASS])
    by_hand = predict_logits(given_model(checkpoint), forget).double().softmax(1)[:, CLASS].mean()
    assert body["rows"][0]["extra"] == {NAME: pytest.approx(float(by_hand), abs=1e-9)}
    assert all(set(row["extra"]) == {NAME} for row in body["rows"])
    assert "confidence" in capsys.readouterr().out


def test_without_a_checkpoint_model_and_oracle_are_trained_alike(digits: ImageSource) -> None:
    body = bench("--forget-class", CLASS, "--epochs", 3, "--batch-size", 64, "--model-parameter", "width=8", "--oracle",
                 "--unseen", 0, *QUICK)  # fmt: skip
    rows = rows_of(body)
    assert list(rows) == ["original", "boundary-shrink", "oracle"]
    for name, samples in (("original", digits.train), ("oracle", without_class(digits.train))):
        model = narrow_model()
        settings = TrainingSettings(local_epochs=3, batch_size=64)
        passes = train_locally(model, samples, settings, seeded_generator(0, "bench", "train"))
        assert_measured(rows[name], model, digits)
        assert rows[name]["forward_passes"] == passes.forward == 3 * len(samples)
        assert rows[name]["steps"] == 3 * -(-len(samples) // 64)
    assert rows["oracle"]["test_forget_accuracy"] == 0


def test_the_default_training_reaches_0_97_on_digits() -> None:
    body = bench("--forget-samples", 1, "--methods", "instance-wise", "--set", "instance-wise.max_steps=1")
    assert rows_of(body)["original"]["test_retain_accuracy"] >= 0.97


def test_samples_are_drawn_by_the_seed_among_those_that_are_right(checkpoint: Path, digits: ImageSource) -> None:
    def drawn(out: str, seed: int) -> dict[str, Any]:
        options = ("--methods", "instance-wise", "--set", "instance-wise.max-steps=4", "--retain-samples", 100)
        return bench("--checkpoint", checkpoint, "--forget-samples", 12, "--seed", seed, *options, out=out)

    first, again, other = drawn("first", 1), drawn("again", 1), drawn("other", 2)
    model = given_model(checkpoint)
    forget = digits.train.only(first["data"]["forget_sample_ids"])
    assert len(forget) == 12
    assert (predict_logits(model, forget).argmax(dim=1) == forget.labels).all()
    assert set(other["data"]["forget_sample_ids"]) != set(forget.ids)
    row = rows_of(first)["original"]
    assert row["forget_accuracy"] == 1 and row["test_forget_accuracy"] is None
    data = first["data"]
    assert (data["retain_samples"], data["retain_samples_measured"]) == (len(digits.train) - 12, 100)
    assert (data["unseen_samples"], data["test_samples"]) == (0, len(digits.test))
    for body in (first, again):
        for entry in body["rows"]:
            for cost in (entry, *entry["audit_costs"].values()):
                cost.pop("seconds")
        body["settings"].pop("out")
    assert first == again


def test_a_checkpoint_of_any_width_loads_and_so_does_the_oracles(digits: ImageSource) -> None:
    for name, seed in (("given", 0), ("oracle", 1)):
        model = build_model("all-cnn", class_count=10, image_shape=(1, 8, 8), seed=seed, parameters={"width": 0.125})
        save_checkpoint(model, Path(f"{name}.safetensors"))
    body = bench("--model", "all-cnn", "--checkpoint", "given.safetensors", "--oracle-checkpoint", "oracle.safetensors",
                 "--forget-class", CLASS, "--unseen", 0, "--methods", "mask-output")  # fmt: skip
    assert body["settings"]["model_parameters"] == {"width": 0.125}
    assert list(rows_of(body)) == ["original", "mask-output", "oracle"]
    assert_measured(rows_of(body)["oracle"], model, digits)


@dataclass(frozen=True, kw_only=True)
class Recorder(Method):
    """Remembers what it was given, and changes nothing."""

    paper = "none"
    scopes = ("class",)
    needs = "forget"
    seen: ClassVar[list[tuple[str, Workspace]]] = []

    def _apply(self, work: Workspace) -> Applied:
        self.seen.append((self.name, work))
        return Applied(converged=True, steps=0, guard_labels=None)

    def stronger(self) -> Self:
        return self


@dataclass(frozen=True, kw_only=True)
class NeedyRecorder(Recorder):
    requires_retain = True


@dataclass(frozen=True, kw_only=True)
class Interrupted(Recorder):
    def _apply(self, work: Workspace) -> Applied:
        raise KeyboardInterrupt


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Workspace]]]:
    monkeypatch.setattr(methods.METHODS, "_classes", methods.available())
    register("recorder")(Recorder)
    register("needy-recorder")(NeedyRecorder)
    register("interrupted")(Interrupted)
    Recorder.seen.clear()
    yield Recorder.seen


@pytest.mark.parametrize(("option", "given"), [("--with-retain", True), ("--forget-only", False)])
def test_who_is_given_what(
    checkpoint: Path, digits: ImageSource, recorders: list[tuple[str, Workspace]], option: str, given: bool
) -> None:
    two = ("--forget-class", 3, "--forget-class", 5)
    bench("--checkpoint", checkpoint, *two, "--methods", "recorder,needy-recorder", option, "--unseen", 40)
    (plain, needy) = recorders
    assert [plain[0], needy[0]] == ["recorder", "needy-recorder"]
    assert needy[1].retain is not None and (plain[1].retain is not None) is given
    assert isinstance(plain[1].forget, ImageSet) and isinstance(needy[1].retain, ImageSet)
    assert sorted([*plain[1].forget.ids, *needy[1].retain.ids]) == sorted(digits.train.ids)
    assert set(plain[1].forget.labels.tolist()) == plain[1].excluded_classes == {3, 5}
    assert isinstance(plain[1].unseen, ImageSet)
    assert len(plain[1].unseen) == 40 and set(plain[1].unseen.ids) <= set(digits.test.ids)


def test_without_methods_all_that_serve_the_request_are_compared(recorders: object) -> None:
    by_class = prepare_bench(MethodBenchSettings(forget_classes=(CLASS,), out=Path("out")))
    assert list(by_class.methods) == [
        name for name, cls in available().items() if "class" in cls.scopes and not cls.is_control
    ]
    assert "recorder" in by_class.methods and "mask-output" not in by_class.methods
    by_sample = prepare_bench(MethodBenchSettings(forget_samples=3, out=Path("out")))
    assert "instance-wise" in by_sample.methods and "recorder" not in by_sample.methods


def test_what_diverges_is_a_row_with_its_error_and_the_bench_goes_on(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--methods", "boundary-shrink,mask-output", "--set", "boundary-shrink.learning_rate=1e30", "--repair")
    body = bench("--checkpoint", checkpoint, "--forget-class", CLASS, *options, "--repair-learning-rate", 1e25, code=1)
    rows = rows_of(body)
    assert body["complete"] and "boundary-shrink: the loss is nan" in rows["boundary-shrink"]["error"]
    assert rows["boundary-shrink"]["forget_accuracy"] is None
    assert rows["mask-output"]["error"] is None and rows["mask-output"]["forget_accuracy"] == 0
    assert "training: the loss is nan" in rows["guarded repair"]["error"]
    assert "boundary-shrink failed: boundary-shrink: the loss is nan" in capsys.readouterr().out


def test_an_interrupt_leaves_the_rows_that_are_there(
    checkpoint: Path, recorders: object, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = bench("--checkpoint", checkpoint, "--forget-class", 3, "--methods", "recorder,interrupted", code=130)
    assert list(rows_of(body)) == ["original", "recorder"] and not body["complete"]
    assert [path.name for path in Path("out").rglob("*")] == ["bench.json"]
    assert f"interrupted; rows so far in {folder / 'out'}" in capsys.readouterr().out


@pytest.mark.parametrize("existed", [False, True])
def test_an_interrupt_before_the_first_row_leaves_nothing(monkeypatch: pytest.MonkeyPatch, existed: bool) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "train_locally", interrupted)
    if existed:
        Path("out").mkdir()
    assert run_command(["bench", "methods", "--forget-class", "3", "--out", "out"]) == 130
    assert Path("out").exists() is existed and not list(Path().rglob("*.json"))


def test_training_that_diverges_is_one_line_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "methods", "--forget-class", "3", "--learning-rate", "1e20", "--epochs", "1", "--out", "out"]
    assert run_command(command) == 1
    assert capsys.readouterr().err.startswith("fed-unlearn: training: the loss is nan at learning rate")
    assert not Path("out").exists()


EVERY_CLASS = [option for label in range(10) for option in ("--forget-class", str(label))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--forget-class", "3", "--methods", "amnesia"],
            "method 'amnesia' is unknown; known are bad-teacher, boundary-expanding,",
        ),
        (["--forget-class", "3", "--methods", ""], "method '' is unknown"),
        (
            ["--forget-samples", "3", "--methods", "saliancy"],
            "method 'saliancy' is unknown; did you mean saliency? known are bad-teacher, boundary-expanding,"
            " boundary-shrink, finetune, frozen-head, instance-wise,",
        ),
        (
            ["--forget-samples", "3", "--methods", "mask-output"],
            "--methods mask-output: serves class requests, not sample",
        ),
        (["--forget-class", "12"], "--forget-class 12: is not a class of 'digits'; expected one of 0..9"),
        (["--forget-class", "-1"], "--forget-class -1: is not a class of 'digits'; expected one of 0..9"),
        (EVERY_CLASS, "--forget-class: all 10 classes of 'digits' were given, which leaves nothing to keep"),
        (["--forget-samples", "1438"], "--forget-samples 1438: 'digits' has 1438 training samples; expected"),
        (["--forget-samples", "0"], "Invalid value for '--forget-samples': 0 is not in the range"),
        ([], "--forget-class and --forget-samples: neither was given; expected exactly one"),
        (["--forget-class", "3", "--forget-samples", "3"], "--forget-class and --forget-samples: both were given"),
        (["--forget-class", "3", "--unseen", "359"], "--unseen 359: 'digits' has 359 test samples; expected fewer"),
        (["--forget-class", "3", "--set", "boundary-shrink.rate=1"], "'boundary-shrink' has no parameter 'rate'"),
        (
            ["--forget-class", "3", "--set", "boundary-shrink.epochs=-1"],
            "boundary-shrink: epochs = -1 was given; allowed",
        ),
        (
            ["--forget-class", "3", "--set", "mask-output.bias=-1"],
            "--set mask-output.bias=-1: 'mask-output' is none of",
        ),
        (["--forget-class", "3", "--set", "epochs=1"], "--set epochs=1: expected METHOD.PARAMETER=VALUE"),
        (["--forget-class", "3", "--model-parameter", "width"], "--model-parameter width: expected KEY=VALUE"),
        (["--forget-class", "3", "--model-parameter", "depth=3"], "small-cnn: parameter 'depth' is unknown; expected"),
        (["--forget-class", "3", "--model", "magic"], "model 'magic' is unknown; expected"),
        (["--forget-class", "3", "--dataset", "folder:missing"], "missing: no such folder; expected"),
        (["--forget-class", "3", "--dataset", "magic"], "data set 'magic' is unknown; expected"),
        (["--forget-class", "3", "--checkpoint", "none.safetensors"], "none.safetensors: no such checkpoint; expected"),
        (["--forget-class", "3", "--checkpoint", "text.safetensors"], "text.safetensors: not a readable safetensors"),
        (["--forget-class", "3", "--checkpoint", "other.safetensors"], "other.safetensors: has no tensor"),
        (["--forget-class", "3", "--oracle-checkpoint", "other.safetensors"], "other.safetensors: has no tensor"),
        (["--forget-class", "3", "--learning-rate", "-1"], "training: learning_rate = -1.0 is out of range"),
        (["--forget-class", "3", "--repair", "--repair-fraction", "2"], "--repair: training: fraction = 2.0 is out of"),
        (["--forget-class", "3", "--oracle", "--checkpoint", "x"], "--oracle with --checkpoint: the model was trained"),
        (["--forget-class", "3", "--oracles", "2", "--checkpoint", "x"], "--oracles with --checkpoint: the model was"),
        (["--forget-class", "3", "--oracles", "0"], "Invalid value for '--oracles': 0 is not in the range"),
        (["--forget-class", "3", "--skip-audits", "magic"], "--skip-audits magic: is unknown; expected some of"),
        (["--forget-class", "3", "--device", "abacus"], "--device abacus: cannot be used ("),
        (["--forget-class", "3", "--out", "."], "is not empty; expected a new folder or an empty one"),
        (["--forget-class", "3", "--out", "text.safetensors"], "text.safetensors is a file; expected a new folder"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    Path("text.safetensors").write_text("nothing of the kind")
    save_file({"weight": torch.zeros(2)}, folder / "other.safetensors")
    monkeypatch.setattr(making, "train_locally", lambda *_: pytest.fail("something was trained"))
    before = sorted(folder.rglob("*"))
    assert run_command(["bench", "methods", "--out", "out", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fed-unlearn: ") and captured.err.count("\n") == 1
    assert message in captured.err and captured.out == ""
    assert sorted(folder.rglob("*")) == before


def test_a_model_that_has_too_few_samples_right_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(narrow_model(), Path("untrained.safetensors"))
    command = ["bench", "methods", "--checkpoint", "untrained.safetensors", "--forget-samples", "1000", "--out", "out"]
    assert run_command(command) == 2
    assert "--forget-samples 1000: the model has only " in capsys.readouterr().err
    assert not Path("out").exists()


def test_counts_are_short() -> None:
    written = {0: "0", 998: "998", 1000: "1.00k", 9_996: "10.0k", 99_960: "100k", 999_600: "1.00M", 22_500_000: "22.5M"}
    assert {count: short_count(count) for count in written} == written


@pytest.mark.parametrize(
    ("names", "label", "index"),
    [(("1", "2", "3"), 1, 0), (("cat", "deer", "fox"), "deer", 1), (("5", "6", "7"), "7", 2)],
)
def test_a_class_to_forget_is_named_by_its_label(names: tuple[str, ...], label: int | str, index: int) -> None:
    source = load_source("digits")
    kept = source.train.of_classes({0, 1, 2})
    few = ImageSource(kept, source.test, names, "f" * 64)
    settings = MethodBenchSettings(forget_classes=(label,), out=Path("out"))
    check_forget(settings, few)
    assert few.classes.indices(settings.forget_classes) == (index,)
    with pytest.raises(InvalidDataError, match=r"--forget-class 9: is not a class of 'digits'; expected one of "):
        check_forget(replace(settings, forget_classes=(9,)), few)
