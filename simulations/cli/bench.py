"""The commands below ``fed-unlearn bench``; whatever is heavy is imported by the commands that need it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.simulations.bench.settings import (
    DEFAULT_EPOCHS,
    DEFAULT_REPAIR_FRACTION,
    LEAST_REPAIR_SAMPLES,
    MethodBenchSettings,
    RepairSettings,
)

bench = typer.Typer(help="Measure what things cost on this machine.", no_args_is_help=True)

_Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the scenario; may be repeated.")
]


class _BatchNorm(StrEnum):
    TRAIN = "train"
    FROZEN = "frozen"


@bench.command()
def overhead(
    scenario: Annotated[str, typer.Argument(help="A scenario that begins with training by FedAvg.")] = "digits",
    overrides: _Overrides = None,
    repetitions: Annotated[int, typer.Option(min=1, help="How often everything is measured, alternating.")] = 5,
    ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Measure the Ray engine too.")] = True,
) -> int:
    """Compare the same training as a plain PyTorch loop, in process, and on Ray."""
    from fed_unlearn.simulations.bench.overhead import measure_overhead
    from fed_unlearn.simulations.bench.table import print_overhead
    from fed_unlearn.simulations.scenario import load_scenario

    report = measure_overhead(
        load_scenario(scenario, overrides or ()), repetitions=repetitions, with_ray=ray, on_progress=print
    )
    print_overhead(report)
    return 0 if report.arrays_equal else 1


@bench.command("methods")
def bench_methods(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for bench.json and figures, new or empty.")],
    dataset: Annotated[
        str, typer.Option(help="digits, torchvision:NAME, folder:PATH or hf:NAME-OR-PATH.")
    ] = MethodBenchSettings.dataset,
    model: Annotated[
        str, typer.Option(help="small-cnn, all-cnn, torchvision:NAME or package.module:callable.")
    ] = MethodBenchSettings.model,
    model_parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Of the model; may be repeated. A checkpoint's shapes tell the width."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The trained model, a safetensors file. Without one it is trained first.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help=f"Of training.  [default: {DEFAULT_EPOCHS}, enough for digits]")
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(help="Of training, by SGD with momentum 0.9.")
    ] = MethodBenchSettings.learning_rate,
    batch_size: Annotated[int, typer.Option(min=1, help="Of training.")] = MethodBenchSettings.batch_size,
    augment: Annotated[
        bool, typer.Option("--augment/--no-augment", help="Train with random flips and shifts.")
    ] = MethodBenchSettings.augment,
    forget_class: Annotated[list[int] | None, typer.Option(help="A class to forget; may be repeated.")] = None,
    forget_samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="In place of --forget-class: so many random training samples, drawn by the seed among those that the"
            " model classifies correctly.",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="By name.  [default: all that serve the request and are no controls]"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.PARAMETER=VALUE", help="A hyper-parameter; may be repeated."),
    ] = None,
    with_retain: Annotated[
        bool,
        typer.Option("--with-retain/--forget-only", help="Give retained samples to methods that can do without them."),
    ] = MethodBenchSettings.with_retain,
    retain_samples: Annotated[
        int, typer.Option(min=1, help="Most training samples that retain_accuracy is measured on, drawn by the seed.")
    ] = MethodBenchSettings.retain_samples,
    unseen: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Test samples set aside for methods that imitate unseen ones, and left out of all figures."
            "  [default: a tenth of them if some method must have them]",
        ),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair/--no-repair", help="Add guarded repair: alone, and after every method.")
    ] = False,
    repair_epochs: Annotated[int, typer.Option(min=1, help="Of guarded repair.")] = RepairSettings.epochs,
    repair_learning_rate: Annotated[float, typer.Option(help="Of guarded repair.")] = RepairSettings.learning_rate,
    repair_batch_size: Annotated[int, typer.Option(min=1, help="Of guarded repair.")] = RepairSettings.batch_size,
    repair_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of retained and guarded samples that one repair draws."
            f"  [default: {DEFAULT_REPAIR_FRACTION:g}, more where that is fewer than {LEAST_REPAIR_SAMPLES:,}]"
        ),
    ] = RepairSettings.fraction,
    repair_margin: Annotated[
        float, typer.Option(min=0, help="How far the old class is kept below the others, in logits.")
    ] = RepairSettings.margin,
    repair_weight: Annotated[
        int, typer.Option(min=1, help="How often each forget sample stands among the repair's samples.")
    ] = RepairSettings.weight,
    repair_batch_norm: Annotated[
        _BatchNorm, typer.Option(help="Whether BatchNorm statistics follow the repair's batches.")
    ] = _BatchNorm(RepairSettings.batch_norm),  # noqa: B008
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Train the oracle: from scratch, without the forget set.")
    ] = False,
    oracle_checkpoint: Annotated[
        Path | None, typer.Option(help="The oracle, trained already: a safetensors file.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = MethodBenchSettings.seed,
    device: Annotated[str | None, typer.Option(help="cpu, or cuda.  [default: cuda where there is one]")] = None,
) -> int:
    """Compare unlearning methods on your model and data, in one table and one figure; no federation."""
    from rich.console import Console

    from fed_unlearn.simulations.bench.methods import run_method_bench
    from fed_unlearn.simulations.bench.table import print_bench

    settings = MethodBenchSettings(
        dataset=dataset,
        model=model,
        model_parameters=tuple(model_parameter or ()),
        checkpoint=checkpoint,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        augment=augment,
        forget_classes=tuple(forget_class or ()),
        forget_samples=forget_samples,
        methods=() if methods is None else tuple(name.strip() for name in methods.strip(" ,").split(",")),
        overrides=tuple(overrides or ()),
        with_retain=with_retain,
        retain_samples=retain_samples,
        unseen=unseen,
        repair=RepairSettings(
            epochs=repair_epochs,
            learning_rate=repair_learning_rate,
            batch_size=repair_batch_size,
            fraction=repair_fraction,
            margin=repair_margin,
            weight=repair_weight,
            batch_norm=repair_batch_norm.value,
        )
        if repair
        else None,
        oracle=oracle,
        oracle_checkpoint=oracle_checkpoint,
        seed=seed,
        device=device,
        out=out,
    )
    report = run_method_bench(settings, on_progress=lambda text: print(text, flush=True))
    print_bench(report, settings.out, Console())
    return 1 if report.has_errors else 0
