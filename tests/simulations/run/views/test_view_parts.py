"""What views are made of: the images, what a model says of them, the plane, and the files."""

from __future__ import annotations

import stat
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.run.views.chosen_images import MOST_COUNTED, MOST_OTHERS, choose
from fed_unlearn.simulations.run.views.kept_views import KeptView, ViewFolder
from fed_unlearn.simulations.run.views.looks import look_at
from fed_unlearn.simulations.run.views.projection import Projection
from fed_unlearn.simulations.run.views.request_stand import RequestStand
from fed_unlearn.simulations.run.views.view_results import DestinationView, ProjectionView, RequestViews


def images_of(labels: list[int]) -> ImageSet:
    """Images whose pixels are their places."""
    places = torch.arange(len(labels)) / max(1, len(labels))
    return ImageSet(places[:, None, None, None].expand(-1, 1, 2, 2).clone(), torch.tensor(labels))


def test_images_are_drawn_by_class_and_counted_ones_are_all_of_the_forgotten_class() -> None:
    test = images_of([number % 10 for number in range(500)])
    chosen = choose(test, (3,), [label for label in range(9) if label != 3], seed=1, request_id="r1")
    assert chosen.images.labels[chosen.counted].tolist() == [3] * 50
    classes, numbers = np.unique(chosen.shown_classes, return_counts=True)
    assert classes.tolist() == list(range(9)) and numbers.tolist() == [12, 12, 12, 30, 12, 12, 12, 12, 12]
    shown = [chosen.images.ids[place] for place in chosen.shown.tolist()]
    assert len(set(shown)) == len(shown) and len(set(chosen.images.ids)) == len(chosen.images)
    again = choose(test, (3,), [label for label in range(9) if label != 3], seed=1, request_id="r1")
    assert [again.images.ids[place] for place in again.shown.tolist()] == shown
    other = choose(test, (3,), [4], seed=1, request_id="r2")
    kept = set(shown) & {test.ids[place] for place in range(3, 500, 10)}
    assert {other.images.ids[place] for place in other.shown.tolist()} & kept != kept
    fewer = choose(test, (3,), [4], seed=1, request_id="r1")
    assert {fewer.images.ids[place] for place in fewer.shown.tolist()} < set(shown), "a class is drawn by itself"


def test_few_images_are_read_of_many_and_classes_without_images_are_none() -> None:
    test = images_of([0, 1] * 1500 + list(range(2, 802)))
    chosen = choose(test, (0, 1), range(2, 802), seed=0, request_id="r")
    assert len(chosen.counted) == MOST_COUNTED == len(set(chosen.counted.tolist()))
    labels = chosen.shown_classes
    assert (labels.count(0), labels.count(1)) == (30, 30) and len(labels) == 60 + MOST_OTHERS
    empty = choose(images_of([0, 1]), (7,), (0,), seed=0, request_id="r")
    assert (len(empty.counted), empty.shown_classes) == (0, (0,))


