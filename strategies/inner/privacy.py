"""Differential privacy of wrapped strategies: what their noise covers, added where it is missing, and counted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp.strategy import DifferentialPrivacyServerSideAdaptiveClipping, Strategy
from numpy.typing import NDArray

from fed_unlearn.arrays import Arrays
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.strategies.inner.kinds import PrivacyWrapper, privacy_wrapper

_VERSION = 1


@dataclass
class PrivacyAccountant:
    """Counts noised releases, and says what they cost together.

    Each release of the Gaussian mechanism with noise multiplier z satisfies rho-zCDP with rho = 1 / (2 z^2), and the
    rhos of all releases add up, also where a release depends on those before it (Bun and Steinke, TCC 2016,
    proposition 1.6 and lemma 2.3). Nothing is taken off for rounds that a client was not sampled in: the account is an
    upper bound. A release counts as soon as it is made; rolling a request back does not take it back.

    Attributes
    ----------
    releases : dict of (str, float) to int
        Number of releases, by what they were for and their noise multiplier.
    """

    releases: dict[tuple[str, float], int] = field(default_factory=dict)

    def add(self, purpose: str, noise_multiplier: float, count: int = 1) -> None:
        """Count releases.

        Parameters
        ----------
        purpose : str
            What they were for, for instance ``"train"``, ``"unlearn"`` or ``"repair"``.
        noise_multiplier : float
            Noise multiplier of each release, at least 0. A multiplier of 0 is a release without noise, after which
            nothing is guaranteed any more.
        count : int
            Number of releases, at least 1.

        Raises
        ------
        InvalidParameterError
            If a number is out of range.
        """
        if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
            raise InvalidParameterError(f"noise multiplier {noise_multiplier} was given; expected a number from 0")
        if count < 1:
            raise InvalidParameterError(f"{count} releases were given; expected 1 or more")
        key = (purpose, float(noise_multiplier))
        self.releases[key] = self.releases.get(key, 0) + count

    @property
    def count(self) -> int:
        """Releases so far."""
        return sum(self.releases.values())

    @property
    def rho(self) -> float:
        """What all releases cost in zCDP, at least 0; infinite once one had no noise."""
        return sum(
            count / (2 * multiplier**2) if multiplier > 0 else math.inf
            for (_, multiplier), count in self.releases.items()
        )

    def epsilon(self, delta: float) -> float:
        """What all releases cost in (epsilon, delta)-differential privacy: rho + 2 sqrt(rho ln(1 / delta)).

        Parameters
        ----------
        delta : float
            Delta, in (0, 1); well below one over the number of clients.

        Returns
        -------
        float
            Epsilon in nats, at least 0 (Bun and Steinke, TCC 2016, proposition 1.3); infinite once a release had no
            noise.

        Raises
        ------
        InvalidParameterError
            If delta is out of range.
        """
        if not 0 < delta < 1:
            raise InvalidParameterError(f"delta {delta} was given; expected a number above 0 and below 1")
        return self.rho + 2 * math.sqrt(self.rho * math.log(1 / delta))

    def to_json(self) -> str:
        """The account as text; :meth:`from_json` reads it back."""
        rows = [
            {"purpose": purpose, "noise_multiplier": multiplier, "count": count}
            for (purpose, multiplier), count in sorted(self.releases.items())
        ]
        return json.dumps({"version": _VERSION, "releases": rows})

    @classmethod
    def from_json(cls, text: str) -> PrivacyAccountant:
        """Read an account.

        Raises
        ------
        InvalidParameterError
            If the text is not one: an account that cannot be read must not begin at zero again.
        """
        accountant = cls()
        try:
            body = json.loads(text)
            if body["version"] != _VERSION:
                raise InvalidParameterError(
                    f"a privacy account of version {body['version']} was given; this library reads {_VERSION}"
                )
            for row in body["releases"]:
                accountant.add(str(row["purpose"]), float(row["noise_multiplier"]), int(row["count"]))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InvalidParameterError):
                raise
            raise InvalidParameterError(f"not a privacy account: {error!r}; restore it from a copy") from error
        return accountant


def noise_multiplier_of(inner: Strategy) -> float | None:
    """The noise multiplier z of each release of a strategy; None where it adds no noise by design.

    Returns
    -------
    float or None
        The noise multiplier, at least 0. For adaptive clipping, that of noised mean and noised count of clipped updates
        together: z^-2 = z_mean^-2 + (2 sigma_count)^-2 (Andrew et al., NeurIPS 2021, theorem 1).
    """
    wrapper = privacy_wrapper(inner)
    if wrapper is None:
        return None
    multiplier = float(wrapper.noise_multiplier)
    if isinstance(wrapper, DifferentialPrivacyServerSideAdaptiveClipping) and multiplier > 0:
        of_count = 2 * float(wrapper.clipped_count_stddev)
        return float((multiplier**-2 + of_count**-2) ** -0.5)
    return multiplier


def digest_of(parts: Iterable[bytes]) -> str:
    """Digest of what noise is added to: part of its seed, so that no two releases ever share their noise.

    The difference of two models with the same noise has none. What is released again, after a crash, is the same bytes
    and gets the same noise; the same round with other updates gets another.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


