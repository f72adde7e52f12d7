"""The training experiences of a scenario: which samples and classes arrive when."""

from __future__ import annotations

from functools import partial

from fed_unlearn.data.experiences import Assignment, class_incremental, class_split, new_instances
from fed_unlearn.simulations.sections import Scenario


def assignment_of(scenario: Scenario, class_count: int, client: int) -> Assignment | None:
    """How a scenario's stream divides the training samples of a client; None where all are there from the start."""
    stream = scenario.stream
    if stream is None:
        return None
    if stream.benchmark == "class-incremental":
        by_class = partial(
            class_incremental,
            class_count=class_count,
            experiences=stream.experiences,
            seed=scenario.seed,
            class_order=stream.class_order,
        )
        return lambda labels, ids: by_class(labels)
    return lambda labels, ids: new_instances(len(ids), stream.experiences, scenario.seed, client)


def arrived_classes(scenario: Scenario, class_count: int, number: int) -> tuple[int, ...]:
    """The classes of which samples have arrived once an experience has.

    Parameters
    ----------
    scenario : Scenario
    class_count : int
        Classes of its data.
    number : int
        Of the experience, from 1; 0 for all of them.

    Returns
    -------
    tuple of int
        Ascending; all classes unless the stream is class-incremental.
    """
    stream = scenario.stream
    if stream is None or stream.benchmark != "class-incremental" or number == 0:
        return tuple(range(class_count))
    split = class_split(class_count, stream.experiences, scenario.seed, stream.class_order)
    return tuple(sorted(class_id for classes in split[:number] for class_id in classes))