class WithoutHead(nn.Module):
    """A matrix that no layer holds gives the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).sub(0.4) @ self.matrix


def test_a_model_whose_features_cannot_be_read_is_asked_for_classes_alone(caplog: pytest.LogCaptureFixture) -> None:
    model, images = WithoutHead(), images_of([0, 1, 2, 0])
    with caplog.at_level("INFO", logger="fed_unlearn.simulations"):
        look = look_at(model, images, "request r1, model before")
    assert look.features is None and "request r1, model before: no projection of its features" in caplog.text
    expected = model(images.images).argmax(1).tolist()
    assert look.called.tolist() == expected and look.counts(np.arange(4)) == tuple(np.bincount(expected, minlength=3))


def test_features_that_are_no_numbers_are_not_projected() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    look = look_at(model, images_of([0, 1, 2]), "before")
    assert look.features is not None and look.features == pytest.approx(images_of([0, 1, 2]).images.flatten(1).numpy())
    broken = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 3))
    nn.init.constant_(broken[1].bias, float("nan"))
    assert look_at(broken, images_of([0, 1, 2]), "after").features is None


def test_the_plane_is_that_of_scikit_learn_and_is_read_back_bit_for_bit() -> None:
    features = np.random.default_rng(0).normal(size=(40, 7)) * np.arange(1, 8)
    plane = Projection.fitted(features)
    assert plane is not None
    fitted = PCA(2, svd_solver="full").fit(features)
    others = features * 1.5 - 1
    assert plane.points(features) == tuple(map(tuple, fitted.transform(features).round(4).tolist()))
    assert np.array(plane.points(others)) == pytest.approx(fitted.transform(others), abs=5.1e-5)
    assert plane.explained == pytest.approx(fitted.explained_variance_ratio_.sum(), abs=1e-4)
    read = Projection.from_json(plane.to_json())
    assert read.points(others) == plane.points(others) and read.explained == plane.explained
    assert plane.points(None) is plane.points(features[:, :3]) is None


@pytest.mark.parametrize("features", [np.ones((5, 3)), np.ones((1, 3)), np.arange(4.0)[:, None]])
def test_without_two_dimensions_there_is_no_plane(features: np.ndarray) -> None:
    assert Projection.fitted(features) is None


KEPT = KeptView(
    series=1,
    classes=(3,),
    others=(0, 1),
    views=RequestViews(
        destinations=DestinationView(labels=("a", "b"), before=(1, 0), after=(0, 1)),
        projection=ProjectionView(classes=(0, 1), labels=("a", "b"), explained=0.5, before=((0.5, 1.0), (0.0, -1.0))),
    ),
    projection=Projection(np.array([0.1, 0.2, 0.3]), np.eye(2, 3), 0.5),
    is_whole=True,
)


@pytest.mark.parametrize("name", ["r1", "R1", "../../up", "a" * 300, "é / ü", "."])
def test_views_are_private_files_below_their_folder_whatever_the_id(tmp_path: Path, name: str) -> None:
    folder = ViewFolder(tmp_path / "run" / "views")
    assert folder.read(name) is None and not folder.folder.exists()
    folder.write(name, KEPT)
    [path] = folder.folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(folder.folder.stat().st_mode) == 0o700
    read = ViewFolder(folder.folder).read(name)
    assert read is not None and read.projection is not None and KEPT.projection is not None
    assert (read.views, read.series, read.classes, read.others, read.is_whole) == (KEPT.views, 1, (3,), (0, 1), True)
    assert read.projection.mean.tolist() == [0.1, 0.2, 0.3]
    assert [item.name for item in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 2, "request": "r1"}', '{"version": 1, "request": "r2"}']
)
def test_a_file_that_cannot_be_read_gives_no_views_and_a_line_in_the_log(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "r1.json").write_text(content)
    assert ViewFolder(tmp_path).read("r1") is None
    assert "r1.json cannot be read, so request r1 has no views" in caplog.text


def test_where_a_request_stands_follows_the_ledger(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:

        def stand() -> tuple[int, bool, bool, bool]:
            found = RequestStand.of(ledger, "r")
            assert found.classes == (3,)
            return found.series, found.is_begun, found.is_ended, found.serves

        ledger.accept_model("a" * 64, "initial")
        ledger.receive(ForgetRequest.for_class(3, id="r"))
        assert stand()[:3] == (0, False, False)
        ledger.advance("r", Status.UNLEARNING, attempt=1)
        assert stand() == (0, True, False, True)
        ledger.advance("r", Status.ROLLED_BACK, attempt=1)
        ledger.accept_model("b" * 64, "train:1")
        assert stand() == (0, True, False, False), "the model before the first attempt serves no more"
        ledger.advance("r", Status.UNLEARNING, attempt=2)
        ledger.advance("r", Status.AUDITING, attempt=2)
        ledger.advance("r", Status.COMMITTING, attempt=2, facts={"digest": "c" * 64})
        ledger.commit({"r": {}}, "c" * 64, attempts={"r": 2})
        assert stand() == (0, True, True, True)
        ledger.accept_model("d" * 64, "train:2")
        assert stand() == (0, True, True, False)
        ledger.advance("r", Status.REOPENED, attempt=2)
        assert stand()[0] == 0
        ledger.advance("r", Status.UNLEARNING, attempt=3)
        assert stand() == (1, True, False, True)
        ledger.advance("r", Status.ROLLED_BACK, attempt=3)
        ledger.finish("r", Status.FAILED, attempt=3, reason="in vain", outcome={})
        assert stand() == (1, True, True, True)
        ledger.receive(ForgetRequest.for_client("1", id="client"))
        assert RequestStand.of(ledger, "client").classes == ()