@contextmanager
def noise_for(wrapper: PrivacyWrapper, replies: int) -> Iterator[None]:
    """Let a wrapper make its noise for the replies that are there.

    Flower's standard deviation is z C / num_sampled_clients, and one client moves the mean of n replies by up to C / n:
    with fewer replies than were to be sampled the noise would be too small by their ratio.

    Parameters
    ----------
    wrapper : Strategy
        The privacy wrapper. Its ``num_sampled_clients`` is as before afterwards.
    replies : int
        Number of replies, at least 1.
    """
    before = wrapper.num_sampled_clients
    wrapper.num_sampled_clients = replies
    try:
        yield
    finally:
        wrapper.num_sampled_clients = before


def register_release(wrapper: PrivacyWrapper, number: int, replies: Iterable[Message]) -> None:
    """Tell Flower's own accountant, where the wrapper has one, of a release that no ``configure_train`` announced.

    Raises
    ------
    PrivacyBudgetExhausted
        If the release would exceed its budget.
    ValueError
        If there are more replies than its population.
    """
    if getattr(wrapper, "accountant", None) is not None:
        wrapper._prepare_accounting(number, list(replies))  # type: ignore[union-attr]


def topped_up(aggregate: Mapping[str, NDArray[Any]], wrapper: PrivacyWrapper, clipped_to: float, seed: int) -> Arrays:
    """An aggregate with the rest of the noise that its clipping norm asks for.

    Flower adapts the norm before it makes the noise: where the norm shrank from C to C', the noise is z C' / n on
    updates that were clipped to C. Added here is the rest, z sqrt(C^2 - C'^2) / n.

    Parameters
    ----------
    aggregate : mapping of str to ndarray
        The aggregate, with the wrapper's own noise.
    wrapper : Strategy
        The privacy wrapper after the aggregation, inside :func:`noise_for`.
    clipped_to : float
        The norm that updates were clipped to.
    seed : int
    """
    is_adaptive = isinstance(wrapper, DifferentialPrivacyServerSideAdaptiveClipping)
    if not is_adaptive or wrapper.clipping_norm >= clipped_to or wrapper.noise_multiplier == 0:
        return dict(aggregate)
    rest = math.sqrt(clipped_to**2 - wrapper.clipping_norm**2)
    deviation = wrapper.noise_multiplier * rest / wrapper.num_sampled_clients
    generator = np.random.default_rng(seed)
    return {
        name: np.asarray(value + generator.normal(0.0, deviation, value.shape), dtype=value.dtype)
        for name, value in aggregate.items()
    }
