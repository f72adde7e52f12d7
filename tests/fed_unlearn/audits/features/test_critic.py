import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from fed_unlearn.audits.features.critic import information_by_sample, judged_information
from fed_unlearn.seeding import seeded_generator


def information_of_gaussians(shift: float) -> float:
    """Mutual information between a fair coin and a normal value whose mean it moves to one side or the other."""

    def mixture(value: float) -> float:
        return 0.5 * float(norm.pdf(value, -shift)) + 0.5 * float(norm.pdf(value, shift))

    entropy = quad(lambda value: -mixture(value) * math.log(mixture(value)), -12, 12)[0]
    return entropy - float(norm.entropy())


def sides(shift: float, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Five values, the first of which the label moves."""
    values = torch.randn(2, count, 5, generator=torch.Generator().manual_seed(seed))
    values[0, :, 0] -= shift
    values[1, :, 0] += shift
    return values[0], values[1]


def test_the_bound_is_infonce_over_all_pairs_of_a_balanced_batch() -> None:
    scores = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([0, 1, 1, 0, 0, 1])
    pairs = np.exp(scores[:, labels].numpy())  # of each sample with the label of each
    expected = np.mean([math.log(pairs[i, i] / pairs[i].mean()) for i in range(6)])
    assert float(information_by_sample(scores, labels).mean()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 3.0])
def test_it_comes_near_the_mutual_information_of_gaussians(shift: float) -> None:
    found = judged_information(sides(shift, 500, 0), sides(shift, 4000, 1), seeded_generator(0))
    assert float(found.mean()) == pytest.approx(information_of_gaussians(shift), abs=0.03)
    assert found.max() <= math.log(2) and len(found) == 8000


def test_all_comes_from_the_generator() -> None:
    train, judged = sides(0.5, 100, 0), sides(0.5, 100, 1)
    drawn = torch.random.get_rng_state()
    first, again, other = (judged_information(train, judged, seeded_generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_features_that_never_change_tell_nothing() -> None:
    same = torch.ones(60, 3)
    assert float(judged_information((same, same), (same, same), seeded_generator(0)).mean()) == pytest.approx(
        0, abs=0.02
    )
