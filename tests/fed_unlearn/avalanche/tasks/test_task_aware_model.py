"""Joint labels, inputs with tasks, and a model with heads as one with a single label space."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset
from avalanche.models import MTSimpleMLP, MultiHeadClassifier, MultiTaskModule
from torch import Tensor, nn

from fed_unlearn.avalanche.streams.reading import SampleReader
from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset
from fed_unlearn.avalanche.tasks import JointLabels, TaskAwareModel, TaskReader, TaskSet, own_module, reader_for
from fed_unlearn.avalanche.tasks.task_inputs import domain_with_places, places_of, with_places
from fed_unlearn.data.domain import PIXELS, TOKENS, InputDomain
from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.requests import ClassScope

LABELS = JointLabels(((0, 0), (0, 1), (3, 0), (3, 1)))


class TwoHeads(MultiTaskModule):
    """Outputs of task t: the pixel sums of each row, times t + 1."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.width = width

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        assert task_labels.shape == (len(x),) and task_labels.dtype == torch.int64
        return self.scale * x.sum((1, 3))[:, : self.width] * (task_labels[:, None] + 1)


def images(count: int, height: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, height, 4, generator=torch.Generator().manual_seed(seed))


def plain_dataset_of(classes: list[int], start: int = 0) -> AvalancheDataset:
    ids = [str(start + index) for index in range(len(classes))]
    inputs = images(len(classes), seed=start)
    return as_avalanche_dataset(ImageSet(inputs, torch.tensor(classes, dtype=torch.int64), ids))


def dataset_of(classes: list[int], tasks: list[int], start: int = 0) -> Any:
    plain = plain_dataset_of(classes, start)
    return TaskAwareSupervisedClassificationDataset([plain], data_attributes=[TaskLabels(tasks)])


def test_joint_labels_number_the_pairs_and_stay_when_more_come() -> None:
    labels = JointLabels.of([dataset_of([1, 0, 1], [3, 0, 0]), dataset_of([0], [3])])
    assert labels == LABELS and labels.none == 4 and labels.tasks == (0, 3)
    assert labels.joint([3, 0, 3], [1, 1, 0]).tolist() == [3, 1, 2]
    more = labels.extended([dataset_of([0, 1], [1, 0]), dataset_of([], [])])
    assert more.pairs == (*LABELS.pairs, (1, 0)) and labels.extended([dataset_of([1], [0])]) is labels
    with pytest.raises(InvalidDataError, match="class 2 of task 3 was given"):
        labels.joint([3], [2])
    with pytest.raises(InvalidDataError, match="no data set with samples"):
        JointLabels.of([])


def test_a_class_names_the_class_of_every_task_and_a_pair_that_of_one() -> None:
    assert LABELS.named(ClassScope((1,))) == (1, 3)
    assert LABELS.named(ClassScope(pairs=((3, 1),))) == (3,)
    assert LABELS.named(ClassScope((0,), ((3, 1),))) == (0, 2, 3)


