"""The kinds of classes that a configuration can name, and the classes of torch among them."""

from __future__ import annotations

import re
from typing import NamedTuple


class PartKind(NamedTuple):
    """A kind of class: its place in the package, and the criteria for its classes.

    Attributes:
        folder: the folder or module below the package.
        bases: names of base classes, one of which a class must have.
        given: arguments that the builder passes; constructors of choosable classes require no others. Empty: unchecked.
        suffixes: ends of class names that a short name may omit.
        types: last words of the annotations of arguments that take one.
    """

    folder: str
    bases: tuple[str, ...]
    given: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


KINDS = {
    "family": PartKind("families", ("Family",), suffixes=("vae",)),
    "data set": PartKind("data", ("ImageData",)),
    "posterior": PartKind(
        "posteriors",
        ("Posterior", "LazyDistribution"),
        ("data", "latent", "maps"),
        ("posterior", "flow"),
        ("Conditional",),
    ),
    "prior": PartKind(
        "priors",
        ("Prior", "LazyDistribution"),
        ("latent", "units", "data", "posterior"),
        ("prior", "flow"),
        ("PriorFactory",),
    ),
    "likelihood": PartKind(
        "likelihoods", ("Likelihood",), ("latent", "data", "features"), ("likelihood",), ("Likelihood",)
    ),
    "pixels": PartKind("likelihoods", ("Pixels",), suffixes=("pixels",), types=("Pixels",)),
    "network": PartKind(
        "networks",
        ("Network", "CodeNetwork"),
        ("inputs", "outputs", "count", "size"),
        ("network",),
        ("Network", "CodeNetwork", "Net"),
    ),
    "schedule": PartKind("schedules", ("Schedule",), suffixes=("schedule",), types=("Schedule",)),
    "optimizer": PartKind("optimizers", ("Optimizer", "Adam")),
    "lr_scheduler": PartKind("optimizers", ("LRScheduler",), suffixes=("lr",)),
}


PAPER = "https://arxiv.org/abs/"


TORCH = {
    "optimizer": ("torch.optim", {
        "Adadelta": f"Steps as long as the last ones, by the ratio of mean squares; Zeiler 2012\n{PAPER}1212.5701",
        "Adagrad": "Steps over the root of all squared gradients' sum; Duchi et al. 2011\n"
                   "https://jmlr.org/papers/v12/duchi11a.html",
        "Adam": f"The default: mean gradients over the root of mean squares; Kingma & Ba 2015\n{PAPER}1412.6980",
        "AdamW": f"Adam whose weight decay is no part of the gradient; Loshchilov & Hutter 2019\n{PAPER}1711.05101",
        "Adamax": f"Adam by the largest of the decayed gradients; Kingma & Ba 2015, section 7.1\n{PAPER}1412.6980",
        "NAdam": "Adam with Nesterov's momentum; Dozat 2016\nhttps://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ",
        "RAdam": f"Adam that warms up by the variance of its own steps; Liu et al. 2020\n{PAPER}1908.03265",
        "RMSprop": f"Gradients over the root of their mean squares; as in Graves 2013\n{PAPER}1308.0850",
        "SGD": "The gradient itself, with momentum or without; Sutskever et al. 2013\n"
               "https://proceedings.mlr.press/v28/sutskever13.html",
    }),
    "lr_scheduler": ("torch.optim.lr_scheduler", {
        "ConstantLR": "A factor for some epochs, and 1 after them.",
        "CosineAnnealingLR": f"Half a cosine to eta_min in T_max epochs; Loshchilov & Hutter 2017\n{PAPER}1608.03983",
        "CosineAnnealingWarmRestarts": f"Half a cosine again and again; Loshchilov & Hutter 2017\n{PAPER}1608.03983",
        "ExponentialLR": "The factor gamma at every epoch.",
        "LinearLR": "A line from one factor to another: a warm-up.",
        "MultiStepLR": "The factor gamma at each of some epochs.",
        "PolynomialLR": "A power of the part of training that is left.",
        "StepLR": "The factor gamma at every so many epochs.",
    }),
}  # fmt: skip
"""Supported classes of torch: module, and description of each. Others need more than gradients or the number of an
epoch, or set the learning rate themselves."""


OURS = frozenset({
    "params", "lr", "maximize", "foreach", "fused", "capturable", "differentiable", "optimizer", "last_epoch",
})  # fmt: skip
"""Their arguments that the suite sets itself."""


def learning_key(key: str) -> str:
    """The kind of an optimiser's or scheduler's section of a configuration; '' for any other key.

    >>> learning_key("lr_scheduler"), learning_key("optimizer_critic"), learning_key("model")
    ('lr_scheduler', 'optimizer', '')
    """
    return next((kind for kind in TORCH if re.fullmatch(rf"{kind}(_[a-z]\w*)?", key)), "")
