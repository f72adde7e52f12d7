"""A plug-in that has any supervised strategy of Avalanche unlearn when a forget experience comes along."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from avalanche.training.plugins import SupervisedPlugin, SynapticIntelligencePlugin

from fed_unlearn.avalanche.compat import check_supported, mend_synaptic_intelligence
from fed_unlearn.avalanche.plugin.binding import Binding
from fed_unlearn.avalanche.plugin.buffers import drop_batches, purge_buffers
from fed_unlearn.avalanche.plugin.memory import (
    require_readable,
    require_usable,
    retained_images,
    validation_images,
    validation_sets,
)
from fed_unlearn.avalanche.plugin.optimizers import clear_momenta
from fed_unlearn.avalanche.plugin.plans import planned
from fed_unlearn.avalanche.plugin.regularisers import keep_consistent, note_skipped
from fed_unlearn.avalanche.streams import ForgetExperience, released
from fed_unlearn.avalanche.streams.naming import experience_with
from fed_unlearn.avalanche.streams.samples import as_images, labels_of, sample_ids, without
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.gate import Gate
from fed_unlearn.local import LocalOutcome, LocalPlan, LocalUnlearning
from fed_unlearn.local.attempt import LocalSamples
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ParameterValue

logger = logging.getLogger("fed_unlearn.avalanche")


class RequestFailedError(FedUnlearnError, RuntimeError):
    """A request that the gate did not accept; the strategy's model is as it was, its samples are never trained on."""


