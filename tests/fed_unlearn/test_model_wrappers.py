"""Wrapped models are the model inside, for methods, audits, checkpoints and messages."""

from __future__ import annotations

import copy
from pathlib import Path

import odd_models
import pytest
import torch
from method_cases import quick
from torch import Tensor, nn

from fed_unlearn.audits.relearning import RelearnSettings, relearn
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.model_copies import copied
from fed_unlearn.model_wrappers import unwrapped
from fed_unlearn.models import load_checkpoint, save_checkpoint
from fed_unlearn.shapes import misfit, shapes_of
from fed_unlearn.wrapped_names import bare_name, differ_by_wrappers, renamed

SHAPE = (1, 8, 8)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return odd_models.network(10, SHAPE)


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


class Partly(nn.Module):
    """Compiled in its middle."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.block = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.block(images)  # type: ignore[no-any-return]


SAMPLES = ImageSet(torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 10)
WRAPPED = {
    "parallel": lambda model: nn.DataParallel(model),
    "compiled": compiled,
    "both": lambda model: nn.DataParallel(compiled(model)),
    "twice": lambda model: nn.DataParallel(nn.DataParallel(model)),
}
every_wrapper = pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)


@every_wrapper
def test_methods_and_audits_give_what_they_give_without_the_wrapper(wrap: object) -> None:
    inner = network()
    wrapper = wrap(inner)  # type: ignore[operator]
    assert unwrapped(wrapper) is inner and unwrapped(inner) is inner
    forget, retain = SAMPLES.of_classes({3}), SAMPLES.of_classes({1, 2})
    for name in ("boundary-expanding", "scrub", "selective-dampening"):
        outcome, expected = (quick(name).unlearn(model, forget, retain) for model in (wrapper, network()))
        assert type(outcome.model) is type(wrapper)
        assert list(outcome.model.state_dict()) == list(wrapper.state_dict())
        for key, value in expected.model.state_dict().items():
            assert torch.equal(unwrapped(outcome.model).state_dict()[key], value)
    steps = [
        relearn(
            model,
            forget,
            target_accuracy=1.0,
            generator=torch.Generator().manual_seed(0),
            settings=RelearnSettings(max_steps=200, learning_rate=0.1),
        ).steps
        for model in (wrapper, network())
    ]
    assert steps[0] == steps[1] > 0


@every_wrapper
def test_checkpoints_load_whatever_wraps_the_model_then_and_now(wrap: object, tmp_path: Path) -> None:
    wrapper = wrap(network())  # type: ignore[operator]
    save_checkpoint(wrapper, tmp_path / "wrapped.safetensors")
    plain = odd_models.network(10, SHAPE)
    load_checkpoint(plain, tmp_path / "wrapped.safetensors")
    save_checkpoint(plain, tmp_path / "plain.safetensors")
    again = wrap(odd_models.network(10, SHAPE))  # type: ignore[operator]
    load_checkpoint(again, tmp_path / "plain.safetensors")
    for name, value in network().state_dict().items():
        assert torch.equal(plain.state_dict()[name], value)
        assert torch.equal(unwrapped(again).state_dict()[name], value)
    with pytest.raises(InvalidModelError, match="the checkpoint is of another model"):
        load_checkpoint(nn.DataParallel(nn.Linear(3, 2)), tmp_path / "wrapped.safetensors")


def test_names_are_compared_without_wrappers_and_nothing_else_is_dropped() -> None:
    partly = Partly(compiled(network()))
    assert [bare_name(name) for name in partly.state_dict()] == list(Partly(network()).state_dict())
    assert bare_name("module._orig_mod.module.0.weight") == "0.weight"
    assert bare_name("encoder.module.weight") == "encoder.module.weight" and bare_name("module") == "module"
    assert renamed({"module.b": 1, "module.a": 2}, ["a", "b"]) == {"a": 2, "b": 1}
    for given in ({"a": 1}, {"module.a": 1, "a": 2}, {"module.a": 1, "c": 2}):
        assert renamed(given, ["a", "b"]) == given and not differ_by_wrappers(given, ["a", "b"])
    assert not differ_by_wrappers(["a"], ["a"])


def test_clients_and_servers_that_differ_by_a_wrapper_are_told_so() -> None:
    model = network()
    shapes = [shapes_of(each.state_dict()) for each in (nn.DataParallel(model), model)]
    told = misfit(*shapes)
    assert told is not None and "'module.1.bias' in place of '1.bias' and differs by the prefix of a wrapper" in told
    assert misfit(shapes[0], shapes[0]) is None


class Remembering(nn.Linear):
    """Keeps what it gave last, with its graph."""

    def forward(self, values: Tensor) -> Tensor:
        self.last = super().forward(values)
        return self.last


def test_models_that_keep_tensors_of_a_pass_are_copied_and_the_copy_is_a_model_of_its_own() -> None:
    with pytest.warns(FutureWarning):
        normed = nn.utils.weight_norm(nn.Linear(4, 2))
    for model in (nn.Sequential(Remembering(4, 3)), nn.Sequential(normed), nn.utils.spectral_norm(nn.Linear(4, 2))):
        values = torch.rand(5, 4)
        before = model(values)
        with pytest.raises(RuntimeError, match="deepcopy"):
            copy.deepcopy(model)
        twin = copied(model)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        torch.testing.assert_close(model.eval()(values), before, rtol=1e-3, atol=1e-3)


def test_a_model_that_cannot_be_copied_is_refused_in_a_line() -> None:
    model = network()
    model.loader = (item for item in range(3))  # type: ignore[assignment]
    with pytest.raises(InvalidModelError, match=r"Sequential cannot be copied \(cannot pickle 'generator' object\)"):
        quick("scrub").unlearn(model, SAMPLES, SAMPLES)
