"""``bench.json``: what ``fed-unlearn bench methods`` measured, the source of its table and its figure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fed_unlearn.files import write_atomically

FILE_NAME = "bench.json"
ORIGINAL, ORACLE, REPAIR = "original", "oracle", "guarded repair"
REPAIRED_SUFFIX = f" + {REPAIR}"


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One model: as given, unlearned by a method, repaired, or the oracle.

    Attributes
    ----------
    method : str
        ``original``, ``oracle``, ``guarded repair``, a method's name, or that and ``+ guarded repair``.
    forget_accuracy, retain_accuracy : float or None
        Top-1 on D_f and on (a part of) D_r, training samples.
    test_forget_accuracy, test_retain_accuracy : float or None
        Top-1 on test samples of the forgotten classes and of the others; where single samples are forgotten None and
        all test samples.
    membership_auc : float or None
        Of the loss-threshold attack that tells D_f from test samples of the same classes.
    membership_auc_interval : (float, float) or None
        Its 95 % bootstrap interval.
    seconds : float or None
        Wall time of what led from the given model to this one, or of training; None for a checkpoint.
    forward_passes, backward_passes : int or None
        Samples pushed through in that time.
    steps : int or None
        Optimizer steps.
    converged : bool or None
        Whether the method says that its own aim was met, before any repair.
    error : str or None
        Why there are no figures.
    """

    method: str
    forget_accuracy: float | None = None
    retain_accuracy: float | None = None
    test_forget_accuracy: float | None = None
    test_retain_accuracy: float | None = None
    membership_auc: float | None = None
    membership_auc_interval: tuple[float, float] | None = None
    seconds: float | None = None
    forward_passes: int | None = None
    backward_passes: int | None = None
    steps: int | None = None
    converged: bool | None = None
    error: str | None = None

    @property
    def passes(self) -> int | None:
        """Sample passes, a backward pass counted as two forward; None where nothing was counted."""
        if self.forward_passes is None or self.backward_passes is None:
            return None
        return self.forward_passes + 2 * self.backward_passes

    @property
    def is_repaired(self) -> bool:
        """Whether guarded repair came after a method."""
        return self.method.endswith(REPAIRED_SUFFIX)


@dataclass(frozen=True, kw_only=True)
class MethodBenchReport:
    """All rows, and what they were measured with.

    Attributes
    ----------
    rows : tuple of MethodRow
    scope : str
        ``class`` or ``sample``.
    seed, threads : int
        ``threads`` of torch.
    device : str
    settings : mapping
        As asked for, with what was left to defaults filled in.
    methods : mapping
        Hyper-parameters of every method.
    data : mapping
        Sizes of all sets, the classes or the ids of the samples to forget, and the data's fingerprint.
    versions : mapping of str to str
    complete : bool
        False until the last row is measured.
    """

    rows: Sequence[MethodRow] = ()
    scope: str
    seed: int
    threads: int
    device: str
    settings: Mapping[str, object] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    data: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False

    @property
    def has_errors(self) -> bool:
        """Whether some row has no figures."""
        return any(row.error is not None for row in self.rows)

    def save(self, folder: Path) -> None:
        """Write ``bench.json`` in one step: readers see the old file or the new one, both complete JSON."""
        body = dataclasses.asdict(self)
        write_atomically(folder / FILE_NAME, (json.dumps(body, indent=1, allow_nan=False, default=str) + "\n").encode())
