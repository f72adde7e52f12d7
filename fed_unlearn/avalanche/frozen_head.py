"""A strategy of sums: a training experience adds those over its samples, a forget experience takes them away again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.plugins.clock import Clock
from avalanche.training.plugins.evaluation import default_evaluator
from avalanche.training.templates import SupervisedTemplate
from avalanche.training.templates.base_sgd import PeriodicEval
from torch import nn

from fed_unlearn.avalanche.compat.support import UnsupportedStrategyError
from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.reading import as_samples
from fed_unlearn.avalanche.streams.samples import sample_ids, without
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.frozen_head import FrozenHead as FrozenHeadMethod
from fed_unlearn.methods.parts.frozen_features import check_replaceable, frozen_features, put_head
from fed_unlearn.methods.parts.heads import Head, find_head
from fed_unlearn.methods.parts.ridge import FEATURE_STEP, RIDGE, RidgeStatistics
from fed_unlearn.model_digests import digest_of

_NAME = "FrozenHead"
_PLUGINS = (EvaluationPlugin, PeriodicEval, Clock)


class FrozenHead(SupervisedTemplate):
    """Solves the output layer of a model from sums over samples, and leaves everything below as it is.

    A training experience adds the sums over its samples, and its dataset is kept to read samples that are forgotten
    later. A forget experience takes the sums of its samples away again, and reads no others. The output layer is solved
    from what is left, as the method ``frozen-head`` does it. So after any order of the two, the model is, bit for bit,
    the one that never met the forgotten samples. Samples that a request names and that come later are left out; a
    sample that comes twice counts once.

    Requests need no UnlearningPlugin and no gate: they are exact by construction. That holds for the output layer. What
    the layers below have learned of a sample elsewhere stays.

    Parameters
    ----------
    model : nn.Module
        The model. It has one output for each class of the whole stream.
    ridge, step, head
        Parameters of the ridge regression, as for :class:`fed_unlearn.methods.frozen_head.FrozenHead`.
    train_mb_size, eval_mb_size, device, evaluator, eval_every
        Parameters of Avalanche's strategies. Metrics of training are those of the solved model on the experience's
        samples.
    plugins : sequence of SupervisedPlugin, optional
        Further plug-ins. Those of Avalanche that change how a model is trained have nothing to change here.

    Attributes
    ----------
    statistics : RidgeStatistics or None
        The sums; None before the first experience.
    forgotten : frozenset of str
        Ids of samples that were forgotten, or are left out when they come.

    Raises
    ------
    InvalidParameterError
        If ``ridge`` or ``step`` is out of range.
    UnsupportedStrategyError
        If a plug-in is an UnlearningPlugin, or one of Avalanche's for training.
    """

    experience: Any

    def __init__(
        self,
        *,
        model: nn.Module,
        ridge: float = RIDGE,
        step: float = FEATURE_STEP,
        head: str | None = None,
        train_mb_size: int = 64,
        eval_mb_size: int | None = None,
        device: str | torch.device = "cpu",
        plugins: Sequence[SupervisedPlugin] | None = None,
        evaluator: EvaluationPlugin | Callable[[], EvaluationPlugin] = default_evaluator,
        eval_every: int = -1,
    ) -> None:
        self._method = FrozenHeadMethod(ridge=ridge, step=step, head=head)
        super().__init__(
            model=model,
            optimizer=None,
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=train_mb_size,
            train_epochs=1,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=plugins,
            evaluator=evaluator,
            eval_every=eval_every,
        )
        for plugin in self.plugins:
            _check_plugin(plugin)
        self.statistics: RidgeStatistics | None = None
        self.forgotten: frozenset[str] = frozenset()
        self._counted: set[str] = set()
        self._met: list[Any] = []
        self._asked: list[ForgetExperience] = []
        self._backbone = ""

    def unlearn(self, experiences: ForgetExperience | Iterable[ForgetExperience]) -> None:
        """Serve forget experiences, one after another; ``train`` does the same where it meets one.

        Parameters
        ----------
        experiences : ForgetExperience or iterable of ForgetExperience

        Raises
        ------
        InvalidModelError
            If the layers below the output layer have changed since they were read.
        """
        before = self.experience
        for experience in experiences if isinstance(experiences, Iterable) else [experiences]:
            self.experience = experience
            try:
                self._tell("before_unlearning_exp")
                self._forget(experience)
                self._tell("after_unlearning_exp")
            finally:
                self.experience = before

    # ------------------------------------------------------------------ Avalanche's hooks, in the order of a train call

    def _before_training_exp(self, **kwargs: Any) -> None:
        if not isinstance(self.experience, ForgetExperience):
            super()._before_training_exp(**kwargs)

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        if isinstance(experience, ForgetExperience):
            self.unlearn(experience)
        else:
            super()._train_exp(experience, eval_streams, **kwargs)

    def _after_training_exp(self, **kwargs: Any) -> None:
        if not isinstance(self.experience, ForgetExperience):
            super()._after_training_exp(**kwargs)

    def train_dataset_adaptation(self, **kwargs: Any) -> None:
        """The experience's samples without those that requests name."""
        dataset = self.experience.dataset
        for asked in self._asked:
            named = zip(sample_ids(dataset), asked.names_in(dataset), strict=True)
            self.forgotten = self.forgotten.union(name for name, hit in named if hit)
        self.adapted_dataset = without(dataset, self.forgotten).train()

    def make_train_dataloader(self, *args: Any, **kwargs: Any) -> None:
        """Batches for metrics; none where all samples are forgotten."""
        self.dataloader: Any = []
        if len(self.adapted_dataset):
            super().make_train_dataloader(*args, **kwargs)

    def check_model_and_optimizer(self, **kwargs: Any) -> None:
        """There is no optimizer, and the model does not grow."""

    def training_epoch(self, **kwargs: Any) -> None:
        """Add the sums over the experience's samples, and show metrics the solved model's outputs."""
        self._met.append(self.experience.dataset)
        new = without(self.adapted_dataset, self._counted)
        if len(new):
            self._solve(self._sums(as_samples(new)), sample_ids(new))
        self.model.eval()
        with torch.no_grad():
            for batch in self.dataloader:
                self.mbatch = batch
                self._unpack_minibatch()
                self._before_training_iteration(**kwargs)
                self._before_forward(**kwargs)
                self.mb_output = self.forward()
                self._after_forward(**kwargs)
                self.loss = self.criterion()
                self._after_training_iteration(**kwargs)

    # ------------------------------------------------------------------ sums

    def _forget(self, experience: ForgetExperience) -> None:
        self.forgotten = self.forgotten.union(experience.sample_ids)
        self._asked.append(experience)
        for dataset in self._met:  # a class may have come again since the request was put
            ids = sample_ids(dataset)
            hits = experience.names_in(dataset)
            named = [place for place, hit in enumerate(hits) if hit and ids[place] in self._counted]
            if named:
                gone = dataset.subset(named)
                self._solve(self._sums(as_samples(gone)), sample_ids(gone), is_added=False)

    def _sums(self, samples: SampleSet) -> RidgeStatistics:
        """The sums over samples, for the layers below that all others were made with."""
        head = self._head(samples)
        backbone = f"{digest_of(self.model, without=head.name)} {head.name}"
        if self._backbone not in ("", backbone):
            raise InvalidModelError(
                f"{_NAME}: the layers below {head.name!r} have changed since samples were read; expected ones that stay"
                " as they are: make a new strategy for another backbone"
            )
        self._backbone, classes = backbone, len(head.layer.weight)
        if int(samples.labels.max()) >= classes:
            raise InvalidModelError(
                f"{_NAME}: a sample of class {int(samples.labels.max())} was given, and the model has {classes}"
                " outputs; expected one for each class of the whole stream"
            )
        features = frozen_features(_NAME, self.model, head, samples)
        return RidgeStatistics.of(features, samples.labels, classes, self._method.step)

    def _solve(self, sums: RidgeStatistics, ids: Sequence[str], *, is_added: bool = True) -> None:
        """Add sums or take them away, and give the model the output layer that follows."""
        known = self.statistics
        total = sums if known is None else known + sums if is_added else known.without(sums)
        layer = self.model.get_submodule(self._backbone.partition(" ")[2])
        if total.count:
            put_head(layer, total, self._method.ridge)
        else:
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.zero_()
        self.statistics = total
        self._counted = self._counted.union(ids) if is_added else self._counted.difference(ids)

    def _head(self, samples: SampleSet) -> Head:
        head = find_head(_NAME, self.model, samples, self._method.head)
        check_replaceable(_NAME, head)
        return head

    def _tell(self, event: str) -> None:
        for plugin in self.plugins:
            if hasattr(plugin, event):
                getattr(plugin, event)(self)


def _check_plugin(plugin: Any) -> None:
    """Raise where a plug-in cannot do anything here."""
    if isinstance(plugin, UnlearningPlugin):
        raise UnsupportedStrategyError(
            f"{_NAME} serves forget experiences by itself; leave the UnlearningPlugin out, or use it with a strategy"
            " that trains"
        )
    if type(plugin).__module__.startswith("avalanche.") and not isinstance(plugin, _PLUGINS):
        raise UnsupportedStrategyError(
            f"{_NAME} trains by sums, of which {type(plugin).__name__} can change nothing; leave it out"
        )
