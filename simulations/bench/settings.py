"""What ``fed-unlearn bench methods`` is asked to compare; light, for the command line shows the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEFAULT_EPOCHS = 10  # with the other training defaults, 0.97 or more on digits
# Of tens of thousands of images a fifth is enough; of digits it makes three steps, which change little.
DEFAULT_REPAIR_FRACTION, LEAST_REPAIR_SAMPLES = 0.2, 1500


@dataclass(frozen=True, kw_only=True)
class RepairSettings:
    """Training on retained samples mixed with guarded forget samples, after a method or alone.

    Attributes
    ----------
    epochs, batch_size : int
        At least 1.
    learning_rate : float
        Of SGD with momentum 0.9, above 0.
    fraction : float or None
        Share of the mixed samples that is drawn for it, in (0, 1]. Where None, ``DEFAULT_REPAIR_FRACTION``, but as much
        as makes ``LEAST_REPAIR_SAMPLES`` of them.
    margin : float
        How far the old class is to stay below the others, in logits; 0 for no such term.
    weight : int
        How often each forget sample stands in the mix, at least 1.
    batch_norm : {"train", "frozen"}
        Whether BatchNorm statistics follow the batches or stay as they are.
    """

    epochs: int = 1
    learning_rate: float = 0.01
    batch_size: int = 100
    fraction: float | None = None
    margin: float = 8.0
    weight: int = 1
    batch_norm: Literal["train", "frozen"] = "train"


@dataclass(frozen=True, kw_only=True)
class MethodBenchSettings:
    """One comparison of methods: on what, which ones, measured how, written where.

    Attributes
    ----------
    dataset, model : str
        As in :func:`fed_unlearn.data.sources.load_source` and :func:`fed_unlearn.models.build_model`.
    model_parameters : tuple of str
        ``KEY=VALUE``; what is not given is told by the checkpoint's shapes.
    checkpoint : Path or None
        The trained model; trained here where None.
    epochs : int or None
        Of training; ``DEFAULT_EPOCHS`` where None.
    learning_rate : float
        Of SGD with momentum 0.9, in training.
    batch_size : int
        In training.
    augment : bool
        Random flips and shifts in training.
    forget_classes : tuple of int
        Classes to forget; or else ``forget_samples``.
    forget_samples : int or None
        So many training samples that the model has right, drawn by the seed.
    methods : tuple of str
        Names; every method that serves the scope and is no control where empty.
    overrides : tuple of str
        ``METHOD.PARAMETER=VALUE``.
    with_retain : bool
        Whether methods that can do without retained samples are given them.
    retain_samples : int
        Most training samples that ``retain_accuracy`` is measured on.
    unseen : int or None
        Test samples set aside for methods that imitate unseen ones; where None, a tenth of them if
        some method must have them.
    repair : RepairSettings or None
        None for no rows with guarded repair.
    oracle : bool
        Train the oracle.
    oracle_checkpoint : Path or None
        Or read it.
    seed : int
    device : str or None
        As torch names it; CUDA where there is one, else the CPU, where None.
    out : Path
        A new or empty folder.
    """

    dataset: str = "digits"
    model: str = "small-cnn"
    model_parameters: tuple[str, ...] = ()
    checkpoint: Path | None = None
    epochs: int | None = None
    learning_rate: float = 0.05
    batch_size: int = 32
    augment: bool = False
    forget_classes: tuple[int, ...] = ()
    forget_samples: int | None = None
    methods: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    with_retain: bool = True
    retain_samples: int = 9000
    unseen: int | None = None
    repair: RepairSettings | None = None
    oracle: bool = False
    oracle_checkpoint: Path | None = None
    seed: int = 0
    device: str | None = None
    out: Path

    @property
    def scope(self) -> Literal["class", "sample"]:
        """What kind of request the comparison is about."""
        return "class" if self.forget_classes else "sample"
