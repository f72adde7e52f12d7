"""How many samples an app's own training function pushes through a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from fed_unlearn.pass_counter import PassCounter


@contextmanager
def counted_passes(model: nn.Module) -> Iterator[PassCounter]:
    """Count the samples of every forward pass of a model, and of every backward pass that follows one.

    Parameters
    ----------
    model : nn.Module
        The model. Its first tensor argument has a row for each sample. Its hooks are removed at the end.
    """
    passes = PassCounter()

    def ran(_: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> None:
        given = _first_tensor((arguments, keywords))
        count = 0 if given is None or given.ndim == 0 else len(given)
        passes.add(forward=count)
        made = _first_tensor(output)
        if made is not None and made.requires_grad:
            made.register_hook(lambda _: passes.add(backward=count))

    handle = model.register_forward_hook(ran, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()


def _first_tensor(given: Any) -> Tensor | None:
    if isinstance(given, Tensor):
        return given
    parts = given.values() if isinstance(given, Mapping) else given if isinstance(given, Sequence) else ()
    if isinstance(parts, str):
        return None
    return next((found for part in parts if (found := _first_tensor(part)) is not None), None)
