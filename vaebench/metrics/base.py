"""Base classes of metrics of latent-variable models."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vaebench.core import LatentModel
from vaebench.errors import UserError
from vaebench.evaluation.contract import admitted
from vaebench.evaluation.estimators.moments import Moments, average

Value = TypeVar("Value")


class ModelMetric(Metric):
    """A metric of a model with three parts, `posterior(x)`, `prior()` and `likelihood(z)`, on images in [0, 1].

    `update` runs the model in evaluation mode, without gradients and with separate noise, and restores its mode and
    torch's random state, so that it may be called in any step of a LightningModule. Noise is keyed by the image's bytes
    and the seed, so that values do not depend on batches or processes.

    States are lists with one entry per batch, which `compute` joins over batches and processes. They are part of
    `state_dict`. A subclass names them in STATES and computes them in `_read`.

    Args:
        seed: of the noise.
        kwargs: of `torchmetrics.Metric`.

    Attributes:
        standard_error: of the latest computed value; NaN where there is none.
    """

    STATES: tuple[str, ...]
    full_state_update = False
    is_differentiable = False
    standard_error: Tensor

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.standard_error = torch.tensor(math.nan, dtype=torch.float64)
        self.set_dtype(torch.float64)  # of the empty states of a process without images
        for name in self.STATES:
            self.add_state(name, [], dist_reduce_fx="cat", persistent=True)

    def update(self, model: LatentModel, x: Tensor, labels: Tensor | None = None) -> None:
        """Measures a batch of images.

        Args:
            model: anything with the three parts; a LightningModule that has them passes itself.
            x: images, (b, *data), in [0, 1].
            labels: (b,), which a conditional family needs.

        Raises:
            UserError: the images or the parts of the model are invalid.
            Unavailable: the model lacks something that the metric needs.
        """
        with admitted(model, x, labels, check=self._update_count <= 1) as (admissible, images):
            states = self._read(admissible, x, images)
        self._keep(states)

    @abstractmethod
    def _read(self, model: LatentModel, raw: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        """The entries of a batch for the states, computed in evaluation mode.

        Args:
            model: the model for these images.
            raw: images, (b, *data), as passed.
            x: the same on the model's device, and in its precision.
        """

    def _keep(self, states: Mapping[str, Tensor]) -> None:
        for name, figures in states.items():
            getattr(self, name).append(figures.detach().to(self.device).clone())

    def _joined(self, name: str) -> Tensor:
        """The entries of all batches, and of all processes while `compute` runs."""
        return dim_zero_cat(getattr(self, name))

    def _met(self, name: str) -> bool:
        """Whether a state has any entry; some are optional."""
        return len(getattr(self, name)) > 0

    def _moments(self, name: str) -> Moments:
        return Moments.merged(self._joined(name))

    def _with_error(self, value: float | Tensor, error: float | Tensor | None) -> Tensor:
        """The value for `compute`; stores its standard error."""
        figures = [torch.as_tensor(math.nan if one is None else one, dtype=torch.float64) for one in (value, error)]
        value, self.standard_error = (one.to(self.device) for one in figures)
        return value

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plots the current value, or given ones, as torchmetrics does; requires matplotlib.

        Args:
            val: values of `compute` or `forward`; default: `compute` now.
            ax: axes to draw in.
        """
        return self._plot(val, ax)


class _LastModel:
    """The model of the latest update. Copies of a metric begin with it; a pickled one has none.

    It is not a submodule of the metric, since the model may own the metric.
    """

    def __init__(self, model: LatentModel | None = None) -> None:
        self.model = model

    def __deepcopy__(self, memo: dict[int, Any]) -> _LastModel:
        return _LastModel(self.model)

    def __reduce__(self) -> tuple[type[_LastModel], tuple[()]]:
        return _LastModel, ()


class Kept(Generic[Value]):
    """Networks that are read once. Copies of a metric share them; a pickled one reads them anew.

    They are not submodules of the metric, whose `state_dict` is its states alone.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Value] = {}

    def of(self, key: Hashable, read: Callable[[], Value]) -> Value:
        """What was read for the key, or is now."""
        if key not in self._values:
            self._values[key] = read()
        return self._values[key]

    def __deepcopy__(self, memo: dict[int, Any]) -> Kept[Value]:
        return self

    def __reduce__(self) -> tuple[type[Kept[Value]], tuple[()]]:
        return Kept, ()


class WholeMetric(ModelMetric):
    """A metric that needs the model once more in `compute`, that of the latest update, with images of all batches."""

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self._last = _LastModel()
        # NaN equals nothing: of metrics with equal states, a MetricCollection updates one, and the others would keep
        # an earlier model.
        self.add_state("apart", torch.tensor(math.nan, dtype=torch.float64), dist_reduce_fx="mean", persistent=False)

    def update(self, model: LatentModel, x: Tensor, labels: Tensor | None = None) -> None:
        """Measures a batch of images, and stores what `compute` needs of it; arguments as for every metric."""
        super().update(model, x, labels)
        self._last.model = model
        if labels is not None and "labels" in self.STATES:
            self._keep({"labels": labels})

    @contextmanager
    def _model(self, images: Tensor) -> Iterator[tuple[LatentModel, Tensor]]:
        """The model and images, as `admitted` gives them, with the labels of all batches.

        Raises:
            UserError: the metric was restored, and not updated since.
        """
        if self._last.model is None:
            raise UserError(
                f"{type(self).__name__} was restored without a model, and its figure needs one; call update(model, x) "
                "on at least one batch before compute"
            )
        labels = self._joined("labels") if "labels" in self.STATES and self._met("labels") else None
        with admitted(self._last.model, images, labels, check=False) as admissible:
            yield admissible


class ImageMetric(ModelMetric):
    """The mean over images of one value per image, with the standard error sd/√n.

    Attributes:
        values: one per image of this process, in the order of updates, float64 (n,).
    """

    @property
    def values(self) -> Tensor:
        return self._values()

    @abstractmethod
    def _values(self) -> Tensor:
        """One value per image, from the current states."""

    def compute(self) -> Tensor:
        """The mean over all images; `standard_error` is then its standard error."""
        return self._with_error(*average(self._values()))


def packed(moments: Moments) -> Tensor:
    """Moments as an entry of a state, (1, 5, units)."""
    return torch.stack(moments)[None]
