"""Reports of a federation's models by Avalanche's EvaluationPlugin and loggers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TextIO

import torch
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import TensorboardLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin
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


class FederationReport(AbstractContextManager["FederationReport"]):
    """Evaluates aggregated models on an Avalanche benchmark and writes the figures with Avalanche's loggers.

    Accuracy and loss on the test stream are Avalanche's own metrics; those of requests are
    :func:`~fed_unlearn.avalanche.metrics.forget_metrics`. The step of every figure is the number of rounds so far. The
    report trains nothing and does not use global random generators. It resumes a folder of an earlier process: an
    unfinished entry is cut off, and finished entries are not written again.

    Parameters
    ----------
    benchmark : CLScenario
        The benchmark. It has a ``test_stream`` and a ``forget_stream``, to which requests may be added as they are
        served.
    model : nn.Module
        A model of the federation's architecture. Its weights are replaced.
    loggers : sequence of str
        Loggers that write the figures, at least one of ``"text"`` (``text.log``), ``"tensorboard"`` (event files in
        ``tensorboard/``) and ``"csv"`` (``metrics.csv``).
    folder : Path
        Folder of the files. It is created if it is missing.
    device : torch.device or str
        Device on which models are evaluated.
    readable : callable, optional
        Returns whether the training samples of a request may be read now, given its id. If they may not, the request
        has figures on test samples only. Default: they may always be read.

    Raises
    ------
    InvalidParameterError
        If no logger is given, or one is unknown.
    InvalidDataError
        If the folder holds files of these names that no earlier report has written.
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
        self._open = ExitStack()
        self._text: tuple[TextIO, Any] | None = None
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
        arrays, round_number, ended
            The model, the number of rounds, and which requests were committed, as for :meth:`note_requests`.
        number : int, optional
            Number of the training experience, counted from 1. Default: the next one.
        arrived : int
            Number of experiences of the training stream whose samples have arrived, at least 1.
        """
        self._take_in(ended or {})
        number = self._watch.trained + 1 if number is None else number
        self._watch.trained = number
        self._strategy.clock.train_exp_counter = number - 1
        seen = list(self._benchmark.streams["train"])[:arrived]
        self._watch.arrive(seen)
        self._note(arrays, round_number, f"training {number}", "after_training_exp", seen[-1])

    def note_requests(self, arrays: Mapping[str, Tensor], round_number: int, ended: Mapping[str, bool]) -> None:
        """Evaluate the model after requests were served. Nothing is written if none of them is new.

        Parameters
        ----------
        arrays : mapping of str to Tensor
            The model's state.
        round_number : int
            Number of rounds so far, which is the step of every figure.
        ended : mapping of str to bool
            Whether each request that was served so far was committed, by id. Requests that are not in the forget stream
            are ignored.
        """
        new = self._take_in(ended, all_but_last=True)
        if new:
            how = ", ".join(f"{name} {'committed' if ended[name] else 'failed'}" for name in new)
            last = self._requests()[new[-1]]
            self._note(arrays, round_number, f"request {how}", "after_unlearning_exp", last)

    def close(self) -> None:
        """Close all files."""
        self._open.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _new_logger(self, name: str, folder: Path) -> Any:
        if name == "tensorboard":
            logger = TensorboardLogger(folder / TENSORBOARD_FOLDER)
            self._flush.append(logger.writer.flush)
            self._open.callback(logger.writer.close)
            return logger
        if name == "csv":
            logger = ScalarCSVLogger(folder / CSV_FILE)
            self._open.callback(logger.close)
            return logger
        file = self._open.enter_context((folder / TEXT_FILE).open("a", encoding="utf-8"))
        logger = TextLogger(file)
        self._text = file, logger
        self._flush.append(file.flush)
        return logger

    def _take_in(self, ended: Mapping[str, bool], *, all_but_last: bool = False) -> list[str]:
        """Note outcomes, serve new requests in the watch, and return their ids. The last may be left to its event."""
        requests = self._requests()
        known = {name: committed for name, committed in ended.items() if name in requests}
        self._watch.outcomes = known
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
        self._files.save({"watch": self._watch.state(), "outcomes": self._watch.outcomes, "round": round_number})

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._watch.restore(state["watch"], self._benchmark.streams["forget"])
        self._take_in(state["outcomes"])
        self._strategy.clock.train_iterations = state["round"]
