"""The types of a request's views in ``results.json``: counts and coordinates of test images, without sample ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class DestinationView:
    """The classes that each model calls the test images of the forgotten classes by.

    Attributes
    ----------
    labels : sequence of str
        What the data calls each class, by index.
    before, after, oracle : sequence of int or None
        Number of images by the class that the model calls them by. None where there is no such model.
    """

    labels: Sequence[str]
    before: Sequence[int] | None = None
    after: Sequence[int] | None = None
    oracle: Sequence[int] | None = None


@dataclass(frozen=True, kw_only=True)
class ProjectionView:
    """Penultimate features of some test images in two dimensions. One projection serves all models.

    Attributes
    ----------
    classes : sequence of int
        True class of each image, in the order of the points.
    labels : sequence of str
        What the data calls each class, by index.
    explained : float
        Share of the variance of the features before the request that lies in the two dimensions, in [0, 1].
    before, after, oracle : sequence of (float, float) or None
        Coordinates of each image. None where there is no such model.
    """

    classes: Sequence[int]
    labels: Sequence[str]
    explained: float
    before: Sequence[Point] | None = None
    after: Sequence[Point] | None = None
    oracle: Sequence[Point] | None = None


@dataclass(frozen=True, kw_only=True)
class RequestViews:
    """What the report shows of the models of one request beside their figures.

    Attributes
    ----------
    destinations : DestinationView or None
        None where the request names no whole class.
    projection : ProjectionView or None
        None where the request names no whole class, or the model has no features that can be read.
    """

    destinations: DestinationView | None = None
    projection: ProjectionView | None = None

    def without_oracle(self) -> RequestViews:
        """The views without the oracle's model."""
        return RequestViews(
            destinations=None if self.destinations is None else replace(self.destinations, oracle=None),
            projection=None if self.projection is None else replace(self.projection, oracle=None),
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RequestViews:
        """Read what :func:`dataclasses.asdict` and :mod:`json` wrote."""
        kinds = {"destinations": DestinationView, "projection": ProjectionView}
        return cls(**{name: kind(**_tuples(body[name])) for name, kind in kinds.items() if body.get(name) is not None})


def _tuples(body: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples in place of JSON's lists, at any depth."""

    def tupled(value: Any) -> Any:
        return tuple(map(tupled, value)) if isinstance(value, list | tuple) else value

    return {name: tupled(value) for name, value in body.items()}
