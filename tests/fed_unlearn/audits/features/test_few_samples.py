import torch

from fed_unlearn.audits.features.few_samples import DRAWS, few_samples, of_size


def test_draws_are_of_each_class_and_larger_sizes_are_left_out_where_samples_lack() -> None:
    labels = torch.tensor([7, 2] * 10 + [2] * 40)
    draws = list(few_samples(labels, 0))
    assert len(draws) == 2 * DRAWS  # class 7 has 10 samples: no draw of 50
    for index, draw in enumerate(draws):
        assert [labels[positions].unique().tolist() for positions in draw] == [[2], [7]]
        assert all(len(positions.unique()) == (1 if index < DRAWS else 10) for positions in draw)
    assert len({tuple(draw[0].tolist()) for draw in draws}) > DRAWS
    assert all(map(torch.equal, draws[3], list(few_samples(labels, 0))[3]))
    assert list(few_samples(labels[:0], 0)) == []


def test_counts_are_cut_by_size() -> None:
    counts = tuple(range(2 * DRAWS))
    assert of_size(counts, 1) == counts[:DRAWS] and of_size(counts, 10) == counts[DRAWS:] and of_size(counts, 50) == ()
