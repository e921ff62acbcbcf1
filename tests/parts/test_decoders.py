"""What evaluation makes of the richer likelihoods: facts, bounds, and what a decoder without a mean leaves out."""

from __future__ import annotations

import torch
from helpers import small
from oracles import Data

from vaebench.core import DataSpec
from vaebench.evaluation import evaluate


def test_a_report_keeps_the_floor_of_the_likelihood_s_scale_as_it_was_trained() -> None:
    data = DataSpec((1, 3, 3), "continuous", torch.full((1, 3, 3), 0.4))
    likelihood = {"class_path": "vaebench.likelihoods.Gaussian", "init_args": {"scale": "pixel", "floor": 0.02}}
    model = small("vae", data, likelihood=likelihood)
    report = evaluate(model, Data(torch.rand(4, 1, 3, 3), data), "likelihood", k=4, progress=False)
    assert report.tables["likelihood"] == {"name": "Gaussian", "scale": "pixel", "scale_floor": 0.02}
