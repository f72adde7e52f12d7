"""Heads are found by what a call does; the layer that each model names as its head is the right answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from trained_digits import FORGOTTEN, Digits, accuracy

from fed_unlearn.data.images import concatenate
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods import boundary_expanding, create
from fed_unlearn.methods.boundary_expanding import BoundaryExpanding
from fed_unlearn.methods.parts.batches import trained_parameters
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.training import TrainingSettings, train_locally

WIDTH, CLASSES = 24, 10


class Headed(nn.Module):
    """A body and a head, with other parts that a test gives, and a way from the body's features to the logits."""

    def __init__(self, head: nn.Module, way: Callable[[Headed, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            if name.startswith("before"):
                self.add_module(name, part)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU())
        self.head = head
        for name, part in parts.items():
            if not name.startswith("before"):
                self.add_module(name, part)
        self.way = way

    def forward(self, images: Tensor) -> Tensor:
        return self.way(self, self.body(images))


class Cosine(nn.Linear):
    """A linear layer that normalises its inputs and weights."""

    def forward(self, values: Tensor) -> Tensor:
        return 10 * functional.linear(functional.normalize(values), functional.normalize(self.weight))


def linear(bias: bool = True) -> nn.Linear:
    return nn.Linear(WIDTH, CLASSES, bias=bias)


def ends_in_the_head(model: Headed, features: Tensor) -> Tensor:
    return model.head(features)  # type: ignore[no-any-return]


def plain() -> Headed:
    return Headed(linear(), ends_in_the_head)


def with_projectors() -> Headed:
    """Two projectors as wide as the classes, before and after the head, that training alone would use."""

    def way(model: Headed, features: Tensor) -> Tensor:
        model.after(features)
        return model.head(features)  # type: ignore[no-any-return]

    return Headed(linear(), way, before=linear(), after=linear())


def sequential_head() -> Headed:
    return Headed(nn.Sequential(nn.Linear(WIDTH, CLASSES), nn.ReLU(), nn.Linear(CLASSES, CLASSES)), ends_in_the_head)


def old_weight_norm() -> Headed:
    with pytest.warns(FutureWarning):
        return Headed(nn.utils.weight_norm(linear()), ends_in_the_head)


def tied() -> Headed:
    """The head's weight is that of another layer, too, which the body goes through."""

    def way(model: Headed, features: Tensor) -> Tensor:
        back = functional.relu(model.another(features)) @ model.another.weight
        return model.head(features + back)  # type: ignore[no-any-return]

    model = Headed(linear(), way, another=linear(bias=False))
    model.another.weight = model.head.weight
    return model


MODELS: dict[str, tuple[Callable[[], Headed], str]] = {
    "plain": (plain, "head"),
    "no bias": (lambda: Headed(linear(bias=False), ends_in_the_head), "head"),
    "projectors": (with_projectors, "head"),
    "sequential": (sequential_head, "head.2"),
    "weight_norm": (
        lambda: Headed(nn.utils.parametrizations.weight_norm(linear()), ends_in_the_head),
        "head",
    ),
    "spectral_norm": (lambda: Headed(nn.utils.parametrizations.spectral_norm(linear()), ends_in_the_head), "head"),
    "orthogonal": (lambda: Headed(nn.utils.parametrizations.orthogonal(linear()), ends_in_the_head), "head"),
    "old weight_norm": (old_weight_norm, "head"),
    "old spectral_norm": (lambda: Headed(nn.utils.spectral_norm(linear()), ends_in_the_head), "head"),
    "tied": (tied, "head"),
    "cosine": (lambda: Headed(Cosine(WIDTH, CLASSES, bias=False), ends_in_the_head), "head"),
    "scaled": (lambda: Headed(linear(), lambda model, features: 3 * model.head(features)), "head"),
    "log-softmax": (
        lambda: Headed(linear(), lambda model, features: model.head(features).log_softmax(dim=1)),
        "head",
    ),
    "masked in place": (
        lambda: Headed(linear(), lambda model, features: model.head(features).masked_fill_(MASK, -1e3)),
        "head",
    ),
    "bfloat16": (lambda: Headed(linear(), lambda model, features: model.head(features).float()).bfloat16(), "head"),
    "convolution": (
        lambda: Headed(
            nn.Conv2d(WIDTH, CLASSES, 1), lambda model, features: model.head(features[..., None, None]).flatten(1)
        ),
        "head",
    ),
}
MASK = torch.arange(CLASSES) == 0
every_model = pytest.mark.parametrize("kind", MODELS)


def built(kind: str) -> Headed:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS[kind][0]().eval()


@every_model
def test_the_layer_that_gives_the_logits_is_found(digits: Digits, kind: str) -> None:
    model = built(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    head = find_head("test", model, digits.forget)
    assert head.name == MODELS[kind][1] and head.layer is model.get_submodule(head.name)
    assert head.is_last == (kind not in ("scaled", "log-softmax", "masked in place", "bfloat16"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


# Outputs of a cosine head are bounded and its shadow's are not: the shadow wins before the old class has fallen.
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "cosine"])
def test_boundary_expanding_forgets_whatever_the_head_is_made_of(digits: Digits, kind: str) -> None:
    model = built(kind)
    samples = concatenate(digits.forget, digits.retain.of_classes(range(1, CLASSES)))  # the masked class has no sample
    settings = TrainingSettings(local_epochs=4, learning_rate=0.2 if kind == "orthogonal" else 0.05)
    train_locally(model, samples, settings, torch.Generator().manual_seed(0))
    model.eval()
    known = accuracy(model, digits.forget)
    assert known > 0.8
    outcome = BoundaryExpanding(learning_rate=1e-2, epochs=60, trained_layers=0).unlearn(model, digits.forget)
    assert outcome.converged and accuracy(outcome.model, digits.forget) <= 0.03
    assert accuracy(model, digits.forget) == known
    assert outcome.model.state_dict().keys() == model.state_dict().keys()
    assert not any(module._forward_hooks for module in outcome.model.modules())


def test_a_shadow_beside_the_model_learns_what_a_shadow_inside_the_head_learns(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built("plain")
    train_locally(
        model, concatenate(digits.forget, digits.retain), TrainingSettings(), torch.Generator().manual_seed(0)
    )
    for way in (ends_in_the_head, lambda model, features: model.head(features).log_softmax(dim=1)):
        model.way = way
        method = BoundaryExpanding(learning_rate=1e-2, max_steps=12, target_accuracy=0)
        beside = method.unlearn(model, digits.forget) if way is not ends_in_the_head else None
        if beside is None:
            inside = method.unlearn(model, digits.forget)
            with monkeypatch.context() as patch:
                patch.setattr(boundary_expanding, "_plain_layer", lambda model, head: None)
                beside = method.unlearn(model, digits.forget)
        assert beside.steps == inside.steps == 12
        for name, value in inside.model.state_dict().items():
            torch.testing.assert_close(beside.model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "projectors", "sequential", "weight_norm", "old spectral_norm", "scaled"])
def test_mask_output_changes_one_number_of_the_right_layer(digits: Digits, kind: str) -> None:
    model = built(kind)
    changed = create("mask-output").unlearn(model, digits.forget).model.state_dict()
    before = model.state_dict()
    different = [name for name, value in changed.items() if not torch.equal(value, before[name])]
    assert different == [f"{MODELS[kind][1]}.bias"]
    assert changed[different[0]].eq(before[different[0]]).tolist() == [label != FORGOTTEN for label in range(CLASSES)]


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "two heads": (
        lambda: Headed(linear(), lambda model, features: model.head(features) + model.other(features), other=linear()),
        "layers head, other of Headed put out the logits together, .* name it with 'head'",
    ),
    "mixed further": (
        lambda: Headed(linear(), lambda model, features: model.head(features) @ torch.randn(CLASSES, CLASSES)),
        "mixes the outputs of layer 'head' further, so that they are not its logits",
    ),
    "a function's weights": (
        lambda: Headed(nn.Identity(), lambda model, features: features @ torch.randn(WIDTH, CLASSES)),
        r"layer 'body.1' has 24 outputs and the model 10",
    ),
    "detached": (
        lambda: Headed(linear(), lambda model, features: model.head(features).detach()),
        "no gradient leads from the logits of Headed to a linear layer .* one of body.1, head",
    ),
    "no linear layer": (lambda: nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()), r"goes through no nn\.Linear"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_models_without_one_head_are_refused_in_a_line(digits: Digits, kind: str) -> None:
    make, reason = REFUSED[kind]
    for method in ("boundary-expanding", "mask-output"):
        with pytest.raises(InvalidModelError, match=f"^{method}: .*{reason}") as raised:
            create(method).unlearn(make(), digits.forget)
        assert "\n" not in str(raised.value)


def test_a_growing_head_of_avalanche_is_served(digits: Digits) -> None:
    from avalanche.models import IncrementalClassifier

    model = Headed(IncrementalClassifier(WIDTH, initial_out_features=CLASSES, masking=False), ends_in_the_head)
    train_locally(
        model,
        concatenate(digits.forget, digits.retain),
        TrainingSettings(local_epochs=4),
        torch.Generator().manual_seed(0),
    )
    assert find_head("test", model, digits.forget).name == "head.classifier"
    assert accuracy(model, digits.forget) > 0.8
    for method in (BoundaryExpanding(learning_rate=1e-2, epochs=60, trained_layers=0), create("mask-output")):
        assert accuracy(method.unlearn(model, digits.forget).model, digits.forget) <= 0.03


def test_a_name_chooses_among_several_heads_and_stands_for_the_inner_model(digits: Digits) -> None:
    two = REFUSED["two heads"][0]()
    assert find_head("test", two, digits.forget, "other").layer is two.get_submodule("other")
    wrapped = nn.DataParallel(plain())
    for name in (None, "head", "module.head"):
        assert find_head("test", wrapped, digits.forget, name).layer is wrapped.module.head
    outcome = BoundaryExpanding(epochs=1, stop_per_sample=False).unlearn(wrapped, digits.forget)
    assert isinstance(outcome.model, nn.DataParallel)
    assert outcome.model.state_dict().keys() == wrapped.state_dict().keys()
    assert not torch.equal(outcome.model.module.head.weight, wrapped.module.head.weight)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("plain", ["head.weight", "head.bias"]),
        ("projectors", ["head.weight", "head.bias", "after.weight", "after.bias"]),
        (
            "weight_norm",
            ["head.bias", "head.parametrizations.weight.original0", "head.parametrizations.weight.original1"],
        ),
        ("old weight_norm", ["head.bias", "head.weight_g", "head.weight_v"]),
    ],
)
def test_the_last_layer_is_one_that_the_logits_depend_on(digits: Digits, kind: str, expected: list[str]) -> None:
    model = built(kind)
    with trained_parameters("test", model, 1, digits.forget) as parameters:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        assert [names[id(parameter)] for parameter in parameters] == expected


@pytest.mark.parametrize("name", ["boundary-shrink", "scrub", "saliency", "bad-teacher"])
def test_a_model_that_no_gradient_leads_through_is_refused_in_a_line(digits: Digits, name: str) -> None:
    model = Headed(linear(), lambda model, features: model.head(features).detach())
    with pytest.raises(InvalidModelError, match=f"{name}: no gradient leads from the logits of Headed"):
        create(name).unlearn(model, digits.forget, digits.retain)
    branching = Headed(linear(), lambda model, features: model.head(features) * (1 if features.sum() > 0 else 2))
    with pytest.raises(InvalidModelError, match="cannot map the model over single samples"):
        create("selective-dampening").unlearn(branching, digits.forget, digits.retain)