class UnlearningPlugin(SupervisedPlugin):  # type: ignore[misc, unused-ignore]
    """Unlearns when the strategy meets a :class:`~fed_unlearn.avalanche.streams.ForgetExperience`.

    ``strategy.train(experience)`` on a forget experience trains nothing: the model is unlearned, repaired and judged by
    the gate, and only one that is accepted takes the place of the strategy's. The samples of the request are taken out
    of replay buffers and of every later training experience, accepted or not; what regularisers remember is brought in
    line with the new model; the clock stays where it was. Other plug-ins are told that a ``train`` call begins and
    ends, and nothing of the experience; those that have ``before_unlearning_exp(strategy)`` or
    ``after_unlearning_exp(strategy)`` are told by these, metrics and loggers among them.

    A plug-in is for one strategy and one benchmark, from its first training experience on.

    Parameters
    ----------
    method : str, optional
        Serves all requests of the scopes that it can serve, where they name none; those of ``plan`` without it.
    parameters : mapping of str to value, optional
        Hyper-parameters of ``method``.
    plan : LocalPlan, optional
        Methods by scope, repair, guards.
    gate : Gate, optional
        What a request must meet. How much may be lost in total counts from the last training, not from the first
        request: what learning costs is not a request's.
    retain : {"memory", "seen"} or data set, default "memory"
        Retained samples that methods and repair may read: what the strategy keeps itself (its buffers, and the last
        training experience), or all training experiences so far, or a data set of the user's, Avalanche's or an
        ImageSet, under the ids that the benchmark has. Forgotten samples and classes are left out of each.
    validation : data set, ImageSet or stream, optional
        Samples that are never trained on: methods may read half of them, and the gate judges by them. The benchmark's
        ``valid_stream`` where none is given; without one the gate judges by retained samples, which flatters it.
    seed : int, default 0
        Of all randomness of unlearning and repair.
    reopen_relapsed : bool, default False
        Whether requests that have relapsed are served again, at the end of every ``train`` call.
    strict : bool, default False
        Whether a request that the gate does not accept raises; it is logged as a warning otherwise.

    Attributes
    ----------
    outcomes : list of LocalOutcome
        How each request went, in order; a request that was reopened stands there again.
    served : list of ForgetExperience
        In order.
    forgotten : frozenset of str
        Ids of samples that are never trained on again.

    Raises
    ------
    InvalidParameterError
        If the method, one of its parameters, or ``retain`` is unknown, or ``validation`` is none of these.
    """

    def __init__(
        self,
        method: str | None = None,
        *,
        parameters: Mapping[str, ParameterValue] | None = None,
        plan: LocalPlan | None = None,
        gate: Gate | None = None,
        retain: Literal["memory", "seen"] | ImageSet | Any = "memory",
        validation: Any = None,
        seed: int = 0,
        reopen_relapsed: bool = False,
        strict: bool = False,
    ) -> None:
        super().__init__()
        require_readable(retain)
        for name, value, kind in (("plan", plan, LocalPlan), ("gate", gate, Gate), ("seed", seed, int)):
            if value is not None and not isinstance(value, kind):
                raise InvalidParameterError(f"{name} = {value!r} was given; expected a {kind.__name__}")
        if method is None and parameters:
            raise InvalidParameterError("parameters were given without a method; put them into plan.parameters")
        self._unlearning = LocalUnlearning(planned(plan or LocalPlan(), method, parameters or {}), gate, seed)
        self._retain = retain
        self._validation = validation_sets(validation)
        self._reopen_relapsed = reopen_relapsed
        self._strict = strict
        self._seen: list[Any] = []
        self._trained: list[int] = []
        self._asked: list[ForgetExperience] = []
        self._muted: list[Any] | None = None
        self._binding = Binding(self._unlearning.plan)
        self.outcomes: list[LocalOutcome] = []
        self.served: list[ForgetExperience] = []
        self.forgotten: frozenset[str] = frozenset()

    def unlearn(self, strategy: Any, experience: ForgetExperience) -> LocalOutcome:
        """Serve the request of a forget experience now.

        Parameters
        ----------
        strategy : SupervisedTemplate
            Whose plug-in this is; its model, buffers and regularisers are changed in place.
        experience : ForgetExperience

        Returns
        -------
        LocalOutcome

        Raises
        ------
        InvalidParameterError
            If this is no forget experience, its request names a method or parameters that cannot be, or the strategy
            trained before it had this plug-in; nothing is changed then.
        UnsupportedStrategyError
            If something in the strategy cannot be made to forget; nothing is changed then.
        InvalidDataError
            If the method lacks samples that it needs. The model is as it was, the request's samples stay out all the
            same.
        RequestFailedError
            If the gate does not accept and ``strict`` was asked for.
        """
        if not isinstance(experience, ForgetExperience):
            raise InvalidParameterError(
                f"a {type(experience).__name__} was given to unlearn; expected a ForgetExperience of the forget_stream"
                " that forget_benchmark makes"
            )
        check_supported(strategy, experience)
        self._unlearning.plan.method_of(experience.request)
        self._binding.check_request(strategy, experience, len(self._seen))
        forgotten = self.forgotten.union(self._named_by(experience))
        purge_buffers(strategy, forgotten)
        self.forgotten = forgotten
        self._asked.append(experience)
        before, strategy.experience = strategy.experience, experience
        try:
            self._tell(strategy, "before_unlearning_exp")
            outcome = self._serve(strategy, experience)
            self._tell(strategy, "after_unlearning_exp")
        finally:
            strategy.experience = before
        if not outcome.committed:
            text = f"request {outcome.request.id}: not accepted, the model is as it was: {outcome.reason}"
            if self._strict:
                raise RequestFailedError(text)
            logger.warning("%s", text)
        return outcome

    # ------------------------------------------------------------------ Avalanche's hooks, in the order of a train call

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Come first from here on: the others are to see retained samples alone."""
        if self._muted is not None:  # the last call broke off while they were not to see a forget experience
            strategy.plugins[:], self._muted = self._muted, None
        if sum(isinstance(plugin, UnlearningPlugin) for plugin in strategy.plugins) > 1:
            raise InvalidParameterError("the strategy has several UnlearningPlugins; expected one")
        strategy.plugins = [self, *(plugin for plugin in strategy.plugins if plugin is not self)]
        if any(isinstance(plugin, SynapticIntelligencePlugin) for plugin in strategy.plugins):
            mend_synaptic_intelligence()

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Unlearn where this is a forget experience; leave out what was forgotten where it is one to train on."""
        experience = strategy.experience
        if isinstance(experience, ForgetExperience):
            drop_batches(strategy)
            try:
                self.unlearn(strategy, experience)
            except BaseException:
                strategy._train_cleanup()
                raise
            strategy.experience = experience_with(experience, released(experience.dataset))
            self._skip(strategy)
            return
        check_supported(strategy, experience)
        self._binding.check(strategy, experience)
        require_usable(experience.dataset)
        self._unlearning.note_training()
        self.forgotten = self.forgotten.union(*(self._named_by(earlier, experience) for earlier in self._asked))
        retained = self._retained_view(experience)
        # A training that broke off did not count: its experience stands in the place of this one.
        place = strategy.clock.train_exp_counter
        self._seen[place:], self._trained[place:] = [experience], [len(retained.dataset)]
        if len(retained.dataset) == 0:
            logger.warning("experience %d has no sample that is not forgotten; skipped", experience.current_experience)
            self._skip(strategy)
            note_skipped(strategy)
            strategy.clock.train_exp_counter += 1
        else:
            strategy.experience = retained

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Strategies that train on more than the experience have forgotten samples taken out of that too."""
        if self._muted is None and self.forgotten:
            strategy.adapted_dataset = without(strategy.adapted_dataset, self.forgotten)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Let the others see what comes next, where they were not to see a forget experience."""
        if self._muted is not None:
            strategy.plugins, self._muted = self._muted, None  # a new list: Avalanche goes through the short one
            strategy._stop_training = False  # still set where there are no epochs to stop
            drop_batches(strategy)
            purge_buffers(strategy, self.forgotten)

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        """Nothing forgotten stays in a buffer, whatever others have put there; relapsed requests are served again."""
        if self.forgotten:
            purge_buffers(strategy, self.forgotten)
        if self._reopen_relapsed:
            for experience, outcome in list(zip(self.served, self.outcomes, strict=True)):
                latest = [item for item in self.outcomes if item.request.id == outcome.request.id][-1]
                if outcome is latest and outcome.committed and self._has_relapsed(strategy, experience):
                    logger.info("request %s has relapsed: served again", experience.request.id)
                    self.unlearn(strategy, experience)

    def _skip(self, strategy: Any) -> None:
        """Have nothing trained in this experience, and nobody else told of it.

        Avalanche goes through the list of plug-ins at every event, by index: shortened in place, it ends here.
        """
        self._muted = list(strategy.plugins)
        strategy.plugins[:] = [self]
        strategy.stop_training()

    # ------------------------------------------------------------------ one request

    def _serve(self, strategy: Any, experience: ForgetExperience) -> LocalOutcome:
        views = [self._retained_view(seen) for seen in self._seen]
        forget = as_images(experience.dataset)
        retained = retained_images(self._retain, strategy, views, experience).without(self.forgotten)
        asked = {item for earlier in self._asked for item in getattr(earlier.request.scope, "classes", ())}
        retained = retained.of_classes(set(retained.labels.tolist()) - asked)
        # Where the model was trained elsewhere, what there is to retain tells its classes.
        arrived = {label for view in views for label in labels_of(view.dataset)} or set(retained.labels.tolist())
        if not arrived:
            raise InvalidParameterError(
                f"request {experience.request.id}: the strategy has trained nothing yet, and there are no retained"
                " samples; train first, or give those of the model's training as retain="
            )
        class_count = predict_logits(strategy.model, forget.subset(torch.tensor([0]))).shape[1]
        samples = LocalSamples(
            forget=forget,
            retained=retained,
            validation=validation_images(self._validation, experience),
            absent_classes=frozenset(range(class_count)) - arrived,
        )
        outcome = self._unlearning.serve(strategy.model, experience.request, samples)
        if outcome.committed and outcome.model is not None:
            strategy.model.load_state_dict(outcome.model.state_dict())
            clear_momenta(strategy.optimizer)
            keep_consistent(strategy, self.forgotten, views, self._trained)
            self._trained = [len(view.dataset) for view in views]
        outcome = replace(outcome, model=None)  # earlier models still know what later requests name
        self.served.append(experience)
        self.outcomes.append(outcome)
        return outcome

    def _has_relapsed(self, strategy: Any, experience: ForgetExperience) -> bool:
        request = experience.request
        goal = self._unlearning.plan.method_of(request)[2] if request.scope.kind == "sample" else None
        bound = self._unlearning.gate.thresholds(request.scope.kind, goal).max_forget_accuracy
        forget: ImageSet = as_images(experience.dataset)
        hits = predict_logits(strategy.model, forget).argmax(1) == forget.labels
        return bound is not None and float(hits.float().mean()) > bound

    def _retained_view(self, experience: Any) -> Any:
        """A training experience without forgotten samples; itself where it has none."""
        kept = without(experience.dataset, self.forgotten)
        return experience if kept is experience.dataset else experience_with(experience, kept)

    def _named_by(self, experience: ForgetExperience, *others: Any) -> frozenset[str]:
        """Ids that a request asks for: its forget set, and what of other training experiences falls under it."""
        named = set(experience.sample_ids)
        for other in others:
            ids = sample_ids(other.dataset)
            hits = experience.names(labels_of(other.dataset), ids)
            named.update(name for name, hit in zip(ids, hits, strict=True) if hit)
        return frozenset(named)

    def _tell(self, strategy: Any, event: str) -> None:
        for plugin in strategy.plugins:
            if plugin is not self and hasattr(plugin, event):
                getattr(plugin, event)(strategy)
