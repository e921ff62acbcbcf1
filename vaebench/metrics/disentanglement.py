"""Disentanglement on data whose factors of variation are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import Unavailable, UserError, unknown
from vaebench.evaluation.estimators.disentanglement import (
    Coded,
    dci_completeness,
    dci_disentanglement,
    grouped_jackknife,
    importances,
    mig_of,
    require_units,
    sap_of,
    varying,
)
from vaebench.evaluation.estimators.latents import finite_mean, read_latents
from vaebench.evaluation.estimators.moments import average
from vaebench.metrics.base import ModelMetric

Classifier = Literal["boosting", "forest"]


class _FactorMetric(ModelMetric):
    """Metrics of posterior means and factors, which are stored."""

    STATES: tuple[str, ...] = ("codes", "factors")
    higher_is_better = True

    def update(
        self, model: LatentModel, x: Tensor, labels: Tensor | None = None, factors: Tensor | None = None
    ) -> None:
        """Encodes a batch of images of known factors.

        Args:
            model, x, labels: as for every metric.
            factors: whole numbers, (b, factors).

        Raises:
            UserError: there are no factors, or not one row per image.
            Unavailable: the posterior has no finite mean.
        """
        if factors is None or factors.shape[:-1] != x.shape[:1]:
            raise UserError(
                f"{type(self).__name__}.update got "
                f"{'no factors' if factors is None else f'factors of shape {tuple(factors.shape)}'} for {len(x)} "
                "images, where one row of whole numbers an image is expected; give factors=…"
            )
        super().update(model, x, labels)
        self._keep({"factors": factors.long()})

    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        return {"codes": finite_mean(read_latents(model, x))}

    def _coded(self) -> Coded:
        codes, factors = (self._joined(name).cpu().numpy() for name in ("codes", "factors"))
        require_units(codes)
        return Coded(codes, factors)


class MIG(_FactorMetric):
    """Mutual information gap, in [0, 1]: the gap between the best two units of a factor, mean over factors.

    Chen et al. 2018 (https://arxiv.org/abs/1802.04942), with posterior means in 20 equal bins, as in
    disentanglement_lib. Factors that do not vary among the images are left out. The standard error is by the jackknife
    over 20 groups of images.

    Args:
        seed: has no effect.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import MIG
        >>> measure = MIG()
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> 0 <= float(measure(model, x, factors=torch.arange(120).reshape(60, 2) // 2 % 3)) <= 1
        True
    """

    def compute(self) -> Tensor:
        """The gap, float64; `standard_error` is then its standard error.

        Raises:
            Unavailable: fewer than two units, or no factor that varies.
        """
        codes, factors = self._coded()
        factors = factors[:, varying((factors,), shared=0, least=1)]
        error = grouped_jackknife(lambda some: mig_of(codes[some], factors[some]), len(codes))
        return self._with_error(mig_of(codes, factors), error)


class _LearntMetric(_FactorMetric):
    """Metrics of classifiers, which learn from some of the images and are tested on the others."""

    STATES = ("codes", "factors", "learnt")

    def update(
        self,
        model: LatentModel,
        x: Tensor,
        labels: Tensor | None = None,
        factors: Tensor | None = None,
        learnt: Tensor | bool | None = None,
    ) -> None:
        """Encodes a batch of images of known factors.

        Args:
            model, x, labels: as for every metric.
            factors: whole numbers, (b, factors).
            learnt: whether classifiers learn from these images, all of them or each, (b,); they are tested on the
                others.

        Raises:
            UserError: there are no factors, or not one row per image, or it is not said which images are learnt.
            Unavailable: the posterior has no finite mean.
        """
        if learnt is None or (isinstance(learnt, Tensor) and learnt.shape != x.shape[:1]):
            raise UserError(
                f"{type(self).__name__}.update needs to know which of the images classifiers learn from; give "
                f"learnt=True for training images, learnt=False for test images, or {len(x)} such values"
            )
        super().update(model, x, labels, factors)
        self._keep({"learnt": torch.as_tensor(learnt, dtype=torch.bool).expand(len(x))})

    def _parts(self) -> tuple[Coded, Coded]:
        """Images to learn from and to test on, with the factors that vary among both.

        Raises:
            Unavailable: there are none, or fewer than two units or factors.
        """
        whole, learnt = self._coded(), self._joined("learnt").cpu().numpy()
        few, test = whole.at(learnt), whole.at(~learnt)
        if not len(few.codes) or not len(test.codes):
            raise Unavailable(f"{len(few.codes)} images are to be learnt and {len(test.codes)} to be tested on")
        kept = varying((test.factors, few.factors), shared=2, least=2)
        few, test = (Coded(part.codes, part.factors[:, kept]) for part in (few, test))
        return few, test


class SAP(_LearntMetric):
    """Separated attribute predictability, in [0, 1]: the gap between the best two units' accuracies, mean over factors.

    Kumar et al. 2018 (https://arxiv.org/abs/1711.00848), by linear classifiers of each factor from each unit, as in
    disentanglement_lib. The standard error is by the jackknife over 20 groups of test images.

    Args:
        seed: has no effect.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import SAP
        >>> measure, factors = SAP(), torch.arange(120).reshape(60, 2) // 2 % 3
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> measure.update(model, x[:30], factors=factors[:30], learnt=True)
        >>> measure.update(model, x[30:], factors=factors[30:], learnt=False)
        >>> 0 <= float(measure.compute()) <= 1
        True
    """

    def compute(self) -> Tensor:
        """The gap, float64; `standard_error` is then its standard error.

        Raises:
            Unavailable: fewer than two units or factors, or no images to learn from or to test on.
        """
        return self._with_error(*sap_of(*self._parts()))


class DCI(_LearntMetric):
    """Disentanglement, in [0, 1]: 1 − entropy of the factors that each unit predicts, weighted by its importance.

    Eastwood & Williams 2018, section 2 (https://openreview.net/forum?id=By-7dz-AZ). It has no standard error: NaN.

    Args:
        model: of a factor from all units: 'boosting', as in disentanglement_lib, or 'forest', several times faster.
        seed: of the trees.
        kwargs: of `torchmetrics.Metric`.

    Attributes:
        completeness: 1 − entropy of the units that predict each factor, after `compute`.
        informativeness: accuracy on test images, mean over factors, after `compute`.
        importances: of each unit for each factor, (units, factors), after `compute`.

    Raises:
        UserError: there is no such model.

    Example:
        >>> import torch, vaebench as vb
        >>> from vaebench.metrics import DCI
        >>> measure, factors = DCI("forest"), torch.arange(120).reshape(60, 2) // 2 % 3
        >>> model, x = vb.build("vae", "digits", latent=2), torch.rand(60, 1, 8, 8).round()
        >>> value = measure(model, x, factors=factors, learnt=torch.arange(60) < 30)
        >>> 0 <= float(value) <= 1, measure.importances.shape
        (True, torch.Size([2, 2]))
    """

    def __init__(self, model: Classifier = "boosting", seed: int = 0, **kwargs: Any) -> None:
        if model not in get_args(Classifier):
            raise unknown("model", model, get_args(Classifier), "Give DCI one of them.")
        super().__init__(seed, **kwargs)
        self.model = model
        self.completeness, self.informativeness = (torch.tensor(math.nan, dtype=torch.float64) for _ in range(2))
        self.importances = torch.empty(0, 0, dtype=torch.float64)

    def compute(self) -> Tensor:
        """Disentanglement, float64.

        Raises:
            Unavailable: fewer than two units or factors, or no images to learn from or to test on.
        """
        few, test = self._parts()
        relied, right = importances(*few, *test, self.model, self.seed % 2**32)
        self.importances = torch.from_numpy(relied)
        self.completeness = torch.tensor(dci_completeness(relied), dtype=torch.float64)
        self.informativeness = torch.tensor(average(torch.from_numpy(right.mean(1)))[0], dtype=torch.float64)
        return self._with_error(dci_disentanglement(relied), None)
