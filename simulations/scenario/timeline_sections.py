"""``[stream]`` and ``[[timeline]]``: the training experiences, the requests, and their order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from fed_unlearn.class_names import ClassNames
from fed_unlearn.requests import ScopeKind
from fed_unlearn.simulations.scenario.section_types import (
    NAME_PATTERN,
    FromZero,
    OpenSection,
    Parameters,
    Positive,
    Rate,
    Section,
    TrainingOverrides,
    as_tuple,
)

BUILT_IN_BENCHMARKS = ("class-incremental", "new-instances")
DEFAULT_EXPERIENCES = 5

ONE, SEVERAL = "<one>", "<several>"
"""Tags of the two forms of ``forget``; pydantic puts them into the place of an error."""


def _sample_ids(value: object) -> object:
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) or type(item) is int for item in value):
        return tuple(value)
    raise PydanticCustomError("sample_ids", "Input should be a list of sample ids, integers or strings, at least one")


def _experience(value: object) -> object:
    if value == "all" or (type(value) is int and value >= 1):
        return value
    raise PydanticCustomError("experience", 'Input should be "all" or the number of an experience, from 1')


def _benchmark(value: object) -> object:
    if isinstance(value, str) and (value in BUILT_IN_BENCHMARKS or all(value.partition(":"))):
        return value
    known = ", ".join(f"'{name}'" for name in BUILT_IN_BENCHMARKS)
    raise PydanticCustomError("benchmark", f"Input should be {known} or 'package.module:callable'")


def _form(value: object) -> str:
    return SEVERAL if isinstance(value, list | tuple) else ONE


def _label(value: object) -> object:
    if type(value) is int or (isinstance(value, str) and value.strip()):
        return value
    raise PydanticCustomError("label", "Input should be a class: its label, a whole number, or its name")


Label = Annotated[int | str, BeforeValidator(_label)]
"""A class as the data calls it: its own label, or its name."""

Classes = Annotated[tuple[Label, ...] | None, Field(min_length=1), BeforeValidator(as_tuple)]


class StreamSection(OpenSection):
    """``[stream]``: training samples arrive in experiences; without the section all are there from the start.

    The experiences are those of the training stream of an Avalanche benchmark over the training samples of all clients.
    ``class-incremental`` experiences bring new classes, in ``class-order`` or in an order drawn by the seed;
    ``new-instances`` bring equal random shares of all samples; ``package.module:callable`` is called with the training
    and the test samples as two Avalanche data sets with sample ids, and returns any benchmark made of them. Further
    keys are the callable's, and so are ``experiences`` and ``class-order`` where they are given. ``replay-samples`` is
    how many retained samples of each earlier experience a client mixes into those of the current one.
    """

    benchmark: Annotated[str, BeforeValidator(_benchmark)]
    experiences: Positive | None = None
    class_order: Classes = None
    replay_samples: FromZero = 0

    @property
    def is_built_in(self) -> bool:
        """Whether the benchmark is one of the library's, which has as many experiences as the section says."""
        return self.benchmark in BUILT_IN_BENCHMARKS

    @property
    def number(self) -> int:
        """Experiences of a built-in benchmark."""
        return self.experiences if self.experiences is not None else DEFAULT_EXPERIENCES

    @model_validator(mode="before")
    @classmethod
    def _with_default(cls, value: object) -> object:
        """A built-in benchmark's number of experiences is written out; a callable has one only where it is given."""
        if isinstance(value, dict) and value.get("benchmark") in BUILT_IN_BENCHMARKS:
            return {"experiences": DEFAULT_EXPERIENCES, **value}
        return value


class TrainStep(TrainingOverrides):
    """``train = {...}``: rounds of ordinary training on retained data.

    ``experience`` is the number of one, or ``"all"``: all samples, and with a stream all that have arrived by then. The
    step and all that follows it wait for ``not-before``, a date and time with its offset; a server that stays serves
    requests meanwhile.
    """

    experience: Annotated[int | Literal["all"], BeforeValidator(_experience)] = "all"
    rounds: Annotated[int, Field(ge=0, le=1_000_000)]
    not_before: AwareDatetime | None = None


class ForgetStep(Section):
    """One forget request: of classes, of samples of one client, or of a client. Classes are named by their label.

    Requests of a higher ``priority`` are served first; ``deadline`` is in seconds after the request is put.
    """

    id: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    class_: Label | None = None
    classes: Classes = None
    client: FromZero | None = None
    samples: Positive | None = None
    of_class: Label | None = None
    sample_ids: Annotated[tuple[int | str, ...], BeforeValidator(_sample_ids)] | None = None
    method: str | None = None
    parameters: Parameters = Field(default_factory=dict)
    goal: Literal["misclassify", "relabel", "indistinguishable"] | None = None
    priority: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    deadline: Rate | None = None

    @property
    def scope(self) -> ScopeKind:
        """Scope of the request."""
        if self.class_ is not None or self.classes is not None:
            return "class"
        return "sample" if self.samples is not None or self.sample_ids is not None else "client"

    @property
    def class_ids(self) -> tuple[int | str, ...]:
        """The classes of a class request as the data calls them, sorted; empty for other scopes."""
        named: tuple[int | str, ...] = self.classes or () if self.class_ is None else (self.class_,)
        return tuple(sorted(set(named), key=lambda label: (isinstance(label, str), label)))

    def class_indices(self, names: ClassNames) -> tuple[int, ...]:
        """The indices of the classes of a class request, sorted; empty for other scopes.

        Raises
        ------
        InvalidRequestError
            If the data has no such class.
        """
        return tuple(sorted(set(names.indices(self.class_ids))))


OneOrSeveral = Annotated[
    Annotated[ForgetStep, Tag(ONE)]
    | Annotated[tuple[ForgetStep, ...], Field(min_length=1), BeforeValidator(as_tuple), Tag(SEVERAL)],
    Discriminator(_form),
]


class TimelineEntry(Section):
    """``[[timeline]]``: either a training step or forget requests, one or several that are put together."""

    train: TrainStep | None = None
    forget: OneOrSeveral | None = None

    @property
    def requests(self) -> tuple[ForgetStep, ...]:
        """The requests that are put here, in order; none where the entry trains."""
        if self.forget is None:
            return ()
        return self.forget if isinstance(self.forget, tuple) else (self.forget,)

    def with_requests(self, requests: tuple[ForgetStep, ...]) -> TimelineEntry:
        """The entry with other requests in place of its own, at least one; a single table stays one."""
        single = not isinstance(self.forget, tuple) and len(requests) == 1
        return self.model_copy(update={"forget": requests[0] if single else requests})
