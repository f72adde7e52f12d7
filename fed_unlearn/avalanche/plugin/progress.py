"""Counts the experiences of a stream whose training is over, also where they come in online parts."""

from __future__ import annotations

from typing import Any

from avalanche.benchmarks import OnlineCLExperience

from fed_unlearn.avalanche.streams.origin import place_of, unmasked


class Progress:
    """Tells how many experiences were trained on, and how many of them to the end.

    An online part is the last of its experience if it says so, or if as many parts came as it says that there are.
    Where parts do not say how many there are, the end of a ``train`` call is the end of the experience. Each
    experience ends when another one begins. What parts say is read also where strategies have no access to boundaries.
    """

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._latest: int | None = None
        self._parts = 0
        self._length: int | None = None

    @property
    def begun(self) -> int:
        """Number of experiences of which something was trained on."""
        return len(self._begun)

    @property
    def finished(self) -> int:
        """Number of experiences whose training is over."""
        return len(self._finished)

    def expect(self, experience: Any, place: int) -> None:
        """Note which experience, or part of one, is trained on next. ``place`` is its number if it has none."""
        number = place_of(experience)
        number = place if number is None else number
        if self._latest is not None and number != self._latest:
            self._finished.add(self._latest)
            self._latest = None

    def add(self, experience: Any, place: int) -> None:
        """Note an experience, or a part of one, that is trained on now."""
        self.expect(experience, place)
        number = place_of(experience)
        number = place if number is None else number
        self._parts = self._parts + 1 if number == self._latest else 1
        self._latest = number
        self._begun.add(number)
        is_last = True
        if isinstance(experience, OnlineCLExperience):
            with unmasked(experience):
                self._length = experience.sub_stream_length
                # Avalanche marks no part as the last one if all parts are of one size.
                is_last = experience.is_last_subexp or (self._length is not None and self._parts >= self._length)
        if is_last:
            self._finished.add(number)

    def end_call(self) -> None:
        """Note that a ``train`` call has ended."""
        if self._latest is not None and self._length is None:
            self._finished.add(self._latest)
