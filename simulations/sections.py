"""The sections of a scenario file, as types: names, defaults and ranges of every key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic_core import PydanticCustomError

from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, ParameterValue, SampleScope, ScopeKind

Scalar = bool | int | float | str
SettingValue = Scalar | tuple[Scalar, ...]


def _kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _setting(value: object) -> object:
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, bool | int | float | str) for item in items):
        raise PydanticCustomError("setting", "Input should be a number, a string, true, false or a list of these")
    return tuple(items) if isinstance(value, list | tuple) else value


def _snake_keys(value: object) -> object:
    return {str(key).replace("-", "_"): item for key, item in value.items()} if isinstance(value, dict) else value


def _retention(value: object) -> object:
    if value == "none" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise PydanticCustomError("retention", 'Input should be "none" or a number of days from 0')


def _threshold(value: object) -> object:
    return None if value == "none" else value


def _sample_ids(value: object) -> object:
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) or type(item) is int for item in value):
        return tuple(value)
    raise PydanticCustomError("sample_ids", "Input should be a list of sample ids, integers or strings, at least one")


Setting = Annotated[object, BeforeValidator(_setting)]
Parameters = Annotated[dict[str, Setting], BeforeValidator(_snake_keys)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
Threshold = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_threshold)]
BatchNorm = Literal["train", "frozen"]


class Section(BaseModel):
    """A table of the file: keys in kebab case, unknown ones refused, values never converted."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=_kebab, populate_by_name=True, protected_namespaces=()
    )


class OpenSection(Section):
    """A table that takes further keys: parameters of whatever the table names."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting]

    @property
    def parameters(self) -> Mapping[str, object]:
        """The further keys, in snake case."""
        return {key.replace("-", "_"): value for key, value in (self.__pydantic_extra__ or {}).items()}


class RunSection(Section):
    """``[run]``: how the run uses the machine, and how often it looks.

    ``threads`` are torch threads per client; ``evaluate-every`` counts training rounds; audits read at most
    ``audit-samples`` retained training samples of each client (0: all).
    """

    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    evaluate_every: Positive = 5
    audit_samples: Annotated[int, Field(ge=0)] = 0


class DataSection(Section):
    """``[data]``: the images and how they are split into train, validation and test parts."""

    dataset: str
    root: str | None = None
    download: bool = False
    image_size: Annotated[tuple[Positive, Positive] | None, BeforeValidator(_as_tuple)] = None
    validation_fraction: Part = 0.15
    test_fraction: Part = 0.2


class ClientsSection(OpenSection):
    """``[clients]``: how many, and how the data is divided; further keys are the partitioner's."""

    count: Positive
    partition: str = "iid"


class ModelSection(OpenSection):
    """``[model]``: by name, optionally trained already; further keys are the model's."""

    name: str
    checkpoint: str | None = None


class TrainingOverrides(Section):
    """Training settings that replace those of ``[training]`` where they are given."""

    local_epochs: Count | None = None
    learning_rate: Rate | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    batch_size: Count | None = None
    fraction: Share | None = None
    batch_norm: BatchNorm | None = None
    augment: bool | None = None


class TrainingSection(Section):
    """``[training]``: the defaults of every training step.

    ``fraction`` is the share of each client's retained samples that is used in a round; ``parameters``
    go to the constructor of the Flower strategy.
    """

    strategy: Literal["FedAvg", "FedAvgM", "FedAdam", "FedProx"] = "FedAvg"
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


class UnlearningSection(Section):
    """``[unlearning]``: what every request uses unless it says otherwise."""

    method: str = "boundary-shrink"
    parameters: dict[str, Parameters] = Field(default_factory=dict)
    repair_rounds: Annotated[int, Field(ge=0)] = 1
    max_repair_rounds: Annotated[int, Field(ge=0)] = 3
    max_attempts: Positive = 2
    retention: Annotated[str | int, BeforeValidator(_retention)] = "none"
    alternations: Annotated[int, Field(ge=0)] = 0
    guard_weight: Positive = 1
    guard_margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 8.0
    repair: TrainingOverrides = TrainingOverrides()


class GateThresholds(Section):
    """What a request must keep to be accepted; a threshold of None (``"none"`` in a file) is not looked at."""

    max_forget_accuracy: Threshold = None
    max_retain_drop: Threshold = None
    max_total_retain_drop: Threshold = None


