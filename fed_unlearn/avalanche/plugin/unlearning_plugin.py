"""The plug-in with which a supervised strategy of Avalanche forgets on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from avalanche.training.plugins import SupervisedPlugin

from fed_unlearn.avalanche.plugin.encounters import Encounters
from fed_unlearn.avalanche.plugin.held_out import HeldOut, share_of
from fed_unlearn.avalanche.plugin.history import History
from fed_unlearn.avalanche.plugin.memory.leftover_check import LeftoverCheck, Leftovers
from fed_unlearn.avalanche.plugin.plans import planned
from fed_unlearn.avalanche.plugin.request_samples import RequestSamples
from fed_unlearn.avalanche.plugin.service import RequestService
from fed_unlearn.avalanche.plugin.waiting import Missing
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.reading import SampleReader
from fed_unlearn.data.domain import InputDomain
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.gate import Gate
from fed_unlearn.local import LocalOutcome, LocalPlan, LocalUnlearning
from fed_unlearn.requests import ForgetRequest, ParameterValue


class UnlearningPlugin(SupervisedPlugin):
    """Has a strategy forget: requests that are submitted, and forget experiences that it meets.

    :meth:`submit` takes a request at any time and has it served at the next boundary between experiences.
    :meth:`unlearn`, which the strategy has as ``strategy.unlearn`` from the first training on, serves it at once. A
    :class:`~fed_unlearn.avalanche.streams.ForgetExperience` that is given to ``strategy.train`` is served, and nothing
    is trained on it.

    The plug-in unlearns the model, repairs it and has the gate judge it. Only an accepted model replaces the
    strategy's, and regularisers are updated to it. The request's samples are removed from replay buffers and from every
    later training experience, accepted or not. The clock does not advance. Other plug-ins are told that the ``train``
    call begins and ends, but not of the experience. Plug-ins, metrics and loggers are told of it by
    ``before_unlearning_exp(strategy)`` and ``after_unlearning_exp(strategy)``, if they have these methods.

    As long as there is no request, the plug-in changes nothing but that it gives the samples of training experiences
    ids. Use one plug-in for one strategy and one benchmark, from the first training experience on. Strategy and plug-in
    can be copied and pickled together; the benchmark may be made anew.

    Parameters
    ----------
    method : str, optional
        Method of requests that name none, for all scopes that it serves. Default: the methods of ``plan``. Where that
        of a scope does not work on inputs that are no images, the next one of the plan's ``escalation`` that does.
    parameters : mapping of str to value, optional
        Hyper-parameters of ``method``.
    plan : LocalPlan, optional
        Methods by scope, repair and guards.
    gate : Gate, optional
        Bounds that a request must meet. The bound on the total loss of accuracy counts from the last training, since
        requests are not answerable for what learning costs.
    retain : {"seen", "memory"} or data set, default "seen"
        Retained samples that methods and repair may read. "seen": all training experiences so far. "memory": the
        strategy's buffers and its last training experience, of whose classes at most as many samples as the buffers
        have of an earlier one. Otherwise an AvalancheDataset or SampleSet with the benchmark's sample ids. Forgotten
        samples and classes are always left out.
    validation : float, data set, SampleSet or stream, optional
        Samples that are never trained on. Methods may read half of them, and the gate judges by all. A number in
        (0, 0.5] is a share of the samples of each class, which is taken out of every training experience before it is
        trained on. Default: the benchmark's ``valid_stream``; without one the gate judges by retained samples, which
        flatters the model. Each outcome's ``judged_by`` says which it was.
    domain : InputDomain, optional
        What the model's inputs are. Default: images are pixels, normalised as a ``Normalize`` in the transforms
        says, or in [0, 1]. Other floats are values of any range. ``InputDomain("values")`` takes images of any range.
    seed : int, default 0
        Seed of all randomness of unlearning and repair.
    reopen_relapsed : bool, default False
        Whether relapsed requests are served again at the end of every ``train`` call.
    strict : bool, default False
        Whether a request that the gate does not accept raises instead of logging a warning.
    leftovers : {"fail", "warn"}, default "fail"
        What happens if the strategy or a plug-in keeps inputs or ids of forgotten samples that nothing here can remove.
        They are searched for before a model is committed, and at the end of each ``train`` call once something is
        forgotten. "fail": the request is not accepted, and its reason names the places. "warn": a warning does. What is
        found only at the end of a call is warned of, and raises with "fail" and ``strict``. A method
        ``forget(strategy, sample_ids)`` of a plug-in, or ``forget(sample_ids)`` of the strategy, is called with the ids
        of forgotten samples after a commit and removes them.

    Attributes
    ----------
    outcomes : list of LocalOutcome
        Results of all requests in order. A request that was served again has several.
    served : list of ForgetExperience
        The experience of each outcome.
    refused : list of (ForgetRequest, FedUnlearnError)
        Submitted requests that could not be served, each with the reason. A warning names it, too.
    waiting : tuple of ForgetRequest
        Submitted requests whose turn has not come.
    forgotten : frozenset of str
        Ids of samples that are not trained on again.
    leftovers : tuple of str
        What the last search found that is still kept of forgotten samples.

    Raises
    ------
    InvalidParameterError
        If the method, one of its parameters, ``retain``, ``validation``, ``domain`` or ``leftovers`` is not one of
        those above.
    """

    def __init__(
        self,
        method: str | None = None,
        *,
        parameters: Mapping[str, ParameterValue] | None = None,
        plan: LocalPlan | None = None,
        gate: Gate | None = None,
        retain: Literal["seen", "memory"] | SampleSet | Any = "seen",
        validation: Any = None,
        domain: InputDomain | None = None,
        seed: int = 0,
        reopen_relapsed: bool = False,
        strict: bool = False,
        leftovers: Leftovers = "fail",
    ) -> None:
        super().__init__()
        for name, value, kind in (("plan", plan, LocalPlan), ("gate", gate, Gate), ("seed", seed, int)):
            if value is not None and not isinstance(value, kind):
                raise InvalidParameterError(f"{name} = {value!r} was given; expected a {kind.__name__}")
        if method is None and parameters:
            raise InvalidParameterError("parameters were given without a method; put them into plan.parameters")
        unlearning = LocalUnlearning(planned(plan or LocalPlan(), method, parameters or {}), gate, seed)
        self._service = RequestService(
            unlearning,
            RequestSamples(retain, validation, domain),
            strict=strict,
            history=History(HeldOut(share_of(validation), seed)),
            leftovers=LeftoverCheck(leftovers),
            method=method,
        )
        self._reopen_relapsed = reopen_relapsed
        self._encounters = Encounters(self, self._service)
        self._trains = False

    @property
    def outcomes(self) -> list[LocalOutcome]:
        """Results of all requests in order."""
        return self._service.outcomes

    @property
    def served(self) -> list[ForgetExperience]:
        """The experience of each outcome."""
        return self._service.served

    @property
    def refused(self) -> list[tuple[ForgetRequest, FedUnlearnError]]:
        """Submitted requests that could not be served, each with the reason."""
        return self._service.refused

    @property
    def forgotten(self) -> frozenset[str]:
        """Ids of samples that are not trained on again."""
        return self._history.forgotten

    @property
    def waiting(self) -> tuple[ForgetRequest, ...]:
        """Submitted requests whose turn has not come."""
        return self._service.waiting.requests

    @property
    def reader(self) -> SampleReader:
        """Reads samples as the model does."""
        return self._service.samples.reader

    @property
    def leftovers(self) -> tuple[str, ...]:
        """What the last search found that the strategy or a plug-in keeps of forgotten samples."""
        return self._service.leftovers.found

    @property
    def _history(self) -> History:
        return self._service.history

    def submit(self, request: ForgetRequest, *, after: int = 0, missing: Missing = "wait") -> str:
        """Have a request served at the next boundary between experiences.

        This may be called at any time: before the first training, between two calls of ``train``, and by a callback
        while a strategy trains. A request is served before the next training experience of a ``train`` call, or at the
        end of the call. A request for samples that have not arrived waits for them. A request for classes is served as
        soon as there are samples of one of them; those that come later are not trained on.

        Parameters
        ----------
        request : ForgetRequest
            The request. Without an id it gets one.
        after : int, default 0
            Number of training experiences that it waits for at least. One in online parts counts after its last part.
        missing : {"wait", "refuse"}, default "wait"
            Whether it waits for samples that have not arrived when its turn comes, or is refused.

        Returns
        -------
        str
            The id of the request.

        Raises
        ------
        InvalidRequestError
            If this is no request, or its id was used before.
        InvalidParameterError
            If ``after`` or ``missing`` is not one of those above, or the method or one of its parameters is unknown.

        Examples
        --------
        >>> unlearning.submit(ForgetRequest.for_class(3), after=2)  # doctest: +SKIP
        'submitted-1'
        """
        request = self._service.accepted(request)
        self._service.waiting.add(request, after, missing)
        return request.id

    def unlearn(self, strategy: Any, asked: ForgetRequest | ForgetExperience) -> LocalOutcome:
        """Serve a request now. ``strategy.unlearn(asked)`` does the same from the first training on.

        Parameters
        ----------
        strategy : SupervisedTemplate
            The strategy that has this plug-in. Its model, buffers and regularisers are changed in place.
        asked : ForgetRequest or ForgetExperience
            A request, or an experience of the benchmark's forget stream.

        Returns
        -------
        LocalOutcome
            How the request went. Its ``model`` is None: the strategy has the model.

        Raises
        ------
        InvalidParameterError
            If this is neither, the request names an unknown method or parameter, a ``train`` call is running, or the
            strategy trained before it had this plug-in. Nothing is changed then.
        InvalidRequestError
            If a request has nothing to forget, leaves nothing, or names something unknown. Nothing is changed then.
        UnsupportedStrategyError
            If a part of the strategy cannot forget. Nothing is changed then.
        InvalidDataError
            If the samples of the benchmark have no ids, their inputs are outside their domain, or a method that was
            named does not work on such inputs (``UnsuitableInputsError``). Nothing is changed then. Or if the method
            lacks samples that it needs. The model is unchanged then; the request's samples are not trained on again.
        RequestFailedError
            If the gate does not accept and ``strict`` is set.
        """
        if self._trains:
            raise InvalidParameterError(
                "unlearn was called while the strategy trains, or after a train call that broke off; submit the"
                " request: it is served at the next boundary between experiences"
            )
        if isinstance(asked, ForgetRequest):
            asked = self._service.accepted(asked)
        return self._service.unlearn_now(strategy, asked)

    # ------------------------------------------------------------------ Avalanche's hooks, in the order of a train call

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        """Give the strategy the plug-ins back that a ``train`` call has hidden and that broke off."""
        self._encounters.recover(strategy)

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Become the first plug-in, so that the others meet retained samples only."""
        self._encounters.recover(strategy)
        if sum(isinstance(plugin, UnlearningPlugin) for plugin in strategy.plugins) > 1:
            raise InvalidParameterError("the strategy has several UnlearningPlugins; expected one")
        strategy.plugins = [self, *(plugin for plugin in strategy.plugins if plugin is not self)]
        self._encounters.begin(strategy)
        self._trains = True

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Unlearn a forget experience; or serve waiting requests and remove forgotten samples from the experience."""
        try:
            self._encounters.meet(strategy)
        except BaseException:
            self._trains = False  # the train call breaks off before anything is trained on
            raise

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Remove forgotten samples from what the strategy trains on besides the experience."""
        self._encounters.clean(strategy)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Leave nothing to store for strategies that store samples of an experience in which nothing was trained."""
        self._encounters.empty(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Give the strategy its other plug-ins back after an experience in which nothing was trained."""
        self._encounters.leave(strategy)

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        """Remove forgotten samples that other plug-ins have stored, and serve waiting and relapsed requests."""
        self._trains = False
        self._encounters.end(strategy)
        self._service.check_leftovers(strategy)
        self._service.serve_waiting(strategy)
        self._service.serve_relapsed(strategy, all_methods=self._reopen_relapsed)
