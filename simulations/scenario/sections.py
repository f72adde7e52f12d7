"""The sections of a scenario file, as types: names, defaults and ranges of every key."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field, PrivateAttr

from fed_unlearn.class_names import UNNAMED_CLASSES, ClassNames
from fed_unlearn.data.trigger import Corner, Trigger
from fed_unlearn.plan import FederatedPlan, ServeSettings
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, ParameterValue, SampleScope
from fed_unlearn.simulations.scenario.section_types import (
    NAME_PATTERN,
    BatchNorm,
    Count,
    FromZero,
    Names,
    OpenSection,
    Parameters,
    Part,
    Positive,
    Rate,
    Section,
    Share,
    TrainingOverrides,
    as_tuple,
    filled_from,
    like,
)
from fed_unlearn.simulations.scenario.strategy_catalogue import StrategyName
from fed_unlearn.simulations.scenario.timeline_sections import (
    ForgetStep,
    Label,
    StreamSection,
    TimelineEntry,
    TrainStep,
)
from fed_unlearn.simulations.scenario.unlearning_sections import GateSection, UnlearningSection

__all__ = [
    "BackdoorSection",
    "ClientsSection",
    "DataSection",
    "ForgetStep",
    "GateSection",
    "ModelSection",
    "OpenSection",
    "ReportingSection",
    "RunSection",
    "Scenario",
    "Section",
    "ServeSection",
    "StreamSection",
    "TimelineEntry",
    "TrainStep",
    "TrainingOverrides",
    "TrainingSection",
    "UnlearningSection",
]


class RunSection(Section):
    """``[run]``: how the run uses the machine, and how often it looks.

    ``threads`` are torch threads per client; ``evaluate-every`` counts training rounds. Audits read at most
    ``audit-samples`` retained training samples and ``audit-test-samples`` test samples of each client,
    ``audit-earlier-samples`` of each earlier request, and ``audit-unlearned-samples`` of each part between unlearning
    and repair (0: all). Up to ``batch-clients`` clients are trained at once, in process alone.
    """

    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    batch_clients: Annotated[int, Field(ge=2, le=4096)] | None = None
    evaluate_every: Positive = 5
    audit_samples: int = like(FederatedPlan, "retain_limit")
    audit_test_samples: int = like(FederatedPlan, "test_limit")
    audit_earlier_samples: int = like(FederatedPlan, "relapse_limit")
    audit_unlearned_samples: int = like(FederatedPlan, "unlearned_limit")


class DataSection(Section):
    """``[data]``: the images and how they are split into train, validation and test parts.

    ``server_fraction`` is the share of the training images that the server keeps, and by which the gate then judges
    retained accuracy; 0 where it judges by clients' validation samples. ``label`` names the column of labels where a
    data set has several.
    """

    dataset: str
    label: str | None = None
    root: str | None = None
    download: bool = False
    image_size: Annotated[tuple[Positive, Positive] | None, BeforeValidator(as_tuple)] = None
    validation_fraction: Part = 0.15
    test_fraction: Part = 0.2
    server_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0


class BackdoorSection(Section):
    """``[clients.backdoor]``: a client that plants a trigger in its training samples, to see whether it is forgotten.

    The trigger is a square of ``size`` pixels in a ``corner``, set to ``value`` in every channel. ``fraction`` of the
    client's samples of other classes get it, with ``target`` as their label. Where a client is forgotten, results have
    ``backdoor_success``.
    """

    client: FromZero
    target: Label
    fraction: Share = Trigger.fraction
    size: Positive = Trigger.size
    value: Annotated[float, Field(ge=0, le=1)] = Trigger.value
    corner: Corner = Trigger.corner


class ClientsSection(OpenSection):
    """``[clients]``: how many, and how the data is divided; further keys are the partitioner's."""

    count: Positive
    partition: str = "iid"
    backdoor: BackdoorSection | None = None


class ModelSection(OpenSection):
    """``[model]``: by name, optionally trained already; further keys are the model's."""

    name: str
    checkpoint: str | None = None


class TrainingSection(Section):
    """``[training]``: the defaults of every training step.

    ``fraction`` is the share of each client's retained samples that is used in a round; ``strategy`` is any of Flower's
    that can be wrapped (``fed-unlearn strategies``), and ``parameters`` go to its constructor. Differential privacy is
    a strategy around another one, FedAvg unless ``parameters.inner`` names it; parameters that the wrapper does not
    take are that one's, and ``num-sampled-clients`` is all clients where it is not given::

        strategy = "DifferentialPrivacyServerSideFixedClipping"
        parameters = { noise-multiplier = 1.0, clipping-norm = 0.5, inner = "FedProx", proximal-mu = 0.1 }
    """

    strategy: StrategyName = "FedAvg"
    parameters: Parameters = Field(default_factory=dict)
    local_epochs: Count = 1
    learning_rate: Rate = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    batch_size: Count = 32
    fraction: Share = 1.0
    batch_norm: BatchNorm = "train"
    augment: bool = False

    def overridden(self, overrides: TrainingOverrides) -> TrainingSection:
        """Copy with the given overrides put in; those that are None change nothing."""
        given = {name: getattr(overrides, name) for name in TrainingOverrides.model_fields}
        return self.model_copy(update={name: value for name, value in given.items() if value is not None})


