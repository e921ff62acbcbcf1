"""Names of logged metrics: 'train/…' for training images, 'val/…' for held-out ones, also in sweeps."""

from __future__ import annotations

TRAIN, VAL = "train/", "val/"
EPOCH, SPEED = "epoch", "images/s"  # of a training that goes on, in no record
STEP = "step/"  # of one batch, in no record
BOUND = "val/elbo"  # the bound at β = 1, nats per image
LOG_X = "val/log_x"  # log p(x|z), nats per image, for posteriors without a density, and so without a bound
OBJECTIVE = "val/objective"  # the maximised objective
LIKELIHOOD = "val/log_likelihood"  # no curve: measured once, after training; what boards rank, nats per image
