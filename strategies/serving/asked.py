"""How many samples several requests ask for together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope


@dataclass
class Asked:
    """What several requests ask for together, every sample counted once.

    Attributes
    ----------
    classes : set of int
    clients : set of str
    samples : Counter of str
        Single samples by client.
    """

    classes: set[int] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)
    samples: Counter[str] = field(default_factory=Counter)

    def add(self, request: ForgetRequest) -> None:
        """Count one more."""
        match request.scope:
            case ClassScope(classes=classes):
                self.classes.update(classes)
            case SampleScope(client=client, sample_ids=ids, count=count):
                self.samples[client] += len(ids) or count
            case ClientScope(client=client):
                self.clients.add(client)

    def count(self, held: Mapping[str, Sequence[int]]) -> int:
        """How many samples these are at most, of what each client holds of each class."""
        total = 0
        for client, counts in held.items():
            of_classes = sum(counts[item] for item in self.classes if item < len(counts))
            everything = sum(counts)
            total += everything if client in self.clients else min(everything, of_classes + self.samples[client])
        return total