class ReportingSection(Section):
    """``[reporting]``: who is told of the run while it lasts.

    ``loggers`` are Avalanche's: the server's models are evaluated by its EvaluationPlugin and written down by any of
    ``text`` (``reports/text.log``), ``tensorboard`` (``reports/tensorboard``) and ``csv`` (``reports/metrics.csv``) of
    the run folder. Without any Avalanche is not imported. ``trackers`` are told the figures of ``results.json`` as they
    come: ``csv``, ``tensorboard``, ``mlflow``, ``wandb``, and those that other packages register.
    With ``anonymous`` the report, the figures, the log and the terminal's lines name no client.
    """

    loggers: Annotated[tuple[Literal["text", "tensorboard", "csv"], ...], BeforeValidator(as_tuple)] = ()
    trackers: Names = ()
    anonymous: bool = False


@filled_from(ServeSettings())
class ServeSection(Section):
    """``[serve]``: how often a server that stays looks for work, and the port of its figures for Prometheus.

    ``metrics-port`` is left out for no figures.
    """


class Scenario(Section):
    """A whole scenario file, checked; see :func:`fed_unlearn.simulations.scenario.load_scenario`."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    description: str = ""
    seed: FromZero = 0
    run: RunSection = RunSection()
    data: DataSection
    clients: ClientsSection
    model: ModelSection
    stream: StreamSection | None = None
    training: TrainingSection = TrainingSection()
    unlearning: UnlearningSection = UnlearningSection()
    gate: GateSection = GateSection()
    reporting: ReportingSection = ReportingSection()
    serve: ServeSection = ServeSection()
    timeline: Annotated[tuple[TimelineEntry, ...], Field(min_length=1), BeforeValidator(as_tuple)]
    _source_file: str = PrivateAttr(default="scenario")

    @property
    def source_file(self) -> str:
        """Name of the file in messages, such as ``digits.toml``."""
        return self._source_file

    def method_of(self, step: ForgetStep) -> tuple[str, Mapping[str, object]]:
        """Name and parameters of the method that serves a request.

        Those of ``[unlearning.parameters.NAME]`` are the basis, the request's own win.
        """
        name = step.method or self.unlearning.default_method(step.scope)
        goal = {} if step.goal is None else {"goal": step.goal}
        return name, {**self.unlearning.parameters.get(name, {}), **goal, **step.parameters}

    def request_of(
        self, step: ForgetStep, put_at: float | None = None, names: ClassNames = UNNAMED_CLASSES
    ) -> ForgetRequest:
        """The request of a step of the timeline, with its method and all parameters.

        Parameters
        ----------
        step : ForgetStep
        put_at : float, optional
            Seconds since the epoch that its deadline counts from; now where none is given.
        names : ClassNames, optional
            The classes of the scenario's data. Without any, steps name classes by their index.

        Raises
        ------
        InvalidRequestError
            If the data has no such class.
        """
        name, parameters = self.method_of(step)
        scope: ClassScope | SampleScope | ClientScope
        match step.scope:
            case "class":
                scope = ClassScope(step.class_indices(names))
            case "sample":
                ids = tuple(map(str, step.sample_ids or ()))
                of_class = None if step.of_class is None else names.index(step.of_class)
                scope = SampleScope(str(step.client), ids, step.samples or 0, of_class)
            case "client":
                scope = ClientScope(str(step.client))
        deadline = None
        if step.deadline is not None:
            deadline = (time.time() if put_at is None else put_at) + step.deadline
        named = cast(Mapping[str, ParameterValue], parameters)
        return ForgetRequest(scope, name, named, step.id or "", priority=step.priority, deadline=deadline)

    def forget_entries(self) -> Iterator[tuple[int, tuple[ForgetStep, ...]]]:
        """Every entry of the timeline that puts requests: its index, and the requests that are put together there."""
        return ((index, entry.requests) for index, entry in enumerate(self.timeline) if entry.requests)

    def arrived_at(self, index: int) -> int:
        """Number of the last experience of the stream that has arrived at an entry of the timeline, its own included.

        0 where there is no stream, or none has arrived yet. Messages carry it as ``arrived``.
        """
        steps = [entry.train.experience for entry in self.timeline[: index + 1] if entry.train is not None]
        return max((step for step in steps if step != "all"), default=0)

    def experience_at(self, index: int) -> int:
        """Number of the experience that a training entry of the timeline trains on; 0 for all that has arrived.

        Messages carry it as ``experience``.
        """
        step = self.timeline[index].train
        return 0 if step is None or step.experience == "all" else step.experience

    def skips_training(self, index: int) -> bool:
        """Whether a checkpoint stands in for this training step: one before the first request."""
        before = self.timeline[: index + 1]
        return self.model.checkpoint is not None and all(entry.forget is None for entry in before)

    def to_toml(self) -> str:
        """The scenario as a file that loads to the same scenario, every default written out."""
        import tomli_w

        content = self.model_dump(by_alias=True, exclude_none=True)
        for scope, thresholds in self.gate.model_dump(by_alias=True).items():
            if isinstance(thresholds, dict):
                content["gate"][scope] = {key: "none" if value is None else value for key, value in thresholds.items()}
        return tomli_w.dumps(content)
