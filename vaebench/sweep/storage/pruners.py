"""Pruners that Optuna lacks."""

from __future__ import annotations

from copy import copy

from optuna import Study
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial


class Median(MedianPruner):
    """Prunes a trial whose last value is worse than the median of the others at the same epoch.

    Optuna's own compares the trial's best value so far, which a warm-up produces at its beginning.
    """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        last = copy(trial)
        last.intermediate_values = dict(sorted(trial.intermediate_values.items())[-1:])
        return super().prune(study, last)
