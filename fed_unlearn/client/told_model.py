"""What a client tells the server of its model before anything is done: its arrays, and which are the output layer's."""

from __future__ import annotations

from fed_unlearn.client.model_check import check_logits
from fed_unlearn.client.session import ClientSession
from fed_unlearn.client.working_model import sent_arrays
from fed_unlearn.methods.parts.output_rows import plain_rows
from fed_unlearn.output_rows import OutputRows
from fed_unlearn.shapes import Shapes, shapes_of


def sent_shapes(session: ClientSession) -> Shapes:
    """Names and shapes of the arrays that a client's task sends.

    Raises
    ------
    UnsuitableModelError
        If the model does not answer with logits.
    """
    check_logits(session.model, session.data)
    return shapes_of(sent_arrays(session.task, session.model))


def output_rows(session: ClientSession) -> OutputRows | None:
    """Which of these are the output layer's rows, one a class; None without plain ones, or without a sample."""
    data, model = session.data, session.model
    samples = next((part for part in (data.train, data.validation, data.test) if len(part)), None)
    arrays = sent_arrays(session.task, model)
    rows = None if samples is None else plain_rows(model, samples, arrays)
    return None if rows is None or rows.misfit(shapes_of(arrays), data.class_count) else rows
