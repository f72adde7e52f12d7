import copy
from dataclasses import replace

import pytest
import torch
from audited_digits import FORGOTTEN, OTHERS, data, model, readings
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from fed_unlearn.audits.readings import Readings
from fed_unlearn.audits.relearning import RelearnSettings, relearn
from fed_unlearn.audits.relearning_cells import Cell, GridSettings, Outcome, chosen, outcomes
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import EmptySetError, InvalidDataError
from fed_unlearn.seeding import seeded_generator

SETTINGS = GridSettings(max_measured=30, max_retained=100, fixed_steps=12)
ORIGINAL = "original"


def by_hand(name: str, images: Tensor, labels: Tensor, cell: Cell, order: torch.Generator) -> Outcome:
    """The same loop, written anew: plain networks, autograd's gradients, hand-made SGD with momentum."""
    kept = {"test_forget": 30, "test_retain": 100}
    draws = seeded_generator(0, "relearning", "measured", 0)
    (forgotten, _), (retained, truth) = (
        data().parts[part].batch(torch.randperm(len(data().parts[part]), generator=draws)[:most].sort().values)
        for part, most in kept.items()
    )
    with torch.no_grad():
        aim = (model(ORIGINAL)(forgotten).argmax(1) == FORGOTTEN).double().mean().item()
    network = copy.deepcopy(model(name)).eval()
    with torch.no_grad():
        if cell.kind == "retain":
            network[-1].bias[FORGOTTEN] = network[-1].bias[OTHERS].median()
        else:
            network[-1].weight[FORGOTTEN] = network[-1].weight[OTHERS].mean(0)
            network[-1].bias[FORGOTTEN] = network[-1].bias[OTHERS].mean()
    alone = cell.kind == "forget"
    rate, keep = (SETTINGS.mixed_learning_rate, 0.9) if cell.kind == "mixed" else (6e-3, 0.0)
    bound = 120 if alone else 12
    velocity = [torch.zeros_like(value) for value in network.parameters()]
    steps: dict[float, int] = {}
    left: list[Tensor] = []
    step = 0
    while True:
        with torch.no_grad():
            recall = (network(forgotten).argmax(1) == FORGOTTEN).double().mean().item()
        if step <= 8 or step % 4 == 0 or step == bound:
            for share in (0.5, 0.9):
                if recall >= share * aim:
                    steps.setdefault(share, step)
        if step == bound or (alone and len(steps) == 2):
            break
        if not left:
            left = list(torch.randperm(len(labels), generator=order).split(32))
            if len(left) > 1 and len(left[-1]) == 1:
                left[-2:] = [torch.cat(left[-2:])]
        batch = left.pop(0)
        loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for value, gradient, speed in zip(network.parameters(), gradients, velocity, strict=True):
                speed.mul_(keep).add_(gradient)
                value.sub_(rate * speed)
        step += 1
    with torch.no_grad():
        logits = torch.cat([network(forgotten), network(retained)]).double()
        others = logits[:, OTHERS].logsumexp(1)
        scores = logits[:, FORGOTTEN] - network[-1].bias[FORGOTTEN].double() - others
        said = network(retained).argmax(1)
    is_forgotten = [True] * len(forgotten) + [False] * len(retained)
    return Outcome(
        steps=(steps.get(0.5, bound), steps.get(0.9, bound)),
        reached=(0.5 in steps, 0.9 in steps),
        recall=recall,
        auc=roc_auc_score(is_forgotten, scores.numpy()),
        retain_accuracy=(said == truth).double().mean().item(),
        false_recall=(said == FORGOTTEN).double().mean().item(),
    )


@pytest.mark.parametrize("name", ["original", "oracle"])
@pytest.mark.parametrize(
    "cell", [Cell("forget", 10, 1), Cell("forget", None, 1), Cell("retain", None, 1), Cell("mixed", 5, 1)], ids=str
)
def test_a_draw_is_that_of_an_independent_loop(name: str, cell: Cell) -> None:
    generator = seeded_generator(0, "relearning", cell.name, 0)
    samples = chosen(cell, data(), generator)
    assert samples is not None
    images, labels = samples.batch()
    expected = by_hand(name, images, labels, cell, generator)
    (found,) = outcomes(readings(name), readings(ORIGINAL), cell, seed=0, settings=SETTINGS)
    assert (found.steps, found.reached) == (expected.steps, expected.reached)
    for figure in ("recall", "retain_accuracy", "false_recall"):
        assert getattr(found, figure) == pytest.approx(getattr(expected, figure), abs=1e-9)
    assert found.auc == pytest.approx(expected.auc, abs=1e-6)


def test_steps_are_those_of_the_public_function() -> None:
    cell = Cell("forget", 10, 1)
    settings = replace(SETTINGS, max_measured=len(data().parts["test_forget"]), measured_every=1)
    for name in ("original", "oracle"):
        generator = seeded_generator(0, "relearning", cell.name, 0)
        few = chosen(cell, data(), generator)
        assert few is not None
        answers = readings(ORIGINAL).answers("test_forget")
        recall = (answers.served.argmax(1) == answers.labels).double().mean().item()
        public = relearn(
            model(name),
            few,
            target_accuracy=0.9 * recall,
            generator=generator,
            settings=RelearnSettings(learning_rate=6e-3, batch_size=32, max_steps=120),
            measured=data().parts["test_forget"],
        )
        (found,) = outcomes(readings(name), readings(ORIGINAL), cell, seed=0, settings=settings)
        assert (found.steps[-1], found.reached[-1], found.recall) == (public.steps, public.reached, public.accuracy)


