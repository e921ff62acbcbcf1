"""The harness: what a model is worth, measured through its three parts alone and in the same way for every family."""

from vaebench.evaluation.likelihood import log_likelihood
from vaebench.evaluation.report import VERSION, Metric, Report, evaluate

__all__ = ["VERSION", "Metric", "Report", "evaluate", "log_likelihood"]
