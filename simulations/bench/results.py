"""``bench.json``, the results of ``fed-unlearn bench methods``. Its table and figure are made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.simulations.bench.audited import Outside, RowAudits, left_out_share

FILE_NAME = "bench.json"
ORIGINAL, ORACLE, REPAIR = "original", "oracle", "guarded repair"
REPAIRED_SUFFIX = f" + {REPAIR}"


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """The figures of one model: the original, one unlearned by a method, a repaired one, or the oracle.

    Attributes
    ----------
    method : str
        ``original``, ``guarded repair``, a method's name, or a method's name and ``+ guarded repair``; ``oracle``, or
        ``oracle 1``, ``oracle 2`` and so on where there are several.
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
        Number of optimizer steps.
    converged : bool or None
        Whether the method reports that it reached its aim, before any repair.
    error : str or None
        Why there are no figures.
    extra : mapping of str to (float or None)
        Figures of other packages' audits, by name; left out of ``bench.json`` where there are none.
    audits : RowAudits or None
        Figures with intervals, costs and verdicts, which stand beside the other fields in ``bench.json``. None where
        there are no figures.
    from_cache : bool
        Whether the model was made by an earlier comparison, which its seconds and passes are of; left out of
        ``bench.json`` where it is False.
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
    audits: RowAudits | None = None
    from_cache: bool = False

    @property
    def is_oracle(self) -> bool:
        """Whether it is an oracle's."""
        return self.method == ORACLE or self.method.startswith(f"{ORACLE} ")

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

    def beside(self, oracles: Sequence[MethodRow]) -> MethodRow:
        """The same row with verdicts. An oracle is judged by the others.

        Parameters
        ----------
        oracles : sequence of MethodRow
            The rows of the oracles. If this row is one of them, it does not count.
        """
        if self.audits is None:
            return self
        others = [row.audits for row in oracles if row.method != self.method and row.audits is not None]
        return replace(self, audits=self.audits.beside(others))

    def to_json(self) -> dict[str, object]:
        """As JSON."""
        optional = {"extra": bool(self.extra), "from_cache": self.from_cache, "audits": False}
        body = {name: value for name, value in vars(self).items() if optional.get(name, True)}
        return {**body, **(self.audits.to_json() if self.audits is not None else {})}


@dataclass(frozen=True, kw_only=True)
class MethodBenchReport:
    """All rows, and what they were measured with.

    Attributes
    ----------
    rows : tuple of MethodRow
    scope : str
        Scope of the requests, ``class`` or ``sample``.
    seed : int
    threads : int
        Number of threads of torch.
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

    @property
    def oracles(self) -> tuple[MethodRow, ...]:
        """The rows of oracles that were measured."""
        return tuple(row for row in self.rows if row.is_oracle and row.audits is not None)

    @property
    def left_out(self) -> Outside | None:
        """Figures of oracles that the other oracles do not allow; None with fewer than three."""
        return left_out_share([row.audits for row in self.oracles if row.audits is not None])

    def save(self, folder: Path) -> None:
        """Write ``bench.json`` in one step. A reader sees the old file or the new one, never a part."""
        body = {**vars(self), "rows": [row.to_json() for row in self.rows]}
        if self.left_out is not None:
            body["left_out_oracles"] = vars(self.left_out)
        write_atomically(folder / FILE_NAME, (json.dumps(body, indent=1, allow_nan=False, default=str) + "\n").encode())