def test_a_row_or_a_mask_changes_no_step_and_an_oracle_needs_more() -> None:
    cell = Cell("forget", None, 2)
    settings = replace(GridSettings(), measured_every=1)
    untouched, masked, overwritten, deleted, oracle, second = (
        outcomes(readings(name), readings(ORIGINAL), cell, seed=0, settings=settings)
        for name in ("original", "mask-output", "overwritten", "delete", "oracle", "second-oracle")
    )
    assert untouched == masked == overwritten
    for mine, of_method, *never in zip(untouched, deleted, oracle, second, strict=True):
        assert mine.steps[-1] < sum(outcome.steps[-1] for outcome in never) / 2
        assert mine.steps[-1] < of_method.steps[-1]
    assert len({outcome.retain_accuracy for outcome in oracle}) == 2  # draws differ


def test_retained_samples_alone_bring_back_what_a_mask_hid() -> None:
    cell = Cell("retain", None, 1)
    masked, overwritten, oracle = (
        outcomes(readings(name), readings(ORIGINAL), cell, seed=0, settings=SETTINGS)[0]
        for name in ("mask-output", "overwritten", "oracle")
    )
    assert masked.steps == (0, 0) and masked.recall > 0.5
    for outcome in (overwritten, oracle):
        assert outcome.reached == (False, False) and outcome.steps == (12, 12) and outcome.recall == 0
        assert outcome.retain_accuracy > 0.9 and outcome.false_recall == 0


def test_the_samples_of_a_draw_are_balanced() -> None:
    def labels(cell: Cell, seed: int = 0) -> list[int]:
        samples = chosen(cell, data(), torch.Generator().manual_seed(seed))
        assert samples is not None
        return torch.bincount(samples.labels, minlength=10).tolist()

    fewest = min(labels(Cell("retain", None))[label] for label in OTHERS)
    whole = len(data().parts["forget"])
    assert labels(Cell("forget", 7))[FORGOTTEN] == 7 and sum(labels(Cell("forget", 7))) == 7
    assert labels(Cell("forget", None))[FORGOTTEN] == whole
    assert labels(Cell("mixed", 4)) == [4] * 10
    assert labels(Cell("retain", 4)) == [0 if label == FORGOTTEN else 4 for label in range(10)]
    assert labels(Cell("mixed", None)) == [min(fewest, whole)] * 10
    ids = [chosen(Cell("mixed", 4), data(), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    first, same, other = (part.ids if part is not None else () for part in ids)
    assert first == same != other and len(set(first)) == 40
    assert chosen(Cell("forget", whole + 1), data(), torch.Generator()) is None
    assert outcomes(readings("oracle"), readings(ORIGINAL), Cell("mixed", fewest + 1), seed=0, settings=SETTINGS) == ()


def test_passes_are_those_of_training_and_measuring() -> None:
    fresh = Readings(model("oracle"), data())
    outcomes(fresh, readings(ORIGINAL), Cell("retain", None, 1), seed=0, settings=SETTINGS)
    # Ten measurements of D_ft (before the first step, after eight and the last) and one more of both parts at the end.
    assert fresh.passes.backward == 12 * 32
    assert fresh.passes.forward == 12 * 32 + 10 * 30 + 30 + 100


def test_half_precision_gives_nearly_the_same() -> None:
    cell = Cell("forget", None, 1)
    exact, half = (
        outcomes(readings("oracle"), readings(ORIGINAL), cell, seed=0, settings=replace(SETTINGS, half_precision=on))[0]
        for on in (False, True)
    )
    assert abs(exact.steps[-1] - half.steps[-1]) <= 4


def test_what_has_no_aim_is_refused() -> None:
    masked = readings("mask-output")
    with pytest.raises(InvalidDataError, match="the model before the request recognises none of the 30 test samples"):
        outcomes(readings("oracle"), masked, Cell("forget", 10), seed=0, settings=SETTINGS)
    none: TensorSet = data().parts["test_forget"].of_classes([])  # type: ignore[assignment]
    without = replace(data(), parts={**data().parts, "test_forget": none})
    with pytest.raises(EmptySetError, match="relearning: part 'test_forget' has no sample"):
        outcomes(
            Readings(model("oracle"), without),
            Readings(model(ORIGINAL), without),
            Cell("forget", 10),
            seed=0,
            settings=SETTINGS,
        )


def test_a_draw_that_diverges_has_reached_nothing(caplog: pytest.LogCaptureFixture) -> None:
    settings = replace(SETTINGS, learning_rate=1e30)
    (found,) = outcomes(readings("oracle"), readings(ORIGINAL), Cell("forget", 10, 1), seed=0, settings=settings)
    assert found == Outcome((120, 120), (False, False), None, None, None, None)
    assert "draw 0 of relearn_10_forget has no figure where it stopped" in caplog.text
