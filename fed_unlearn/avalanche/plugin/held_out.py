"""A share of every training experience that the strategy never trains on, and that the gate judges by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from hashlib import blake2b
from numbers import Real
from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.streams.samples import labels_of, sample_ids
from fed_unlearn.errors import InvalidParameterError

LARGEST = 0.5


def share_of(validation: Any) -> float | None:
    """Return the share that is held out, if ``validation`` is a real number; None for all else."""
    is_share = isinstance(validation, Real) and not isinstance(validation, bool)
    return float(validation) if is_share else None


class HeldOut:
    """Chooses the samples to hold out as experiences, or online parts of them, arrive.

    Parameters
    ----------
    share : float or None
        Share of the samples of each class, in (0, 0.5]. None holds out nothing.
    seed : int
        Seed of the choice. It depends on the seed, the ids and the order of arrival only.

    Attributes
    ----------
    ids : frozenset of str
        Ids of all samples that are held out, forgotten ones included.

    Raises
    ------
    InvalidParameterError
        If the share is not in (0, 0.5].
    """

    def __init__(self, share: float | None = None, seed: int = 0) -> None:
        if share is not None and not (type(share) is float and 0 < share <= LARGEST):
            raise InvalidParameterError(
                f"validation = {share!r} was given; expected a share of the training samples in (0, {LARGEST}], such as"
                " 0.1"
            )
        self.ids: frozenset[str] = frozenset()
        self._share, self._seed = share, seed
        self._trained: set[str] = set()
        self._arrived: Counter[int] = Counter()
        self._held: Counter[int] = Counter()

    def meet(self, dataset: AvalancheDataset, forgotten: Collection[str] = ()) -> None:
        """Choose from the samples that arrive. A sample that has arrived before stays where it is.

        Parameters
        ----------
        dataset : AvalancheDataset
            The samples, with sample ids. Of all samples of a class that have arrived, the share is held out, rounded,
            and one at least is not.
        forgotten : collection of str
            Ids of samples that are not trained on. They are not held out.
        """
        if self._share is None or len(dataset) == 0:
            return
        new: defaultdict[int, list[str]] = defaultdict(list)
        for name, label in zip(sample_ids(dataset), labels_of(dataset), strict=True):
            if name not in self.ids and name not in self._trained and name not in forgotten:
                new[label].append(name)
        for label, names in new.items():
            self._arrived[label] += len(names)
            wanted = min(int(self._share * self._arrived[label] + 0.5), self._arrived[label] - 1) - self._held[label]
            chosen = sorted(names, key=self._rank)[: max(wanted, 0)]
            self._held[label] += len(chosen)
            self.ids = self.ids.union(chosen)
            self._trained.update(set(names) - set(chosen))

    def _rank(self, name: str) -> bytes:
        return blake2b(f"{self._seed}:{name}".encode(), digest_size=8).digest()
