"""Names of what training logs: 'train/…' of the batches learnt from, 'val/…' of the held-out images.

The figures that a sweep measures of held-out images begin with 'val/' too.
"""

from __future__ import annotations

TRAIN, VAL = "train/", "val/"
BOUND = "val/elbo"  # the bound at β = 1, nats per image
LOG_X = "val/log_x"  # log p(x|z), nats per image, where the posterior has no density and so no bound
OBJECTIVE = "val/objective"  # what training maximises
