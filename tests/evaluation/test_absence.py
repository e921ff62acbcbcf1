"""What does not exist is unavailable for a reason; what torch cannot compute is an error, wherever it shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import bits, small
from oracles import LinearGaussian, Parts
from populations import args, entered
from splits import Splits
from torch import Tensor
from torch.distributions import Distribution, Independent

import vaebench as vb
from vaebench.core import Family
from vaebench.errors import Unavailable, UserError, absence, require_kernels
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.posteriors.gaussian import FullGaussian
from vaebench.training.population import Population, lane

X = bits(3)
HALF = X.bfloat16()


def half() -> Family:
    """A model whose posterior's density solves a triangular system, which torch does not in bfloat16."""
    return small("vae", posterior=FullGaussian).bfloat16()


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.bound(HALF, None),
        lambda model: model.held_out(HALF, None, torch.tensor(0.0), 0),
        lambda model: vb.log_likelihood(model, X, 5),
        lambda model: vb.evaluate(model, Splits({"test": X}), "quick", k=5),
    ],
    ids=["bound", "validation", "log_likelihood", "evaluate"],
)
def test_a_missing_kernel_is_an_error_everywhere(use: Callable[[Family], Any]) -> None:
    with pytest.raises(UserError, match=r"'triangular_solve_cpu' for numbers of type BFloat16"):
        use(half())


def test_a_missing_kernel_ends_a_population_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    population = Population(torch.device("cpu"))
    entered(population, [args(epochs=1)], tmp_path)
    monkeypatch.setattr(lane.Lane, "train", lambda *_: torch.linalg.cholesky(torch.eye(2).half()))
    with pytest.raises(UserError, match="'cholesky_cpu' for numbers of type Half"):
        population.epoch()


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        (lambda: torch.linalg.inv(torch.eye(2).bfloat16()), r"'linalg.inv' for numbers of type BFloat16: expected"),
        (lambda: torch.eye(2).to_sparse().cumsum(0), r"'aten::cumsum' on SparseCPU: expected"),
    ],
)
def test_the_sentence_names_the_operation_and_what_lacks_it(fails: Callable[[], Tensor], message: str) -> None:
    for block in (require_kernels, absence):
        with pytest.raises(UserError, match=message), block():
            fails()


def test_other_errors_pass_through() -> None:
    for error in (RuntimeError("shapes"), Unavailable("there is none"), KeyError("a")):
        with pytest.raises(type(error), match=str(error)), absence():
            raise error


@pytest.mark.parametrize("kind", [NotImplementedError, Unavailable])
def test_a_foreign_model_gives_its_own_reason(kind: type[Exception]) -> None:
    class Foreign(Independent):
        def log_prob(self, value: Tensor) -> Tensor:
            raise kind("the encoder is a hash")

        @property
        def mean(self) -> Tensor:
            raise kind("the encoder is a hash")

    model = LinearGaussian(orthogonal=True)

    def posterior(x: Tensor) -> Distribution:
        q = model.posterior(x)
        return Foreign(q.base_dist, 1, validate_args=False)

    data = Splits({"test": model.images(6)}, measure="continuous")
    found = vb.evaluate(Parts(posterior, model.prior, model.likelihood), data, "quick", k=5).metrics
    assert found["log_likelihood"].unavailable == "the encoder is a hash"
    assert found["active_units"].unavailable == "the encoder is a hash"
    assert found["distortion"].value is not None


def test_an_attempt_keeps_what_was_found_and_says_why_the_rest_was_not() -> None:
    found = Findings({"a": MetricKind("nats", True, "a"), "b": MetricKind("nats", True, "b of {n}")}, "things")
    with found.attempt("a", "b", n=3):
        found.single("a", 1.0, 3)
        raise Unavailable("there is no b")
    assert found.metrics["a"].value == 1.0
    assert (found.metrics["b"].unavailable, found.metrics["b"].definition) == ("there is no b", "b of 3")
    with found.attempt("b", end="_far", n=3), absence("the prior has no density"):
        raise NotImplementedError
    assert found.metrics["b_far"].unavailable == "the prior has no density"
    assert found.warnings == []
    with found.attempt("b", end="_near", n=3):
        math.log(-1)
    assert "'things' failed (ValueError" in str(found.metrics["b_near"].unavailable)
    assert len(found.warnings) == 1
    with pytest.raises(UserError, match="mend it"), found.attempt("b", end="_new", n=3):
        raise UserError("mend it")
    assert "b_new" not in found.metrics
