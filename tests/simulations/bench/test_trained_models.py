"""Models made in parallel and kept: the same bytes for any number of processes, and each made once."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file
from torch import nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sources import load_source
from fed_unlearn.errors import InvalidModelError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.locks import LockedError, exclusive
from fed_unlearn.methods.delete import Delete
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.simulations.bench import model_jobs
from fed_unlearn.simulations.bench.model_jobs import Made, Material, ModelJob, Network, TrainingJob, UnlearningJob
from fed_unlearn.simulations.bench.trained_models import TrainedModels, read_model_file
from fed_unlearn.simulations.engines.errors import RunFailedError
from fed_unlearn.training import TrainingSettings, train_locally

NETWORK = Network(name="small-cnn", class_count=10, image_shape=(1, 8, 8), parameters={"width": 4})


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return load_source("digits").train.subset(torch.arange(96))


def job(seed: int = 0, count: int = 64, epochs: int = 1) -> TrainingJob:
    return TrainingJob(
        network=NETWORK,
        positions=torch.arange(count),
        training=TrainingSettings(local_epochs=epochs),
        weights_seed=seed,
        order_seed=100 + seed,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Ending(ModelJob):
    """A job whose process ends, or that fails."""

    is_error: bool = False

    def make(self, material: Material, find: Callable[[ModelJob], nn.Module]) -> Made:
        if self.is_error:
            raise UnlearningDivergedError("the loss is nan")
        os._exit(7)


@dataclass(frozen=True, kw_only=True, eq=False)
class Halved(ModelJob):
    """The model of another job with its weights halved."""

    parent: TrainingJob

    def make(self, material: Material, find: Callable[[ModelJob], nn.Module]) -> Made:
        model = find(self.parent)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        return Made(model=model, passes=PassCounter(), converged=True)


@pytest.mark.slow
def test_processes_make_the_model_that_training_here_makes(tmp_path: Path, train: ImageSet) -> None:
    jobs = [job(0), job(1, count=40), job(0)]
    parallel = TrainedModels(folder=tmp_path / "two", material=Material(train=train), workers=2)
    alone = TrainedModels(folder=tmp_path / "one", material=Material(train=train), workers=1)
    files, others = parallel.make(jobs), alone.make(jobs)
    assert [file.path.name for file in files] == [file.path.name for file in others]
    assert files[0].path == files[2].path != files[1].path
    assert [file.is_new for file in files] == [True, True, True]
    for first, second in zip(files, others, strict=True):
        left, right = load_file(first.path), load_file(second.path)
        assert all(torch.equal(left[name], right[name]) for name in left) and left.keys() == right.keys()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = NETWORK.build(1)
    passes = train_locally(
        model, train.subset(torch.arange(40)), TrainingSettings(), torch.Generator().manual_seed(101)
    )
    torch.set_num_threads(threads)
    kept = parallel.load(jobs[1]).state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert (files[1].forward_passes, files[1].backward_passes) == (passes.forward, passes.backward) == (40, 40)
    assert files[1].steps == 2 and files[1].converged is None


def test_what_was_made_is_found_and_what_is_damaged_is_made_again_and_said(tmp_path: Path, train: ImageSet) -> None:
    said: list[str] = []
    models = TrainedModels(folder=tmp_path, material=Material(train=train), workers=1, on_progress=said.append)
    first, second, third = models.make([job(0), job(1), job(2)])
    before = {file.path: load(file.path.read_bytes()) for file in (first, second, third)}
    content = bytearray(first.path.read_bytes())
    content[-1] ^= 1  # one bit of one weight
    first.path.write_bytes(content)
    second.path.write_bytes(b"cut off")
    said.clear()
    again = models.make([job(0), job(1), job(2)])
    assert [file.is_new for file in again] == [True, True, False]
    assert said == [
        f"{first.path}: its bytes do not match the digest in its header; the model is made again",
        next(text for text in said if text.startswith(f"{second.path}: not a file of a model that was made here")),
        f"models: 1 of 3 are in {tmp_path}",
        "models: 2 of 3 made",
        "models: 3 of 3 made",
    ]
    for path, state in before.items():
        assert all(torch.equal(load_file(path)[name], tensor) for name, tensor in state.items())
    assert again[2].seconds == third.seconds


def test_the_name_of_a_file_is_of_everything_that_determines_the_model(tmp_path: Path, train: ImageSet) -> None:
    models = TrainedModels(folder=tmp_path, material=Material(train=train))
    other = job()
    changed = [
        dataclasses.replace(other, positions=torch.arange(1, 65)),
        dataclasses.replace(other, weights_seed=5),
        dataclasses.replace(other, order_seed=5),
        dataclasses.replace(other, training=TrainingSettings(learning_rate=0.01)),
        dataclasses.replace(other, network=dataclasses.replace(NETWORK, parameters={"width": 8})),
        Halved(network=NETWORK, parent=other),
        Halved(network=NETWORK, parent=job(3)),
    ]
    assert len({models.path_of(one) for one in (other, *changed)}) == len(changed) + 1
    assert models.path_of(job()) == models.path_of(other)
    relabelled = train.relabelled(train.labels.flip(0))
    for material in (Material(train=relabelled), Material(train=train, unseen=train)):
        assert TrainedModels(folder=tmp_path, material=material).path_of(other) != models.path_of(other)


def test_a_model_that_forgot_is_of_the_version_whose_method_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(kind: type[Delete]) -> str:
        made = UnlearningJob(
            network=NETWORK,
            trained=job(),
            forget=torch.arange(2),
            retain=torch.arange(2, 64),
            method=kind(),
            gives_retain=True,
            repair=None,
            seed=0,
        )
        return made.digest("data", "cpu")

    foreign = type("Delete", (Delete,), {"__module__": "another.package"})
    before, trained = digest(Delete), job().digest("data", "cpu")
    assert digest(foreign) != before, "a method of another package that is called alike"
    monkeypatch.setattr(model_jobs, "installed_versions", lambda: {"fed-unlearn": "another"})
    assert digest(Delete) != before and job().digest("data", "cpu") == trained


def test_a_job_begins_with_the_model_of_another_one(tmp_path: Path, train: ImageSet) -> None:
    models = TrainedModels(folder=tmp_path, material=Material(train=train), workers=1)
    halved = Halved(network=NETWORK, parent=job())
    (file,) = models.make([halved])
    assert file.converged is True
    whole = models.load(job())
    for name, parameter in models.load(halved).named_parameters():
        assert torch.equal(parameter, whole.get_parameter(name) / 2)


def test_models_made_before_a_failure_stay(tmp_path: Path, train: ImageSet) -> None:
    models = TrainedModels(folder=tmp_path, material=Material(train=train), workers=1)
    with pytest.raises(UnlearningDivergedError, match="the loss is nan"):
        models.make([job(0), Ending(network=NETWORK, is_error=True), job(1)])
    assert not read_model_file(models.path_of(job(0))).is_new
    assert not models.path_of(job(1)).exists()
    with pytest.raises(InvalidModelError, match=r"not a file of a model that was made here \(No such file"):
        models.load(job(1))


@pytest.mark.slow
def test_errors_of_processes_arrive(tmp_path: Path, train: ImageSet) -> None:
    models = TrainedModels(folder=tmp_path, material=Material(train=train), workers=2)
    with pytest.raises(UnlearningDivergedError, match="the loss is nan"):
        models.make([job(0), Ending(network=NETWORK, is_error=True)])
    with pytest.raises(RunFailedError, match="a process that made models ended"):
        models.make([job(1), Ending(network=NETWORK)])


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    program = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_trained_models import Material, TrainedModels, job, load_source\n"
        "if __name__ == '__main__':\n"
        "    train = load_source('digits').train\n"
        "    models = TrainedModels(folder=Path(sys.argv[1]), material=Material(train=train), workers=2,"
        " on_progress=lambda text: print(text, flush=True))\n"
        "    models.make([job(seed, epochs=20) for seed in range(2)] + [job(9, epochs=10_000), job(8, epochs=10_000)])\n"
    )
    script = tmp_path / "making.py"
    script.write_text(program)
    folder = tmp_path / "models"
    started = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "models: 1 of 4 made\n"
    assert started.stdout.readline() == "models: 2 of 4 made\n"
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    started.kill()
    started.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    said: list[str] = []
    material = Material(train=load_source("digits").train)
    TrainedModels(folder=folder, material=material, workers=1, on_progress=said.append).make(
        [job(seed, epochs=20) for seed in range(2)]
    )
    assert said == [f"models: 2 of 2 are in {folder}"]


def test_one_process_works_in_a_folder_at_a_time(tmp_path: Path, train: ImageSet) -> None:
    models = TrainedModels(folder=tmp_path, material=Material(train=train), workers=1)
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl; f = open({str(tmp_path / 'models.lock')!r}, 'w');"
         "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(LockedError, match="give another folder"):
            models.make([job()])
    finally:
        holder.communicate("\n")
    with exclusive(tmp_path / "models.lock", "the folder", "wait"):
        assert len(models.make([job()])) == 1


def test_at_least_one_worker_is_expected(tmp_path: Path, train: ImageSet) -> None:
    with pytest.raises(InvalidParameterError, match="workers 0 were given; expected at least 1"):
        TrainedModels(folder=tmp_path, material=Material(train=train), workers=0)