class ClassGate(GateThresholds):
    """``[gate.class]``."""

    max_forget_accuracy: Threshold = 0.05
    max_retain_drop: Threshold = 0.02
    max_total_retain_drop: Threshold = 0.05


class SampleGate(GateThresholds):
    """``[gate.sample]``."""

    max_forget_accuracy: Threshold = 0.0
    max_retain_drop: Threshold = 0.05
    max_total_retain_drop: Threshold = 0.10


class GateSection(Section):
    """``[gate]``: thresholds by the scope of the request."""

    class_: ClassGate = ClassGate()
    sample: SampleGate = SampleGate()
    client: GateThresholds = GateThresholds()


class TrainStep(TrainingOverrides):
    """``train = {...}``: rounds of ordinary training on retained data."""

    experience: Literal["all"] = "all"
    rounds: Annotated[int, Field(ge=0, le=1_000_000)]


class ForgetStep(Section):
    """``forget = {...}``: one forget request, of classes or of samples of one client."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    class_: Annotated[int, Field(ge=0)] | None = None
    classes: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...] | None, Field(min_length=1), BeforeValidator(_as_tuple)
    ] = None
    client: Annotated[int, Field(ge=0)] | None = None
    samples: Positive | None = None
    of_class: Annotated[int, Field(ge=0)] | None = None
    sample_ids: Annotated[tuple[int | str, ...], BeforeValidator(_sample_ids)] | None = None
    method: str | None = None
    parameters: Parameters = Field(default_factory=dict)
    goal: Literal["misclassify", "relabel"] | None = None

    @property
    def scope(self) -> ScopeKind:
        """Scope of the request."""
        if self.class_ is not None or self.classes is not None:
            return "class"
        return "sample" if self.samples is not None or self.sample_ids is not None else "client"

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The classes of a class request, sorted; empty for other scopes."""
        named = self.classes or () if self.class_ is None else (self.class_,)
        return tuple(sorted(set(named)))


class TimelineEntry(Section):
    """``[[timeline]]``: either a training step or a forget request."""

    train: TrainStep | None = None
    forget: ForgetStep | None = None


class Scenario(Section):
    """A whole scenario file, checked; see :func:`fed_unlearn.simulations.scenario.load_scenario`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    run: RunSection = RunSection()
    data: DataSection
    clients: ClientsSection
    model: ModelSection
    training: TrainingSection = TrainingSection()
    unlearning: UnlearningSection = UnlearningSection()
    gate: GateSection = GateSection()
    timeline: Annotated[tuple[TimelineEntry, ...], Field(min_length=1), BeforeValidator(_as_tuple)]
    _source_file: str = PrivateAttr(default="scenario")

    @property
    def source_file(self) -> str:
        """Name of the file in messages, such as ``digits.toml``."""
        return self._source_file

    def method_of(self, step: ForgetStep) -> tuple[str, Mapping[str, object]]:
        """Name and parameters of the method that serves a request.

        Those of ``[unlearning.parameters.NAME]`` are the basis, the request's own win.
        """
        name = step.method or self.unlearning.method
        goal = {} if step.goal is None else {"goal": step.goal}
        return name, {**self.unlearning.parameters.get(name, {}), **goal, **step.parameters}

    def request_of(self, step: ForgetStep) -> ForgetRequest:
        """The request that a step of the timeline puts, with its method and all parameters."""
        name, parameters = self.method_of(step)
        scope: ClassScope | SampleScope | ClientScope
        match step.scope:
            case "class":
                scope = ClassScope(step.class_ids)
            case "sample":
                ids = tuple(map(str, step.sample_ids or ()))
                scope = SampleScope(str(step.client), ids, step.samples or 0, step.of_class)
            case "client":
                scope = ClientScope(str(step.client))
        return ForgetRequest(scope, name, cast(Mapping[str, ParameterValue], parameters), step.id)

    def skips_training(self, index: int) -> bool:
        """Whether a checkpoint stands in for this training step: one before the first request."""
        before = self.timeline[: index + 1]
        return self.model.checkpoint is not None and all(entry.forget is None for entry in before)

    def to_toml(self) -> str:
        """The scenario as a file that loads to the same scenario, every default written out."""
        import tomli_w

        content = self.model_dump(by_alias=True, exclude_none=True)
        for scope, thresholds in self.gate.model_dump(by_alias=True).items():
            content["gate"][scope] = {key: "none" if value is None else value for key, value in thresholds.items()}
        return tomli_w.dumps(content)
