"""What a request asks for in the labels of the model that serves it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fed_unlearn.avalanche.streams.forget_experience import ForgetExperience
from fed_unlearn.avalanche.streams.reading import SampleReader
from fed_unlearn.avalanche.tasks.joint_labels import JointLabels
from fed_unlearn.avalanche.tasks.task_reader import TaskReader
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.local import CLIENT
from fed_unlearn.requests import ClassScope, ForgetRequest, SampleScope


def asked_of(experience: ForgetExperience, reader: SampleReader, experiences: Iterable[Any]) -> ForgetRequest:
    """Return the request of an experience in the labels of a reader's samples.

    A model that reads task labels has an output for each class of each task. A class request names such outputs. Every
    other model has one output for a class of all tasks. A request for the class of one task is then

    - one for the class, if no other task has this class, or the request names it in all tasks;
    - otherwise one for the samples that it names: the output stays, because other tasks use it.

    Parameters
    ----------
    experience : ForgetExperience
        The experience of the request.
    reader : SampleReader
        The reader of the model's samples.
    experiences : iterable of DatasetExperience
        All training experiences.

    Raises
    ------
    InvalidRequestError
        If a request names both kinds of classes of a model without heads.
    """
    request, scope = experience.request, experience.request.scope
    if not isinstance(scope, ClassScope):
        return request
    if isinstance(reader, TaskReader):
        return replace(request, scope=ClassScope(reader.joint.named(scope)))
    if not scope.pairs:
        return request
    known = JointLabels.of(item.dataset for item in experiences if len(item.dataset)).pairs
    shared = [pair for pair in scope.pairs if any(other[1] == pair[1] and other not in scope.pairs for other in known)]
    if not shared:
        return replace(request, scope=ClassScope(tuple(sorted({*scope.classes, *(label for _, label in scope.pairs)}))))
    if len(shared) < len(scope.pairs) or scope.classes:
        task, label = shared[0]
        raise InvalidRequestError(
            f"request {request.id}: the model has one output for class {label} of task {task} and of other tasks, but"
            " whole classes are asked for, too; expected one or the other: make two requests"
        )
    return replace(request, scope=SampleScope(CLIENT, experience.sample_ids))
