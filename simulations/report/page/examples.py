"""Some test images of forgotten classes, and what the models before and after a request call them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.report.page.reading import Reading, name_text
from fed_unlearn.simulations.report.page.tables import Named, named_requests
from fed_unlearn.simulations.run.folders import SCENARIO_FILE
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.text import printable

if TYPE_CHECKING:
    import torch

    from fed_unlearn.data.sources import ImageSource
    from fed_unlearn.simulations.scenario import Scenario

_SIMULATIONS = ("inprocess", "ray")
_OF_CLASS, _CLASSES = 6, 3
"""Images of a class, and classes of a request, that are shown."""

_NO_SIMULATION = "Images are shown of simulations alone: this run's data belongs to others."
_NONE_FORGOTTEN = "No request names a whole class, so there are no test images of what was forgotten."


@dataclass(frozen=True, kw_only=True)
class Example:
    """One test image.

    Attributes
    ----------
    source : str
        The image as a data URI.
    label : str
        The name of its class.
    called : list of (str, Markup)
        What a model calls it, by the model.
    """

    source: str
    label: str
    called: list[tuple[str, Markup]]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Test images by request, or the reason why there are none."""

    groups: list[tuple[Named, list[Example]]] = field(default_factory=list)
    problem: str = ""


def examples_of(results: RunResults, reading: Reading, folder: Path) -> Examples:
    """Some test images of the classes that requests forget; never a training sample.

    Parameters
    ----------
    results : RunResults
    reading : Reading
        The same results, for names of requests.
    folder : Path
        The run folder. Its scenario says what the data is.
    """
    if results.engine not in _SIMULATIONS:
        return Examples(problem=_NO_SIMULATION)
    asked = [item for item in named_requests(reading) if results.requests[item.index].scope == "class"]
    if not asked:
        return Examples(problem=_NONE_FORGOTTEN)
    from fed_unlearn.simulations.scenario import load_scenario
    from fed_unlearn.simulations.task import source_of

    try:
        scenario = load_scenario(str(folder / SCENARIO_FILE))
        source = source_of(scenario.data)
    except (FedUnlearnError, OSError) as error:
        return Examples(problem=f"The data of the run cannot be read: {printable(str(error))}")
    return Examples(groups=[(item, _of_request(results, item.index, scenario, source, folder)) for item in asked])


def _of_request(
    results: RunResults, index: int, scenario: Scenario, source: ImageSource, folder: Path
) -> list[Example]:
    import torch

    request, names = results.requests[index], source.classes
    classes = request.target.get("classes")
    wanted = [int(item) for item in classes][:_CLASSES] if isinstance(classes, Sequence) else []
    of_classes = [(source.test.labels == item).nonzero().flatten()[:_OF_CLASS] for item in wanted]
    images, labels = source.test.batch(torch.cat([torch.empty(0, dtype=torch.int64), *of_classes]))
    digests = {"before": request.model_before, "after": request.model_after}
    called = {
        model: found
        for model, digest in digests.items()
        if digest is not None and (found := _called(digest, images, scenario, source, folder)) is not None
    }
    return [
        Example(
            source=_as_png(image),
            label=_label(names.names, int(label)),
            called=[(model, name_text(_label(names.names, found[place]))) for model, found in called.items()],
        )
        for place, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def _called(
    digest: str, images: torch.Tensor, scenario: Scenario, source: ImageSource, folder: Path
) -> list[int] | None:
    """The classes that a kept model calls images by; None where the model is kept no longer."""
    import torch

    from fed_unlearn.checkpoints import CheckpointStore
    from fed_unlearn.simulations.task import new_model

    if not (folder / "checkpoints").is_dir():
        return None
    with suppress(FedUnlearnError, RuntimeError):  # purged, or of another architecture
        arrays = CheckpointStore(folder / "checkpoints").load(digest)
        model = new_model(scenario, source)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        model.eval()
        with torch.no_grad():
            return [int(item) for item in model(images).argmax(dim=1)]
    return None


def _label(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def _as_png(image: torch.Tensor) -> str:
    """A float image (channels, height, width) in [0, 1] as a data URI."""
    from PIL import Image

    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    drawn = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3])
    content = io.BytesIO()
    drawn.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
