"""The evaluation harness: metrics of a model, computed from its three parts alone, the same way for every family."""

from vaebench.evaluation.estimators.likelihood import log_likelihood
from vaebench.evaluation.metrics import MetricValue
from vaebench.evaluation.protocol import VERSION, Protocol, read_protocol
from vaebench.evaluation.report import Report, evaluate

__all__ = ["VERSION", "MetricValue", "Protocol", "Report", "evaluate", "log_likelihood", "read_protocol"]
