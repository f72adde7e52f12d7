"""The training experiences and the requests that a plug-in has met so far."""

from __future__ import annotations

from typing import Any

from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.naming import experience_with
from fed_unlearn.avalanche.streams.samples import labels_of, sample_ids, without


class History:
    """Keeps training experiences and requests, and tells which samples are forgotten.

    Attributes
    ----------
    trained : list of DatasetExperience
        Training experiences in the order of ``train_exp_counter``, with all their samples.
    sizes : list of int
        Number of samples of each training experience that the weights rest on: those that were trained on, without
        those of requests that were committed since.
    asked : list of ForgetExperience
        All requests, also those that the gate did not accept.
    forgotten : frozenset of str
        Ids of samples that must not be trained on again.
    """

    def __init__(self) -> None:
        self.trained: list[Any] = []
        self.sizes: list[int] = []
        self.asked: list[ForgetExperience] = []
        self.forgotten: frozenset[str] = frozenset()

    @property
    def asked_classes(self) -> set[int]:
        """Classes that class requests have named."""
        return {label for item in self.asked for label in getattr(item.request.scope, "classes", ())}

    def add_request(self, experience: ForgetExperience) -> None:
        """Note a request. Its samples are forgotten from now on."""
        self.forgotten = self.forgotten.union(experience.sample_ids)
        self.asked.append(experience)

    def add_training(self, experience: Any, place: int) -> Any:
        """Note a training experience and return it without forgotten samples.

        Samples of the experience that fall under an earlier request are forgotten, too.

        Parameters
        ----------
        experience : DatasetExperience
            The experience that is about to be trained on.
        place : int
            Number of training experiences before it. An experience that was noted in this place is replaced, since its
            training did not finish.

        Returns
        -------
        DatasetExperience
            The same object if it has no forgotten sample.
        """
        if self.asked:
            ids, labels = sample_ids(experience.dataset), labels_of(experience.dataset)
            for earlier in self.asked:
                hits = earlier.names(labels, ids)
                self.forgotten = self.forgotten.union(name for name, hit in zip(ids, hits, strict=True) if hit)
        retained = self.retained(experience)
        self.trained[place:], self.sizes[place:] = [experience], [len(retained.dataset)]
        return retained

    def retained(self, experience: Any) -> Any:
        """Return a training experience without forgotten samples. It is the same object if it has none."""
        kept = without(experience.dataset, self.forgotten)
        return experience if kept is experience.dataset else experience_with(experience, kept)

    def views(self) -> list[Any]:
        """Return all training experiences without forgotten samples."""
        return [self.retained(experience) for experience in self.trained]
