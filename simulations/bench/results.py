"""``bench.json``, the results of ``fed-unlearn bench methods``. Its table and figure are made from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fed_unlearn.checkpoints import write_atomically

FILE_NAME = "bench.json"
ORIGINAL, ORACLE, REPAIR = "original", "oracle", "guarded repair"
REPAIRED_SUFFIX = f" + {REPAIR}"


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """The figures of one model: the original, one unlearned by a method, a repaired one, or the oracle.

    Attributes
    ----------
    method : str
        ``original``, ``oracle``, ``guarded repair``, a method's name, or a method's name and ``+ guarded repair``.
    forget_accuracy, retain_accuracy : float or None
        Top-1 accuracy on training samples: on the forget set, and on the retain set or a part of it.
    test_forget_accuracy, test_retain_accuracy : float or None
        Top-1 accuracy on test samples of the forgotten classes, and of the other classes. If single samples are
        forgotten, the first is None and the second is measured on all test samples.
    membership_auc : float or None
        AUC of the loss-threshold attack that tells the forget set from test samples of the same classes.
    membership_auc_interval : (float, float) or None
        The 95 % bootstrap interval of ``membership_auc``.
    seconds : float or None
        Wall time that it took to make this model from the original, or to train it. None for a checkpoint.
    forward_passes, backward_passes : int or None
        Samples that passed through a model in that time.
    steps : int or None
        Optimizer steps.
    converged : bool or None
        Whether the method reports that it reached its aim, before any repair.
    error : str or None
        Why there are no figures.
    extra : mapping of str to (float or None)
        Figures of audits without a field here, by name; left out of ``bench.json`` where there are none.
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
    extra: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def passes(self) -> int | None:
        """Sample passes. A backward pass counts as two. None if nothing was counted."""
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
    seed : int
    threads : int
        Threads of torch.
    device : str
        The device of torch, with the name of the GPU.
    settings : mapping
        The settings of the comparison, with defaults filled in.
    methods : mapping
        The hyper-parameters of every method, by its name.
    data : mapping
        The sizes of all sets, the classes or the ids of the samples to forget, and the data's fingerprint.
    versions : mapping of str to str
        Versions of Python and of packages.
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
        """Write ``bench.json`` in one step. A reader sees the old file or the new one, never a part."""
        body = dataclasses.asdict(self)
        for row in body["rows"]:
            if not row["extra"]:
                del row["extra"]
        write_atomically(folder / FILE_NAME, (json.dumps(body, indent=1, allow_nan=False, default=str) + "\n").encode())
