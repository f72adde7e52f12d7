"""Shadow models of a comparison: what they are trained on, what audits say of them, and what the table shows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.samples.ratios import HeldOutRatios
from fed_unlearn.audits.samples.shadows import confidences
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.simulations.bench.audited import RowAudits, RowFigure
from fed_unlearn.simulations.bench.checks import check_options
from fed_unlearn.simulations.bench.measures import Measures
from fed_unlearn.simulations.bench.results import ORIGINAL, MethodBenchReport, MethodRow
from fed_unlearn.simulations.bench.samples_table import samples_table
from fed_unlearn.simulations.bench.settings import MethodBenchSettings
from fed_unlearn.simulations.bench.setup import prepare_bench, split_samples
from fed_unlearn.simulations.bench.shadows import ShadowModels, holds_only_cache, how_to_go_on, with_cache
from fed_unlearn.simulations.cli import run_command


def settings(out: Path, **changed: object) -> MethodBenchSettings:
    given: dict[str, object] = {
        "out": out,
        "model_parameters": ("width=4",),
        "epochs": 1,
        "batch_size": 128,
        "forget_samples": 4,
        "forget_memorised": 2,
        "shadows": 4,
        "methods": ("finetune",),
        "overrides": ("finetune.epochs=1", "finetune.batch_size=128"),
        **changed,
    }
    return MethodBenchSettings(**given)  # type: ignore[arg-type]


def test_shadow_models_are_trained_without_the_samples_and_made_to_forget_as_the_model_is(tmp_path: Path) -> None:
    parts = prepare_bench(with_cache(settings(tmp_path), tmp_path))
    said: list[str] = []
    shadows = ShadowModels(parts, said.append, workers=1)
    original = parts.fresh_model()
    drawn = split_samples(parts, original)
    split = shadows.with_memorised(drawn, original)
    assert len(split.forget) == 6 and set(drawn.forget.ids) | split.memorised == set(split.forget.ids)
    assert not split.memorised & set(drawn.forget.ids)
    assert split.forget.ids == tuple(parts.source.train.ids[place] for place in split.positions().tolist())
    assert not set(split.retain.ids) & set(split.forget.ids)
    assert len(split.retain) + 6 == len(parts.source.train)
    memorised = parts.source.train.subset(
        torch.tensor([parts.source.train.ids.index(name) for name in sorted(split.memorised)])
    )
    assert torch.equal(predict_logits(original, memorised).argmax(1), memorised.labels)

    data = Measures(parts, split).readings(original).data
    of = shadows.prepared(split, data)
    untouched, finetuned, oracle = of(ORIGINAL), of("finetune"), of("oracle 1")
    assert untouched is not None and finetuned is not None and oracle is not None
    assert untouched.memorised is not None
    assert [name for name, chosen in zip(split.forget.ids, untouched.memorised, strict=True) if chosen] == sorted(
        split.memorised, key=split.forget.ids.index
    )
    jobs = [shadows._training("without", number, split.kept) for number in range(4)]
    models = [shadows._models.load(job) for job in jobs]
    assert torch.equal(untouched.retrained, confidences(models, split.forget))
    assert torch.equal(untouched.retrained_test, confidences(models, data.parts["test_retain"]))
    with_them = [shadows._training("with", number, torch.arange(len(parts.source.train))) for number in range(4)]
    assert untouched.unlearned is not None and finetuned.unlearned is not None and oracle.unlearned is not None
    assert torch.equal(untouched.unlearned, confidences([shadows._models.load(job) for job in with_them], split.forget))
    outcome = parts.methods["finetune"].unlearn(
        shadows._models.load(with_them[0]),
        split.forget,
        split.retain,
        generator=torch.Generator().manual_seed(shadows._unlearning("finetune", 0, with_them[0], split).seed),
    )
    assert torch.allclose(finetuned.unlearned[:1], confidences([outcome.model], split.forget), atol=1e-4)
    assert not torch.equal(oracle.unlearned, oracle.retrained)

    said.clear()
    again = ShadowModels(parts, said.append, workers=1)
    again.prepared(again.with_memorised(drawn, original), data)
    assert said and all(f"4 of 4 are in {tmp_path / 'cache' / 'shadows'}" in line for line in said)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shadows": 3}, "--shadows 3: expected at least 4, such as 16, or none"),
        ({"shadows": 0}, "--shadows 0: expected at least 4, such as 16; --forget-memorised finds its samples by them"),
        (
            {"forget_samples": None, "forget_classes": (3,), "forget_memorised": None},
            "--shadows 4: is of single samples; expected --forget-samples beside it",
        ),
        ({"checkpoint": Path("model.safetensors"), "epochs": None}, "--shadows with --checkpoint: the model was"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=f"^{message}"):
        check_options(settings(tmp_path, **changed))


def test_models_of_an_interrupted_comparison_are_found_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = settings(out)
    own = with_cache(given, out)
    assert own.cache == out / "cache" and with_cache(settings(out, shadows=0, forget_memorised=None), out).cache is None
    assert how_to_go_on(own, out) == []
    (out / "cache").mkdir(parents=True)
    assert holds_only_cache(out) and how_to_go_on(own, out) == [
        "models made so far are kept; to go on, run it again with the same --out"
    ]
    (out / "bench.json").write_text("{}")
    assert not holds_only_cache(out) and how_to_go_on(own, out) == [
        f"models made so far are kept; to go on, run it again with another --out and --cache {out / 'cache'}"
    ]


def test_the_table_shows_each_model_beside_shadow_models() -> None:
    def row(name: str, **figures: float) -> MethodRow:
        found = {key: RowFigure(audit="lira", measured=Measured(value)) for key, value in figures.items()}
        return MethodRow(method=name, audits=RowAudits(figures=found))

    report = MethodBenchReport(
        rows=(
            row("original", ulira_auc_random=0.614, ulira_auc_memorised=0.997, ulira_worst=1.0, lira_left=5.0),
            row("finetune + guarded repair", lira_auc_random=0.5, lira_left=0.0, lira_overdone=3.0),
            MethodRow(method="scrub", error="no memory"),
        ),
        scope="sample",
        seed=0,
        threads=1,
        device="cpu",
        settings={"shadows": 16},
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(samples_table(report))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["single", "samples", "beside", "16", "shadow", "models"] in lines
    assert ["method", "random", "memor.", "random", "sample", "left", "done"] in lines
    assert ["original", "0.61", "1.00", "-", "1.00", "5", "-"] in lines
    assert ["+", "guarded", "repair", "-", "-", "0.50", "-", "0", "3"] in lines
    assert not any("scrub" in line for line in lines)


@pytest.mark.slow
def test_an_untouched_model_and_one_memorised_sample_that_was_left_are_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = ["bench", "methods", "--forget-samples", "4", "--forget-memorised", "4", "--shadows", "8"]
    command += ["--methods", "finetune", "--oracle", "--out", str(out), "--cache", str(cache)]
    assert run_command(command) == 0
    report = json.loads((out / "bench.json").read_text())
    rows = {row["method"]: row["audits"] for row in report["rows"]}
    original, oracle = rows["original"], rows["oracle"]
    assert original["ulira_auc_memorised"]["value"] >= 0.95 and original["lira_left"]["value"] >= 1
    assert original["ulira_worst"]["value"] > 0.98
    for name in ("ulira_auc_random", "ulira_auc_memorised"):  # of 8 models, it may lie below 0.5 by chance
        assert oracle[name]["value"] < 0.7 and oracle[name]["interval"][0] < 0.5
    assert oracle["ulira_worst"]["value"] < 0.95 and oracle["lira_left"]["value"] == 0
    assert len(report["data"]["memorised_sample_ids"]) == 4 and report["data"]["forget_samples"] == 8
    shown = capsys.readouterr().out
    assert "single samples beside 8 shadow models" in shown and "all but 4 drawn at random" in shown

    # A planted failure: models retrained without all samples but the one that is memorised most.
    given = settings(
        out, model_parameters=(), epochs=None, forget_samples=4, forget_memorised=4, shadows=8, batch_size=32
    )
    parts = prepare_bench(with_cache(given, tmp_path / "other"))
    shadows = ShadowModels(parts, lambda text: None)
    ids = parts.source.train.ids
    forgotten = torch.tensor([ids.index(name) for name in report["data"]["forget_sample_ids"]])
    left = ids.index(report["data"]["memorised_sample_ids"][0])
    kept = torch.tensor([place for place in range(len(ids)) if place not in forgotten.tolist()])
    forget = parts.source.train.subset(forgotten)
    unlearned, retrained = (
        shadows._confidences([shadows._training(kind, number, positions) for number in range(8)], forget, kind)
        for kind, positions in (("planted", torch.cat([kept, torch.tensor([left])]).sort().values), ("without", kept))
    )
    aucs = HeldOutRatios.of(unlearned, retrained).aucs()
    assert ids[int(forgotten[int(aucs.argmax())])] == ids[left] and float(aucs.max()) > 0.98
