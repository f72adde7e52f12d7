from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fed_unlearn.data.domain import PIXELS, TOKENS, VALUES, InputDomain
from fed_unlearn.errors import InvalidDataError, InvalidParameterError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
NORMALIZED = InputDomain.normalized(MEAN, STD)


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_bounds_are_those_of_black_and_white_in_each_channel() -> None:
    low, high = NORMALIZED.bounds
    assert low == pytest.approx((-2.5, -1.6, -0.6))
    assert high == pytest.approx((2.5, 2.4, 1.4))
    assert PIXELS.bounds == ((0.0,), (1.0,))


def test_normalised_images_are_those_of_torchvision_and_come_back_as_pixels() -> None:
    from torchvision import transforms

    pixels = drawn(4, 3, 5, 5)
    normalized = NORMALIZED.from_pixels(pixels)
    assert torch.allclose(normalized, transforms.Normalize(MEAN, STD)(pixels))
    assert torch.allclose(NORMALIZED.to_pixels(normalized), pixels, atol=1e-6)
    NORMALIZED.check(normalized)
    assert PIXELS.to_pixels(pixels) is pixels and PIXELS.from_pixels(pixels) is pixels


def test_one_number_stands_for_every_channel() -> None:
    pixels = drawn(2, 3, 4, 4)
    assert torch.allclose(InputDomain.normalized(0.5, 0.5).from_pixels(pixels), 2 * pixels - 1)


@pytest.mark.parametrize(
    ("domain", "inputs", "told"),
    [
        (PIXELS, torch.tensor([[0.0, 1.2]]), r"pixels from 0 to 1.2 were given; expected \[0, 1\]"),
        (PIXELS, torch.tensor([[float("nan")]]), "pixels from nan"),
        (NORMALIZED, drawn(2, 3, 4, 4) * 9, "once normalisation .* is undone"),
        (NORMALIZED, drawn(2, 1, 4, 4), "normalisation has 3 channels"),
        (VALUES, torch.tensor([[1.0, float("nan")]]), "not finite numbers"),
        (TOKENS, torch.tensor([[3, -1]]), "a token -1 was given"),
    ],
)
def test_values_outside_the_domain_are_refused(domain: InputDomain, inputs: Tensor, told: str) -> None:
    with pytest.raises(InvalidDataError, match=told):
        domain.check(inputs)


def test_inputs_are_read_as_models_get_them() -> None:
    assert torch.equal(PIXELS.read(torch.tensor([0, 255], dtype=torch.uint8)), torch.tensor([0.0, 1.0]))
    assert TOKENS.read(torch.tensor([1, 2], dtype=torch.int32)).dtype == torch.int64
    assert VALUES.read(torch.ones(2, dtype=torch.float64)).dtype == torch.float32
    for domain, inputs in ((TOKENS, torch.ones(2)), (VALUES, torch.ones(2, dtype=torch.int64))):
        with pytest.raises(InvalidDataError, match="were read; expected"):
            domain.read(inputs)
    with pytest.raises(InvalidDataError, match="expected floats for normalised pixels"):
        NORMALIZED.read(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))


@pytest.mark.parametrize(
    "arguments", [("pictures",), ("pixels", (0.5,), (0.0,)), ("pixels", (0.5,), ()), ("tokens", (0.5,), (1.0,))]
)
def test_impossible_domains_are_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(InvalidParameterError, match="input domain"):
        InputDomain(*arguments)  # type: ignore[arg-type]


def test_tokens_are_mixed_and_not_averaged() -> None:
    first, second = torch.full((200, 50), 3), torch.full((200, 50), 7)
    mixed = TOKENS.blended(first, second, torch.full((200,), 0.25), torch.Generator().manual_seed(0))
    assert set(mixed.unique().tolist()) == {3, 7}
    assert float((mixed == 3).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_noise_stays_in_the_domain() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = NORMALIZED.noise_like(torch.zeros(8, 3, 9, 9), generator)
    assert noise is not None
    NORMALIZED.check(noise)
    values = torch.tensor([[-5.0, 100.0], [5.0, 300.0]])
    noise = VALUES.noise_like(values, generator)
    assert noise is not None and bool((noise >= values.amin(0)).all()) and bool((noise <= values.amax(0)).all())
    assert TOKENS.noise_like(torch.zeros(2, 2, dtype=torch.int64), generator) is None
