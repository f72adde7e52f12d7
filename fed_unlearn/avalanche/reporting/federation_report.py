"""What a server knows of its aggregated models, told through Avalanche's EvaluationPlugin and loggers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TextIO

import torch
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import TensorboardLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from fed_unlearn.avalanche.metrics import forget_metrics
from fed_unlearn.avalanche.reporting.csv_logger import ScalarCSVLogger
from fed_unlearn.avalanche.reporting.report_files import ReportFiles
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.seeding import isolated_random

TEXT_FILE, CSV_FILE, TENSORBOARD_FOLDER = "text.log", "metrics.csv", "tensorboard"
LOGGERS = ("text", "tensorboard", "csv")

_BATCH = 256


class _Named(NamedTuple):
    id: str


class _Ended(NamedTuple):
    request: _Named
    committed: bool


class _Outcomes(SupervisedPlugin):
    """How requests ended, where the metrics of forgetting look for it."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[_Ended] = []


class FederationReport:
    """Evaluates aggregated models on an Avalanche benchmark and has Avalanche's loggers write down what comes out.

    Accuracy and loss on the test stream by experience and as a whole are Avalanche's own metrics; those of requests
    are :func:`~fed_unlearn.avalanche.metrics.forget_metrics`. The step of every figure is the number of rounds so far.
    Nothing is trained, and no global random state is touched. A folder that an earlier process has written to is gone
    on with: what it had not finished is cut off, what it had is not written again.

    Parameters
    ----------
    benchmark : CLScenario
        With a ``forget_stream``, to which requests may be added as they are served, and a ``test_stream``.
    model : nn.Module
        Of the federation's architecture; its weights are replaced.
    loggers : sequence of str
        Of ``"text"`` (``text.log``), ``"tensorboard"`` (event files in ``tensorboard/``) and ``"csv"``
        (``metrics.csv``), at least one.
    folder : Path
        Where they write; made where it is missing.
    device : torch.device or str
        Where models are evaluated.
    readable : callable, optional
        Whether the training samples of a request, by its id, may be read now; asked before each time. Without them a
        request has no figures but those of test samples. Always, where not given.

    Raises
    ------
    InvalidParameterError
        If a logger is unknown or none is given.
    InvalidDataError
        If the folder holds files of these names that are not those of an earlier report.
    """

    def __init__(
        self,
        benchmark: Any,
        model: nn.Module,
        loggers: Sequence[str],
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        readable: Callable[[str], bool] | None = None,
    ) -> None:
        if not loggers or not set(loggers) <= set(LOGGERS):
            raise InvalidParameterError(f"loggers {list(loggers)} were given; expected some of {', '.join(LOGGERS)}")
        self._benchmark = benchmark
        self._files = ReportFiles(Path(folder), (TEXT_FILE, CSV_FILE, f"{TENSORBOARD_FOLDER}/events.out.*"))
        self._flush: list[Callable[[], None]] = []
        self._close: list[Callable[[], None]] = []
        self._text: tuple[TextIO, Any] | None = None
        self._outcomes = _Outcomes()
        metrics = forget_metrics()
        self._watch = metrics[0].watch
        if readable is not None:
            self._watch.readable = readable
        evaluator = EvaluationPlugin(
            accuracy_metrics(experience=True, stream=True),
            loss_metrics(experience=True, stream=True),
            metrics,
            loggers=[self._new_logger(name, Path(folder)) for name in dict.fromkeys(loggers)],
            collect_all=False,
        )
        self._strategy = Naive(
            model=model.to(device),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
            eval_mb_size=_BATCH,
            device=device,
            plugins=[self._outcomes],
            evaluator=evaluator,
        )
        if self._files.state is not None:
            self._restore(self._files.state)

    def note_training(
        self,
        arrays: Mapping[str, Tensor],
        round_number: int,
        *,
        number: int | None = None,
        arrived: int = 1,
        ended: Mapping[str, bool] | None = None,
    ) -> None:
        """Evaluate the model after ordinary training rounds.

        Parameters
        ----------
        arrays : mapping of str to Tensor
            The model's state.
        round_number : int
            Rounds so far: the step of every figure.
        number : int, optional
            Of the training experience, from 1; the next one where none is given.
        arrived : int
            Experiences of the training stream whose samples have arrived, at least 1.
        ended : mapping of str to bool, optional
            All requests that have been served so far, and whether each was committed. Those that are not of the forget
            stream are passed over.
        """
        self._take_in(ended or {})
        number = self._watch.trained + 1 if number is None else number
        self._watch.trained = number
        self._strategy.clock.train_exp_counter = number - 1
        seen = list(self._benchmark.streams["train"])[:arrived]
        self._watch.arrive(seen)
        self._note(arrays, round_number, f"training {number}", "after_training_exp", seen[-1])

    def note_requests(self, arrays: Mapping[str, Tensor], round_number: int, ended: Mapping[str, bool]) -> None:
        """Evaluate the model after one or several requests were served together.

        Nothing is written where none of them is new.

        Parameters
        ----------
        arrays : mapping of str to Tensor
            The model's state.
        round_number : int
            Rounds so far: the step of every figure.
        ended : mapping of str to bool
            All requests that have been served so far, and whether each was committed. Those that are not of the forget
            stream are passed over.
        """
        new = self._take_in(ended, all_but_last=True)
        if new:
            how = ", ".join(f"{name} {'committed' if ended[name] else 'failed'}" for name in new)
            last = self._requests()[new[-1]]
            self._note(arrays, round_number, f"request {how}", "after_unlearning_exp", last)

    def close(self) -> None:
        """Close all files."""
        for close in self._close:
            close()
        self._close.clear()

    def __enter__(self) -> FederationReport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _new_logger(self, name: str, folder: Path) -> Any:
        if name == "tensorboard":
            logger = TensorboardLogger(folder / TENSORBOARD_FOLDER)
            self._flush.append(logger.writer.flush)
            self._close.append(logger.writer.close)
            return logger
        if name == "csv":
            logger = ScalarCSVLogger(folder / CSV_FILE)
            self._close.append(logger.close)
            return logger
        file = (folder / TEXT_FILE).open("a", encoding="utf-8")
        logger = TextLogger(file)
        self._text = file, logger
        self._flush.append(file.flush)
        self._close.append(file.close)
        return logger

    def _take_in(self, ended: Mapping[str, bool], *, all_but_last: bool = False) -> list[str]:
        """Note how requests ended, and read those that are new; the last one may be left to its event."""
        requests = self._requests()
        known = {name: committed for name, committed in ended.items() if name in requests}
        self._outcomes.outcomes = [_Ended(_Named(name), committed) for name, committed in known.items()]
        new = [name for name in known if requests[name].current_experience not in self._watch.served]
        for name in new[:-1] if all_but_last else new:
            self._watch.serve(requests[name])
        return new

    def _requests(self) -> dict[str, Any]:
        return {item.request.id: item for item in self._benchmark.streams["forget"]}

    def _note(self, arrays: Mapping[str, Tensor], round_number: int, what: str, event: str, experience: Any) -> None:
        strategy = self._strategy
        strategy.model.load_state_dict(dict(arrays))
        strategy.clock.train_iterations = round_number
        strategy.is_training = False
        if self._text is not None:
            print(f"== Round {round_number}: {what} ==", file=self._text[0])
        with isolated_random(0):  # every DataLoader draws a seed from the global generator
            strategy.experience = experience
            getattr(strategy.evaluator, event)(strategy)
            strategy.experience = None
            if self._text is not None:
                self._text[1].print_current_metrics()
                self._text[1].metric_vals = {}
            strategy.eval(self._benchmark.streams["test"])
        for flush in self._flush:
            flush()
        outcomes = {item.request.id: item.committed for item in self._outcomes.outcomes}
        self._files.save({"watch": self._watch.state(), "outcomes": outcomes, "round": round_number})

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._watch.restore(state["watch"], self._benchmark.streams["forget"])
        self._take_in(state["outcomes"])
        self._strategy.clock.train_iterations = state["round"]
