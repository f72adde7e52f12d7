"""A timeline: training experiences and forget requests, in the order in which they come."""

from __future__ import annotations

from dataclasses import dataclass, field

from flwr.app import ConfigRecord

from fed_unlearn.requests import ForgetRequest


@dataclass(frozen=True, kw_only=True)
class Train:
    """A training experience.

    Attributes
    ----------
    rounds : int
        At least 0.
    train_config, evaluate_config : ConfigRecord
        For the clients, as in Flower. Where samples arrive over time, the first says which experience is trained
        (``"experience"``) and how many have arrived (``"arrived"``), counted from 1.
    """

    rounds: int
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    evaluate_config: ConfigRecord = field(default_factory=ConfigRecord)


@dataclass(frozen=True)
class Forget:
    """Requests that come together.

    Attributes
    ----------
    requests : tuple of ForgetRequest
        Each with an id, so that a timeline that is run again knows which ones it has submitted.
    train_config : ConfigRecord or None
        Of repair; that of the last training round where None.
    """

    requests: tuple[ForgetRequest, ...]
    train_config: ConfigRecord | None = None


Timeline = tuple[Train | Forget, ...]
