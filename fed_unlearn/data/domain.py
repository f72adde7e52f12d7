"""What the values of a model's inputs mean: pixels, normalised or not, other floats, or tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from fed_unlearn.errors import InvalidDataError, InvalidParameterError

_ROUNDING = 1e-3  # a normalised black or white pixel, computed in half precision, is this near to 0 or 1
_LARGEST_BYTE = 255


@dataclass(frozen=True)
class InputDomain:
    """What the inputs of a model are. It belongs to the samples; models and methods read it from them.

    Attributes
    ----------
    kind : {"pixels", "values", "tokens"}, default "pixels"
        ``"pixels"``: floats whose range is known, so that they can be attacked within it. ``"values"``: floats of any
        range, such as tables, series and spectrograms. ``"tokens"``: whole numbers, such as text.
    mean, std : tuple of float, optional
        Mean and standard deviation of pixels that were normalised as ``(pixel - mean) / std``: one number, or one for
        each channel. Without them pixels are in [0, 1].

    Raises
    ------
    InvalidParameterError
        If the kind is unknown, the numbers are not finite, a ``std`` is not above 0, or only pixels may have them.

    Examples
    --------
    >>> InputDomain.normalized((0.5, 0.5), (0.25, 0.5)).bounds
    ((-2.0, -1.0), (2.0, 1.0))
    """

    kind: Literal["pixels", "values", "tokens"] = "pixels"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("pixels", "values", "tokens"):
            raise InvalidParameterError(
                f'input domain {self.kind!r} was given; expected "pixels", "values" or "tokens"'
            )
        fits = len(self.mean) == len(self.std) and (self.kind == "pixels" or not self.mean)
        finite = all(math.isfinite(number) for number in (*self.mean, *self.std))
        if not fits or not finite or not all(number > 0 for number in self.std):
            raise InvalidParameterError(
                f"input domain: mean {self.mean} and std {self.std} of {self.kind} were given; expected finite numbers,"
                " one of each for each channel, std above 0, and for pixels only"
            )

    @classmethod
    def normalized(cls, mean: float | Sequence[float], std: float | Sequence[float]) -> Self:
        """The domain of pixels that were normalised as ``(pixel - mean) / std``.

        Parameters
        ----------
        mean, std : float or sequence of float
            Mean and standard deviation as they were given to the transform: one number, or one for each channel.
        """
        means, stds = (
            tuple(float(number) for number in ([given] if isinstance(given, int | float) else given))
            for given in (mean, std)
        )
        return cls("pixels", means, stds)

    @property
    def is_normalized(self) -> bool:
        """Whether pixels were normalised."""
        return bool(self.mean)

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lowest and highest value of each channel, as the model reads them; for pixels alone.

        Raises
        ------
        InvalidDataError
            If the inputs are no pixels, which alone have bounds.
        """
        self._require_pixels()
        if not self.is_normalized:
            return (0.0,), (1.0,)
        pairs = list(zip(self.mean, self.std, strict=True))
        return tuple((0 - mean) / std for mean, std in pairs), tuple((1 - mean) / std for mean, std in pairs)

    def to_pixels(self, inputs: Tensor) -> Tensor:
        """Inputs (n, channels, ...) as pixels in [0, 1]. The tensor itself if they are not normalised."""
        self._require_pixels()
        if not self.is_normalized:
            return inputs
        mean, std = self._by_channel(inputs)
        return inputs * std + mean

    def from_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (n, channels, ...) in [0, 1] as the model reads them. The tensor itself if it reads pixels."""
        self._require_pixels()
        if not self.is_normalized:
            return pixels
        mean, std = self._by_channel(pixels)
        return (pixels - mean) / std

    def read(self, inputs: Tensor) -> Tensor:
        """Inputs as a model gets them: float32, or int64 for tokens. Bytes become pixels in [0, 1].

        Raises
        ------
        InvalidDataError
            If the tensor holds whole numbers where floats were expected, or the other way round.
        """
        if self.kind == "tokens":
            if inputs.is_floating_point() or inputs.is_complex() or inputs.dtype == torch.bool:
                raise InvalidDataError(f"inputs of {inputs.dtype} were read; expected whole numbers for tokens")
            return inputs.to(torch.int64)
        if inputs.dtype == torch.uint8 and self.kind == "pixels" and not self.is_normalized:
            return inputs.to(torch.float32).div_(_LARGEST_BYTE)
        if not inputs.is_floating_point():
            raise InvalidDataError(f"inputs of {inputs.dtype} were read; expected floats for {self._named}")
        return inputs.to(torch.float32)

    def check(self, inputs: Tensor) -> None:
        """Raise if a value is outside the domain: a pixel out of bounds, a value that is no number, a token below 0.

        Parameters
        ----------
        inputs : Tensor of shape (n, ...)
            Bytes (uint8) of pixels always pass, because they are scaled to [0, 1] when they are read.

        Raises
        ------
        InvalidDataError
            The message names the range of the values.
        """
        if inputs.numel() == 0 or (inputs.dtype == torch.uint8 and self.kind == "pixels"):
            return
        if self.kind == "values":
            if not bool(torch.isfinite(inputs).all()):
                raise InvalidDataError("inputs: some are not finite numbers; fill or leave out what is missing")
            return
        if self.kind == "tokens":
            if int(inputs.min()) < 0:
                raise InvalidDataError(f"inputs: a token {int(inputs.min())} was given; expected numbers from 0")
            return
        room = _ROUNDING if self.is_normalized else 0.0
        pixels = self.to_pixels(inputs)
        low, high = float(pixels.min()), float(pixels.max())
        if low >= -room and high <= 1 + room:  # false if a pixel is not a number
            return
        if self.is_normalized:
            raise InvalidDataError(
                f"images: once normalisation by mean {self.mean} and std {self.std} is undone, pixels are from"
                f" {low:.3g} to {high:.3g}; expected [0, 1]: give the mean and std that the images were normalised by"
            )
        raise InvalidDataError(
            f"images: pixels from {low:.3g} to {high:.3g} were given; expected [0, 1]: give the samples the domain"
            " InputDomain.normalized(mean, std), or let the model normalise"
        )

    def blended(self, inputs: Tensor, partners: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
        """Mix inputs with partners: ``share * input + (1 - share) * partner``; of tokens, that share of them.

        Parameters
        ----------
        inputs, partners : Tensor of shape (n, ...)
        share : Tensor of shape (n,)
            The part that is the input's, in [0, 1].
        generator : torch.Generator
            Chooses the tokens, on the CPU. Floats draw nothing.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        share = share.view(-1, *[1] * (inputs.ndim - 1))
        if self.kind == "tokens":
            drawn = torch.rand(inputs.shape, generator=generator).to(inputs.device)
            return torch.where(drawn < share, inputs, partners)
        return share * inputs + (1 - share) * partners

    def noise_like(self, inputs: Tensor, generator: torch.Generator) -> Tensor | None:
        """Uniform noise of the shape of inputs (n, ...): over all pixels, or over the range of these values.

        Returns
        -------
        Tensor of shape (n, ...), or None
            None for tokens, of which nobody says which there are.
        """
        if self.kind == "tokens":
            return None
        noise = torch.rand(inputs.shape, generator=generator).to(inputs.device)
        if self.kind == "pixels":
            return self.from_pixels(noise)
        low, high = inputs.amin(0), inputs.amax(0)
        return low + (high - low) * noise

    @property
    def _named(self) -> str:
        return "normalised pixels" if self.is_normalized else self.kind

    def _require_pixels(self) -> None:
        if self.kind != "pixels":
            raise InvalidDataError(f"inputs that are {self.kind} were given; only pixels have bounds")

    def _by_channel(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        channels = inputs.shape[1] if inputs.ndim > 1 else 0
        if len(self.mean) not in (1, channels):
            raise InvalidDataError(
                f"inputs of shape {tuple(inputs.shape)} were given; normalisation has {len(self.mean)} channels:"
                " expected (n, channels, ...)"
            )
        shape = (1, -1, *[1] * (inputs.ndim - 2))
        mean, std = (
            torch.tensor(numbers, dtype=inputs.dtype, device=inputs.device) for numbers in (self.mean, self.std)
        )
        return mean.view(shape), std.view(shape)


PIXELS = InputDomain()
"""Pixels in [0, 1]."""

VALUES = InputDomain("values")
"""Floats of any range."""

TOKENS = InputDomain("tokens")
"""Whole numbers from 0."""
