"""What ``fed-unlearn bench methods`` is asked to compare. The command line reads its options from these fields.

Importing this module is cheap, since ``--help`` needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

DEFAULT_EPOCHS = 10  # with the other training defaults, test accuracy on digits is at least 0.97
# A fifth is enough of tens of thousands of images. Of digits, a fifth gives three steps, which change little.
DEFAULT_REPAIR_FRACTION, LEAST_REPAIR_SAMPLES = 0.2, 1500


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.strip(" ,").split(","))


@dataclass(frozen=True, kw_only=True)
class RepairSettings:
    """How guarded repair trains: on retained samples and guarded forget samples, by SGD with momentum 0.9."""

    epochs: Annotated[int, Option(min=1, help="Of guarded repair.")] = 1
    learning_rate: Annotated[float, Option(help="Of guarded repair.")] = 0.01
    batch_size: Annotated[int, Option(min=1, help="Of guarded repair.")] = 100
    fraction: Annotated[
        float | None,
        Option(
            help="Share of retained and guarded samples that one repair draws.",
            show_default=f"{DEFAULT_REPAIR_FRACTION:g}, more where that is fewer than {LEAST_REPAIR_SAMPLES:,}",
        ),
    ] = None
    margin: Annotated[float, Option(min=0, help="How far the old class is kept below the others, in logits.")] = 8.0
    weight: Annotated[int, Option(min=1, help="How often each forget sample stands among the repair's samples.")] = 1
    batch_norm: Annotated[
        Literal["train", "frozen"], Option(help="Whether BatchNorm statistics follow the repair's batches.")
    ] = "train"


@dataclass(frozen=True, kw_only=True)
class MethodBenchSettings:
    """What one comparison of methods is about: data, model, what to forget, methods, measures and output."""

    out: Annotated[Path, Option(metavar="DIR", help="Folder for bench.json and figures, new or empty.")]
    dataset: Annotated[str, Option(help="As fed-unlearn sources lists, or package.module:callable.")] = "digits"
    label: Annotated[str | None, Option(help="The column of labels, where a data set has several.")] = None
    model: Annotated[str, Option(help="small-cnn, all-cnn, torchvision:NAME or package.module:callable.")] = "small-cnn"
    model_parameters: Annotated[
        tuple[str, ...],
        Option(
            "--model-parameter",
            metavar="KEY=VALUE",
            help="Of the model; may be repeated. A checkpoint's shapes tell the width.",
        ),
    ] = ()
    checkpoint: Annotated[
        Path | None, Option(help="The trained model, a safetensors file. Without one it is trained first.")
    ] = None
    epochs: Annotated[
        int | None, Option(min=1, help="Of training.", show_default=f"{DEFAULT_EPOCHS}, enough for digits")
    ] = None
    learning_rate: Annotated[float, Option(help="Of training, by SGD with momentum 0.9.")] = 0.05
    batch_size: Annotated[int, Option(min=1, help="Of training.")] = 32
    augment: Annotated[bool, Option("--augment/--no-augment", help="Train with random flips and shifts.")] = False
    forget_classes: Annotated[
        tuple[int | str, ...],
        Option("--forget-class", metavar="LABEL", help="A class to forget, by its label or name; may be repeated."),
    ] = ()
    forget_samples: Annotated[
        int | None,
        Option(
            min=1,
            help="In place of --forget-class: so many random training samples, drawn by the seed among those that the"
            " model classifies correctly.",
        ),
    ] = None
    forget_memorised: Annotated[
        int | None,
        Option(
            min=1,
            help="Beside --forget-samples: so many more that models memorise, found by --shadows models of which each"
            " is trained on half of the samples.",
        ),
    ] = None
    shadows: Annotated[
        int,
        Option(
            min=0,
            help="For single samples: train so many shadow models of each kind, with and without the samples, and make"
            " the former forget by every method. 16 are usual.",
        ),
    ] = 0
    methods: Annotated[
        tuple[str, ...],
        Option(
            parser=_names,
            metavar="A,B,C",
            help="By name.",
            show_default="all that serve the request and are no controls",
        ),
    ] = ()
    controls: Annotated[
        bool, Option("--controls", help="Compare controls too, which only look as if they forget: audits must see it.")
    ] = False
    overrides: Annotated[
        tuple[str, ...],
        Option("--set", metavar="METHOD.PARAMETER=VALUE", help="A hyper-parameter; may be repeated."),
    ] = ()
    with_retain: Annotated[
        bool,
        Option("--with-retain/--forget-only", help="Give retained samples to methods that can do without them."),
    ] = True
    retain_samples: Annotated[
        int, Option(min=1, help="Most training samples that retain_accuracy is measured on, drawn by the seed.")
    ] = 9000
    audit_forget_samples: Annotated[
        int, Option(min=1, help="Most samples of the forget set that figures are measured on, drawn by the seed.")
    ] = 5000
    audit_test_samples: Annotated[
        int, Option(min=1, help="The same of the forgotten classes' test samples, and of those of the other classes.")
    ] = 10_000
    audit: Annotated[
        Literal["default", "full"],
        Option(help="Which audits: those that run with every request, or all, of which some train models."),
    ] = "default"
    skip_audits: Annotated[
        tuple[str, ...], Option(parser=_names, metavar="A,B", help="Audits to leave out, as fed-unlearn audits lists.")
    ] = ()
    table: Annotated[
        Literal["short", "full"], Option(help="What is printed. audits.md holds the full table in any case.")
    ] = "short"
    unseen: Annotated[
        int | None,
        Option(
            min=0,
            help="Test samples set aside for methods that imitate unseen ones, and left out of all figures.",
            show_default="a tenth of them if some method must have them",
        ),
    ] = None
    repair: Annotated[
        RepairSettings | None,
        Option("--repair/--no-repair", help="Add guarded repair: alone, and after every method."),
    ] = None
    oracle: Annotated[bool, Option("--oracle", help="Train one oracle: from scratch, without the forget set.")] = False
    oracles: Annotated[
        int | None, Option(min=1, metavar="N", help="Train so many, in parallel. A claim beside oracles needs 3.")
    ] = None
    oracle_checkpoint: Annotated[
        tuple[Path, ...], Option(metavar="FILE", help="An oracle that is trained already; may be repeated.")
    ] = ()
    cache: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Keep models there that are made here, and take what an earlier comparison kept.",
            show_default="with --shadows, cache in --out",
        ),
    ] = None
    seed: Annotated[int, Option(min=0, help="Of everything that is drawn.")] = 0
    device: Annotated[str | None, Option(help="cpu, or cuda.", show_default="cuda where there is one")] = None

    @property
    def trained_oracles(self) -> int:
        """Number of oracles to train."""
        return self.oracles or int(self.oracle)

    @property
    def scope(self) -> Literal["class", "sample"]:
        """The kind of request that the comparison is about."""
        return "class" if self.forget_classes else "sample"