@pytest.mark.parametrize("shape", [(5, 1, 4, 4), (5, 3, 2), (5, 7)])
def test_inputs_carry_their_task_through_noise(shape: tuple[int, ...]) -> None:
    inputs, places = torch.rand(shape, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 1, 9, 4])
    carried = with_places(inputs, places, 10)
    assert carried.shape == (5, shape[1] + 1, *shape[2:]) and torch.equal(carried[:, :-1], inputs)
    assert carried.min() >= 0 and carried.max() <= 1, "valid pixels"
    noise = (torch.rand(carried.shape, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.1
    assert torch.equal(places_of(carried + noise, 10), places)
    assert torch.equal(places_of(with_places(inputs, places * 0, 1), 1), places * 0)
    assert places_of(torch.full_like(carried, torch.nan), 10).tolist() == [0] * 5
    assert torch.equal(places_of(carried.bfloat16(), 10), places)


def test_tokens_carry_their_task() -> None:
    tokens, places = torch.arange(6).view(2, 3), torch.tensor([4, 2])
    assert torch.equal(places_of(with_places(tokens, places, 5), 5), places)


def test_the_channel_of_the_task_is_not_normalised() -> None:
    domain = domain_with_places(InputDomain.normalized(0.5, 0.25), 1)
    assert domain == InputDomain.normalized((0.5, 0.0), (0.25, 1.0))
    domain.check(with_places(torch.full((2, 1, 2, 2), 2.0), torch.tensor([0, 1]), 2))
    assert domain_with_places(PIXELS, 3) == PIXELS and domain_with_places(TOKENS, 3) == TOKENS


def test_the_logits_are_those_of_the_samples_own_task() -> None:
    module = TwoHeads()
    model, inputs = TaskAwareModel(module, LABELS, {0, 3}), images(3)
    logits = model(with_places(inputs, torch.tensor([1, 0, 1]), 2))
    own = module(inputs, torch.tensor([3, 0, 3]))
    assert logits.shape == (3, 5)
    torch.testing.assert_close(
        logits[:, :2], torch.stack([torch.full((2,), -1000.0), own[1], torch.full((2,), -1000.0)])
    )
    torch.testing.assert_close(logits[:, 2:4], torch.stack([own[0], torch.full((2,), -1000.0), own[2]]))
    assert (logits[:, 4] == -1000).all(), "no output of a head is another class"


def test_an_output_that_is_no_class_of_the_task_counts_as_none() -> None:
    module = TwoHeads(width=3)
    inputs = images(2)
    inputs[:, :, 2] = 1.0  # the third output is the largest
    logits = TaskAwareModel(module, LABELS, {0, 3})(with_places(inputs, torch.tensor([0, 1]), 2))
    assert logits.argmax(1).tolist() == [LABELS.none] * 2
    assert logits[:, 4].tolist() == module(inputs, torch.tensor([0, 3]))[:, 2].tolist()


def test_tasks_without_a_head_are_not_called() -> None:
    module = TwoHeads()
    module.register_forward_pre_hook(lambda _, given: [pytest.fail("task 3") for task in given[1] if task == 3] or None)
    logits = TaskAwareModel(module, LABELS, {0})(with_places(images(3), torch.tensor([1, 0, 1]), 2))
    assert logits.argmax(1)[[0, 2]].tolist() == [LABELS.none] * 2 and logits.argmax(1)[1] < 2


def test_no_gradient_flows_to_the_task_and_training_changes_the_model() -> None:
    module = TwoHeads()
    model = TaskAwareModel(module, LABELS, {0, 3})
    inputs = with_places(images(2), torch.tensor([0, 1]), 2).requires_grad_()
    nn.functional.cross_entropy(model(inputs), torch.tensor([0, 3])).backward()
    assert inputs.grad is not None and (inputs.grad[:, -1] == 0).all() and (inputs.grad[:, :-1] != 0).any()
    assert module.scale.grad is not None and own_module(model) is module and own_module(module) is module


def test_reading_makes_no_heads_and_changes_no_state() -> None:
    module = MTSimpleMLP(input_size=16, hidden_size=8)
    module.train()
    for task in (0, 3):
        module.classifier.adaptation(SimpleNamespace(classes_in_this_experience=[0, 1], task_labels=[task]))
        module.adaptation(SimpleNamespace(classes_in_this_experience=[0, 1], task_labels=[task]))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    labels = JointLabels((*LABELS.pairs, (5, 0)))
    reader = TaskReader(joint=labels)
    logits = reader.model(module)(with_places(images(3), torch.tensor([0, 1, 2]), 3))
    assert logits[2].argmax() == labels.none, "task 5 has not arrived"
    assert isinstance(module.classifier, MultiHeadClassifier) and list(module.classifier.classifiers) == ["0", "3"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_reader_gives_inputs_with_tasks_under_joint_labels() -> None:
    data = dataset_of([1, 0, 1], [3, 0, 0])
    reader = reader_for(
        TwoHeads(), [SimpleNamespace(dataset=data), SimpleNamespace(dataset=dataset_of([0], [3], 3))], SampleReader()
    )
    assert isinstance(reader, TaskReader) and reader.joint == LABELS
    samples = reader.samples(data)
    inputs, labels = samples.batch()
    assert labels.tolist() == [3, 0, 1] == reader.labels(data) and samples.ids == ("0", "1", "2")
    assert torch.equal(inputs[:, :1], images(3)) and places_of(inputs, 2).tolist() == [1, 0, 0]
    assert samples.input_shape == (2, 4, 4)
    chosen = samples.subset(torch.tensor([2, 0]))
    assert places_of(chosen.batch()[0], 2).tolist() == [0, 1] and chosen.ids == ("2", "0")
    joined = concatenate(samples, reader.samples(dataset_of([0], [3], 3)), chosen.relabelled(torch.tensor([0, 0])))
    assert isinstance(joined, TaskSet) and joined.labels.tolist() == [3, 0, 1, 2, 0, 0]
    assert places_of(joined.batch(slice(2, 6))[0], 2).tolist() == [0, 1, 0, 1]
    assert [batch.shape for batch, _ in joined.batches([slice(0, 4), slice(4, 6)])] == [(4, 2, 4, 4), (2, 2, 4, 4)]


def test_samples_without_tasks_are_refused() -> None:
    reader = TaskReader(joint=LABELS)
    with pytest.raises(InvalidDataError, match="ImageSet was given, whose samples have no task labels"):
        reader.samples(ImageSet(images(1), torch.tensor([0])))
    with pytest.raises(InvalidDataError, match="2 samples without task labels"):
        reader.samples(plain_dataset_of([0, 1]))


def test_a_model_without_tasks_keeps_its_reader() -> None:
    reader = SampleReader()
    assert reader_for(nn.Linear(1, 1), [], reader) is reader
