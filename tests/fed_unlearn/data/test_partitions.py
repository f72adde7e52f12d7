import numpy as np
import pytest
import torch
from flwr_datasets import partitioner as flower_partitioners

from fed_unlearn.data.clients import client_data, training_positions
from fed_unlearn.data.partitions import partition_indices, partitioner_names
from fed_unlearn.data.sources import load_source
from fed_unlearn.errors import InvalidParameterError

LABELS = torch.arange(10).repeat(60)[torch.randperm(600, generator=torch.Generator().manual_seed(3))]
# Parameters with which each partitioner gives every sample to one client.
COMPLETE: dict[str, dict[str, object]] = {
    "continuous": {"strictness": 0.5},
    "dirichlet": {"alpha": 0.5, "min-partition-size": 2},
    "distribution": {
        "distribution_array": [[0.5, 0.5]] * 10,
        "num_unique_labels_per_partition": 2,
        "preassigned_num_samples_per_label": 2,
    },
    "exponential": {},
    "grouped-natural-id": {"group_size": 1},
    "iid": {},
    "inner-dirichlet": {"alpha": 1.0},
    "linear": {},
    "natural-id": {},
    "pathological": {"num_classes_per_partition": 2, "class_assignment_mode": "deterministic"},
    "shard": {"num_shards_per_partition": 2},
    "size": {},
    "square": {},
}


def test_every_partitioner_of_flower_has_a_name() -> None:
    assert set(COMPLETE) == set(partitioner_names())
    named = {name.replace("-", "") for name in partitioner_names()}
    left_out = {"idtosizefnc", "verticaleven", "verticalsize", ""}
    assert named == {name.removesuffix("Partitioner").lower() for name in flower_partitioners.__all__} - left_out


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_partition_is_complete_and_follows_its_seed(name: str) -> None:
    # Ten exponentially growing parts would need more samples than there are.
    count = 6 if name == "exponential" else 10
    before = (torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tolist())
    parts = partition_indices(LABELS, count, name=name, parameters=COMPLETE[name], seed=1)
    assert len(parts) == count
    assert torch.cat(parts).sort().values.tolist() == list(range(600))
    again = partition_indices(LABELS, count, name=name, parameters=COMPLETE[name], seed=1)
    assert all(torch.equal(one, other) for one, other in zip(parts, again, strict=True))
    if not name.endswith("natural-id"):
        other_seed = partition_indices(LABELS, count, name=name, parameters=COMPLETE[name], seed=2)
        assert any(not torch.equal(one, other) for one, other in zip(parts, other_seed, strict=True))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state(legacy=False)["state"]["key"].tolist()


def test_shapes_of_partitions() -> None:
    assert [len(part) for part in partition_indices(LABELS, 10)] == [60] * 10
    for label, part in enumerate(sorted(partition_indices(LABELS, 10, name="natural-id"), key=lambda p: LABELS[p[0]])):
        assert torch.unique(LABELS[part]).tolist() == [label]
    pathological = partition_indices(
        LABELS, 10, name="pathological", parameters={"num_classes_per_partition": 2}, seed=0
    )
    assert all(len(torch.unique(LABELS[part])) == 2 for part in pathological)
    sizes = [len(part) for part in partition_indices(LABELS, 10, name="linear")]
    assert sizes == sorted(sizes)
    skewed = partition_indices(LABELS, 5, name="dirichlet", parameters={"alpha": 0.1, "min_partition_size": 1})
    even = partition_indices(LABELS, 5, name="dirichlet", parameters={"alpha": 1000.0})
    spread = [
        torch.stack([LABELS[part].bincount(minlength=10) for part in parts]).float().std() for parts in (skewed, even)
    ]
    assert spread[0] > 5 * spread[1]


@pytest.mark.parametrize(
    ("name", "count", "parameters", "message"),
    [
        ("dirichlett", 10, {}, "'dirichlett' is unknown; expected one of continuous, dirichlet"),
        ("dirichlet", 10, {"alfa": 1}, "has no parameter 'alfa'; it takes partition_by, alpha"),
        ("dirichlet", 10, {}, "needs the parameter 'alpha'"),
        ("dirichlet", 10, {"alpha": 0.5, "seed": 3}, "has no parameter 'seed'"),
        ("dirichlet", 10, {"alpha": -1.0}, "strictly greater than zero"),
        ("dirichlet", 10, {"alpha": "high"}, "alpha='high'"),
        ("dirichlet", 100, {"alpha": 0.5}, "at least 10 samples; give a smaller min_partition_size"),
        ("iid", 601, {}, "601 were given; expected 1 to 600"),
        ("iid", 0, {}, "0 were given; expected 1 to 600"),
        ("natural-id", 7, {}, "makes 10 clients of this data; 7 were asked for"),
        ("size", 2, {"partition_sizes": [400, 400]}, "cannot divide 600 samples"),
    ],
)
def test_what_cannot_be_divided_is_named(name: str, count: int, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message) as caught:
        partition_indices(LABELS, count, name=name, parameters=parameters)
    assert "\n" not in str(caught.value)


def test_clients_share_the_source_without_overlap() -> None:
    source = load_source("digits")
    clients = [
        client_data(
            source, client, 7, partition="dirichlet", parameters={"alpha": 0.5}, validation_fraction=0.2, seed=4
        )
        for client in range(7)
    ]
    positions_of = training_positions(
        source, 7, partition="dirichlet", parameters={"alpha": 0.5}, validation_fraction=0.2, seed=4
    )
    for data, places in zip(clients, positions_of, strict=True):
        assert data.train.ids == tuple(source.train.ids[place] for place in places.tolist())
    held = [sample_id for data in clients for sample_id in data.train.ids + data.validation.ids]
    assert sorted(held) == sorted(source.train.ids)
    assert sorted(sample_id for data in clients for sample_id in data.test.ids) == sorted(source.test.ids)
    assert max(len(data.test) for data in clients) - min(len(data.test) for data in clients) <= 1
    positions = {sample_id: position for position, sample_id in enumerate(source.train.ids)}
    for data in clients:
        assert data.fingerprint == source.fingerprint
        assert len(data.validation) == round(0.2 * (len(data.train) + len(data.validation)))
        train, validation = (part.labels.bincount(minlength=10) for part in (data.train, data.validation))
        assert ((train + validation) * 0.2 - validation).abs().max() <= 1
        assert torch.equal(data.train.images[0], source.train.images[positions[data.train.ids[0]]])


def test_client_data_follows_its_seed_and_names_bad_input() -> None:
    source = load_source("digits")
    one, again, other = (client_data(source, 2, 5, validation_fraction=0.1, seed=seed) for seed in (0, 0, 1))
    assert (one.train.ids, one.validation.ids, one.test.ids) == (again.train.ids, again.validation.ids, again.test.ids)
    assert one.train.ids != other.train.ids
    assert len(client_data(source, 0, 5, validation_fraction=0.0).validation) == 0
    with pytest.raises(InvalidParameterError, match="client 99 does not exist; expected 0 to 4"):
        client_data(source, 99, 5)
    with pytest.raises(InvalidParameterError, match=r"validation_fraction: 1\.0 was given"):
        client_data(source, 0, 5, validation_fraction=1.0)
