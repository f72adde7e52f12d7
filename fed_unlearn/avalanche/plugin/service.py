"""Serves the requests of one strategy: at once, or when their turn comes."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from fed_unlearn.avalanche.compat import check_supported
from fed_unlearn.avalanche.plugin.history import History
from fed_unlearn.avalanche.plugin.memory.buffers import drop_batches, purge_buffers
from fed_unlearn.avalanche.plugin.memory.leftover_check import LeftoverCheck
from fed_unlearn.avalanche.plugin.optimizers import clear_momenta, learning_rate_of
from fed_unlearn.avalanche.plugin.regularisers import keep_consistent
from fed_unlearn.avalanche.plugin.request_samples import RequestSamples
from fed_unlearn.avalanche.plugin.rollback import undone_on_error
from fed_unlearn.avalanche.plugin.waiting import WaitingRequests
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.tasks import own_module
from fed_unlearn.data.domain import InputDomain
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError, InvalidRequestError
from fed_unlearn.local import LocalOutcome, LocalUnlearning
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ForgetRequest

logger = logging.getLogger("fed_unlearn.avalanche")


class RequestFailedError(FedUnlearnError, RuntimeError):
    """The gate did not accept a request. The strategy's model is unchanged; the samples are not trained on again."""


class RequestService:
    """Serves the requests of one strategy.

    Parameters
    ----------
    unlearning : LocalUnlearning
        Unlearns, repairs and judges.
    samples : RequestSamples
        Reads the samples of requests.
    strict : bool
        Whether a request that is not accepted raises.
    history : History, optional
        What the plug-in has met. Default: nothing.
    leftovers : LeftoverCheck, optional
        Searches for memory of forgotten samples. Default: one that fails requests.
    method : str, optional
        Name of the method that the user chose. No other is used in its place where it does not work on the inputs.

    Attributes
    ----------
    unlearning : LocalUnlearning
        Unlearns, repairs and judges.
    samples : RequestSamples
        Reads the samples of requests.
    history : History
        What the plug-in has met.
    leftovers : LeftoverCheck
        Searches for memory of forgotten samples.
    waiting : WaitingRequests
        Submitted requests whose turn has not come.
    outcomes : list of LocalOutcome
        Results of all requests in order.
    served : list of ForgetExperience
        The experience of each outcome.
    refused : list of (ForgetRequest, FedUnlearnError)
        Submitted requests that could not be served.
    """

    def __init__(
        self,
        unlearning: LocalUnlearning,
        samples: RequestSamples,
        *,
        strict: bool,
        history: History | None = None,
        leftovers: LeftoverCheck | None = None,
        method: str | None = None,
    ) -> None:
        self.unlearning = unlearning
        self.history = history or History()
        self.leftovers = leftovers or LeftoverCheck("fail")
        self._judged_by_training = False
        self.waiting = WaitingRequests()
        self.outcomes: list[LocalOutcome] = []
        self.served: list[ForgetExperience] = []
        self.refused: list[tuple[ForgetRequest, FedUnlearnError]] = []
        self.samples = samples
        self._strict = strict
        self._method = method

    def accepted(self, request: ForgetRequest) -> ForgetRequest:
        """Return a request with an id, or raise if it can never be served."""
        if not isinstance(request, ForgetRequest):
            raise InvalidRequestError(f"{request!r} was given; expected a ForgetRequest, as ForgetRequest.for_class(3)")
        self.unlearning.plan.method_of(request)
        used = {each.id for each in self.waiting.requests}
        used.update(each.request.id for each in (*self.history.stream.requests, *self.history.asked))
        if request.id in used:
            raise InvalidRequestError(
                f"a request with the id {request.id!r} was given before; expected an id of its own"
            )
        return self.history.stream.numbered(request, used)

    def check_announced(self) -> None:
        """Raise if a request of the benchmark's forget stream names an unknown method or parameter.

        Raises
        ------
        InvalidParameterError
            The message names the method or the parameter.
        """
        for experience in self.history.stream.requests:
            self.unlearning.plan.method_of(experience.request)

    def check_leftovers(self, strategy: Any) -> None:
        """Search at the end of a ``train`` call for what hooks have stored of forgotten samples.

        Raises
        ------
        RequestFailedError
            If something new is found for certain, leftovers fail requests, and ``strict`` is set.
        """
        left = self.leftovers.after_training(strategy, self.history)
        if left and self._strict and self.leftovers.fails:
            raise RequestFailedError(left)

    def _check_method(self, request: ForgetRequest, domain: InputDomain) -> None:
        """Raise if a method that was named does not work on inputs of a domain, or none of the plan's does."""
        plan = self.unlearning.plan
        is_named = request.method is not None or self._method == plan.default_method(request.scope.kind)
        _, method, _ = plan.method_of(request) if is_named else plan.suited_to(request, domain)[0]
        if not method.works_on(domain):
            raise method.unsuitable(domain)

    def serve_waiting(self, strategy: Any) -> None:
        """Serve the submitted requests whose turn has come. One that cannot be served is refused with a warning.

        All are refused if something stands against every request. A request that an error of another plug-in, or the
        user, interrupts waits on.
        """
        problem = self.history.problem_with(strategy)
        while (item := self.waiting.next(self.history, any_time=problem is not None)) is not None:
            drop_batches(strategy)
            try:
                if problem is not None:
                    raise problem
                self.waiting.require_arrived(item, self.history)
                self.unlearn_now(strategy, item.request)
            except RequestFailedError:
                raise
            except FedUnlearnError as error:
                self.refused.append((item.request, error))
                if self._strict:
                    raise
                warnings.warn(f"request {item.request.id} was refused: {error}", stacklevel=2)
            except BaseException:
                if item.request.id not in {outcome.request.id for outcome in self.outcomes}:
                    self.waiting.put_back(item)
                raise

    def serve_relapsed(self, strategy: Any, *, all_methods: bool) -> None:
        """Serve committed requests again whose samples have come back; else only those of lasting methods."""
        for experience, outcome in list(zip(self.served, self.outcomes, strict=True)):
            if not (all_methods or self._is_lasting(experience)):
                continue
            latest = [item for item in self.outcomes if item.request.id == outcome.request.id][-1]
            if outcome is latest and outcome.committed and self._has_relapsed(strategy, experience):
                logger.info("request %s has relapsed: served again", experience.request.id)
                self.unlearn_now(strategy, experience)

    def unlearn_now(self, strategy: Any, asked: ForgetRequest | ForgetExperience) -> LocalOutcome:
        """Serve a request, or an experience of the forget stream; errors are those of ``UnlearningPlugin.unlearn``."""
        if not isinstance(asked, ForgetRequest | ForgetExperience):
            raise InvalidParameterError(
                f"a {type(asked).__name__} was given to unlearn; expected a ForgetRequest, or a ForgetExperience of the"
                " forget_stream that forget_benchmark makes"
            )
        request = asked if isinstance(asked, ForgetRequest) else asked.request
        latest = self.history.trained[-1] if self.history.trained else None
        check_supported(strategy, latest if isinstance(asked, ForgetRequest) else asked)
        self.unlearning.plan.method_of(request)
        made = isinstance(asked, ForgetRequest)
        if isinstance(asked, ForgetRequest):
            asked = self.history.experience_of(strategy, asked)
        else:
            self.history.check_request(strategy, asked)
        try:  # before anything is changed
            self.samples.prepare(strategy, asked, self.history)
            self.unlearning.plan.method_of(asked.asked)
            self._check_method(asked.asked, self.samples.check(strategy, asked, self.history))
            purge_buffers(strategy, self.history.forgotten.union(asked.sample_ids), self.history.named)
        except BaseException:
            if made:
                self.history.stream.withdraw(asked)
            raise
        self.history.add_request(asked)
        drop_batches(strategy)
        before, strategy.experience = strategy.experience, asked
        served = len(self.outcomes)
        try:
            self._call_others(strategy, "before_unlearning_exp")
            outcome = self._serve(strategy, asked)
            self._call_others(strategy, "after_unlearning_exp")
        except BaseException as error:
            if len(self.outcomes) == served:
                if made and not isinstance(error, FedUnlearnError):  # another plug-in failed, or the user interrupted
                    self.history.take_back(asked)
                else:
                    self.history.stream.note_outcome(request.id, committed=False)
            raise
        finally:
            strategy.experience = before
        if not outcome.committed:
            text = f"request {outcome.request.id}: not accepted, the model is as it was: {outcome.reason}"
            if self._strict:
                raise RequestFailedError(text)
            logger.warning("%s", text)
        return outcome

    def _serve(self, strategy: Any, experience: ForgetExperience) -> LocalOutcome:
        views = self.history.views()
        samples = self.samples.read(strategy, experience, self.history, views)
        before = copy.copy(self.unlearning)
        outcome = self.unlearning.serve(
            self.samples.reader.model(strategy.model),
            experience.asked,
            samples,
            trained_at=learning_rate_of(strategy.optimizer),
        )
        try:
            if outcome.committed and (left := self.leftovers.before_commit(strategy, self.history, experience)):
                self.unlearning, outcome = before, replace(outcome, committed=False, reason=left)
            if outcome.committed and outcome.model is not None:
                self._commit(strategy, outcome.model, views)
        except BaseException:
            self.unlearning = before
            raise
        # An earlier model would still know what later requests name.
        outcome = replace(outcome, request=experience.request, model=None)
        self.served.append(experience)
        self.outcomes.append(outcome)
        self.history.stream.note_outcome(outcome.request.id, committed=outcome.committed)
        self._say_judged_by(outcome, len(samples.validation) or len(samples.retained))  # a warning may raise
        return outcome

    def _commit(self, strategy: Any, model: nn.Module, views: Sequence[Any]) -> None:
        """Give the strategy the unlearned model. If a method ``forget`` of the user's raises, nothing is committed."""
        with undone_on_error(strategy):
            strategy.model.load_state_dict(own_module(model).state_dict())
            clear_momenta(strategy.optimizer)
            keep_consistent(strategy, self.history.forgotten, views, self.history.sizes)
        self.history.sizes = [len(view.dataset) for view in views]

    def _say_judged_by(self, outcome: LocalOutcome, count: int) -> None:
        logger.info("request %s: judged by %d %s samples", outcome.request.id, count, outcome.judged_by)
        if outcome.judged_by == "training" and not self._judged_by_training:
            self._judged_by_training = True
            warnings.warn(
                "the gate judges by samples that the model was trained on, which flatters it, since there are no"
                " validation samples; hold some out with UnlearningPlugin(validation=0.1), or give the benchmark a"
                " valid_stream",
                stacklevel=2,
            )

    def _is_lasting(self, experience: ForgetExperience) -> bool:
        return bool(getattr(self.unlearning.plan.method_of(experience.asked)[1], "lasting", False))

    def _has_relapsed(self, strategy: Any, experience: ForgetExperience) -> bool:
        request = experience.asked
        goal = self.unlearning.plan.method_of(request)[2] if request.scope.kind == "sample" else None
        bound = self.unlearning.gate.thresholds(request.scope.kind, goal).max_forget_accuracy
        forget = self.samples.forget(experience, self.history)
        hits = predict_logits(self.samples.reader.model(strategy.model), forget).argmax(1) == forget.labels
        return bound is not None and float(hits.float().mean()) > bound

    def _call_others(self, strategy: Any, event: str) -> None:
        for plugin in strategy.plugins:
            if hasattr(plugin, event):
                getattr(plugin, event)(strategy)
