"""The records that the state of a run is written down in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fed_unlearn.records import StoredConfig
from fed_unlearn.strategies.inner.state import StateScalar
from fed_unlearn.strategies.state import StoredAudit
from fed_unlearn.strategies.training.figures import TrainingFigures


@dataclass(frozen=True, kw_only=True)
class ServedRecord:
    """What is known of the served model."""

    audit: StoredAudit | None
    first_audit: StoredAudit | None
    update_norm: float | None
    train_config: StoredConfig
    repair_rounds: int


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """The training experience that is open."""

    name: str
    first: int
    rounds: int
    done: int
    config: StoredConfig
    model: str | None
    figures: TrainingFigures = field(default_factory=TrainingFigures)
    longest: float = 0.0
    changed_configs: Mapping[int, StoredConfig] = field(default_factory=dict)
    evaluated: int | None = None


@dataclass(frozen=True)
class ExperienceRecord:
    """A training experience that has come to its end."""

    rounds: int
    config: StoredConfig
    figures: TrainingFigures | None = None
    changed_configs: Mapping[int, StoredConfig] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class InnerRecord:
    """What the inner strategy carries from round to round."""

    digest: str | None
    groups: tuple[str, ...]
    scalars: Mapping[str, StateScalar]
