import pytest
import torch

from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator


def draws() -> torch.Tensor:
    """What initialisers and dropout draw from torch's global generator."""
    weights = torch.nn.Linear(5, 3).weight.detach().flatten()
    return torch.cat([weights, torch.rand(4), torch.nn.functional.dropout(torch.ones(20)), torch.randperm(9)])


def test_isolated_random_reproduces() -> None:
    with isolated_random(7):
        first = draws()
    torch.rand(3)
    with isolated_random(7):
        assert torch.equal(draws(), first)
    with isolated_random(8):
        assert not torch.equal(draws(), first)


def test_isolated_random_is_what_torch_draws_from_that_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = draws()
    with isolated_random(7):
        assert torch.equal(draws(), expected)


def test_the_global_state_is_as_before() -> None:
    before = torch.get_rng_state()
    with isolated_random(7):
        draws()
        torch.manual_seed(99)
    assert torch.equal(torch.get_rng_state(), before)
    with isolated_random(7), isolated_random(8):
        draws()
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="inside"), isolated_random(7):
        draws()
        raise ValueError("inside")
    assert torch.equal(torch.get_rng_state(), before)


def test_an_inner_block_does_not_disturb_the_outer_one() -> None:
    with isolated_random(7):
        expected = torch.cat([torch.rand(2), torch.rand(2)])
    with isolated_random(7):
        first = torch.rand(2)
        with isolated_random(8):
            draws()
        assert torch.equal(torch.cat([first, torch.rand(2)]), expected)


PARTS: list[tuple[str | int, ...]] = [
    (),
    ("",),
    ("", ""),
    (0,),
    ("0",),
    (1,),
    (-1,),
    (12, 3),
    (1, 23),
    (123,),
    ("a", "bc"),
    ("ab", "c"),
    ("abc",),
    ("c", "ab"),
    (0, "train", 1, "2"),
    (0, "train", "1", 2),
    (0, "train", 12),
]


def test_different_parts_have_different_seeds() -> None:
    seeds = [derive_seed(*parts) for parts in PARTS]
    assert len(set(seeds)) == len(PARTS)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_part_with_a_separator_is_no_two_parts() -> None:
    assert derive_seed("a\x1fstr:b") != derive_seed("a", "b")


def test_a_generator_has_the_seed_of_its_parts() -> None:
    generator = seeded_generator("train", 4)
    assert generator.initial_seed() == derive_seed("train", 4)
    expected = torch.rand(5, generator=torch.Generator().manual_seed(derive_seed("train", 4)))
    before = torch.get_rng_state()
    assert torch.equal(torch.rand(5, generator=generator), expected)
    assert torch.equal(torch.get_rng_state(), before)
