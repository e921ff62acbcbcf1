"""log p(x) by importance sampling, with distortion, rate and effective sample size from the same samples.

Noise is keyed by image and drawn in blocks of fixed size, so that a result depends neither on the other images and
their order nor on the number of samples scored at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vaebench.core import Draw, Family, LatentModel
from vaebench.distributions.codes import PointMass
from vaebench.errors import Unavailable, UserError, absence, out_of_memory
from vaebench.evaluation.conditions import (
    check_count,
    declared,
    device_and_dtype,
    each,
    for_images,
    modules,
    noise_keys,
)
from vaebench.evaluation.contract import admitted
from vaebench.evaluation.estimators.draws import (
    BLOCK,
    model_draws,
    noise_blocks,
    own_draw,
    posterior_draws,
    sample,
    sample_posterior,
)
from vaebench.evaluation.estimators.scoring import Precision, Score, scorer
from vaebench.evaluation.estimators.weights import effective_size, jackknife, largest, pareto_k, tail_length
from vaebench.evaluation.images import Stack
from vaebench.traits import LikelihoodTraits

NOISY = 16  # samples scored at once where scoring draws noise; part of it too
VALUES = {"cpu": 2**21, "cuda": 2**27}  # pixels × samples scored at once: what a cache holds, what a GPU wants
ACTIVATIONS = {"cpu": 2**26, "cuda": 2**31}  # most values in the widest output of a network: 256 MiB, 8 GiB in f32

Progress = Callable[[float], None]


class Estimates(NamedTuple):
    """Estimates from K samples of each image, float64 (n,) on the CPU.

    Attributes:
        log_likelihood: L_K = log (1/K) Σ_k w_k, nats; its expectation is at most log p(x) and grows with K.
        ess: effective sample size (Σ w)² / Σ w², in [1, K].
        pareto_k: shape of the weights' tail; see `pareto_k`. NaN where there are fewer than 25 samples.
        corrected: L_K without its bias of order 1/K; see `jackknife`. NaN at K = 1, like `variance`.
        variance: of L_K over draws of the K samples, nats²; see `jackknife`.
        distortion: −(1/K) Σ_k log p(x|z_k), nats.
        rate: (1/K) Σ_k log q(z_k|x) − log p(z_k), nats.
    """

    log_likelihood: Tensor
    ess: Tensor
    pareto_k: Tensor
    corrected: Tensor
    variance: Tensor
    distortion: Tensor
    rate: Tensor


def log_likelihood(
    model: LatentModel,
    x: Tensor,
    k: int = 5000,
    seed: int = 0,
    chunk: int | None = None,
    precision: Precision = "f32",
    compile: bool = False,
    progress: Progress | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    r"""The importance-weighted estimate of log p(x) of every image.

    .. math:: L_K(x) = \log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)

    A lower bound of log p(x) in expectation, tight as K grows (Burda et al. 2016, https://arxiv.org/abs/1509.00519).
    Memory does not grow with K. In f32 the result is the same to 1e-4 nats for any chunk, batch and order of images.

    Args:
        model: anything with the three parts; a `draw` of its own, as hierarchies have, is used.
        x: images, (n, *data), in [0, 1].
        k: samples per image.
        seed: of the noise; equal images get equal noise, under any model.
        chunk: most samples of an image scored at once; None chooses. It has no effect on a model's own `draw`, nor on
            a likelihood that draws noise to score, which always scores 16 at once to reproduce its noise.
        precision: 'f32', or 'bf16' for the likelihood's network alone.
        compile: compile the likelihood for this call: worth it from about a thousand images at k = 5000.
        progress: called with the fraction done, in [0, 1].
        labels: (n,), which a conditional model needs; it gives log p(x|y).

    Returns:
        Nats per image, float64 (n,), on the CPU.

    Raises:
        UserError: k < 1, no images, an image that is not finite or leaves [0, 1], a weight that is not finite, a
            conditional model without labels, a model that violates `LatentModel`, or an operation that torch lacks for
            the precision or the device.
        Unavailable: the posterior or the prior has no density.
    """
    with admitted(model, x, labels) as (model, _):
        score = scorer(model, precision, compile)
        return estimate(model, x, k, seed, chunk, score=score, progress=progress).log_likelihood


def has_one_code(model: LatentModel, x: Stack) -> bool:
    """Whether q(z|x) is a point mass on codes, so that all samples are equal; x (n, *data) on the model's device."""
    return isinstance(for_images(model, slice(0, 1)).posterior(x[:1]), PointMass)


def bits_per_dim(log_likelihood: Tensor, dimensions: int) -> Tensor:
    """−log₂ p(x) / D of log p(x), nats, (n,), for images of D values on finitely many levels."""
    return -log_likelihood / (dimensions * math.log(2))


def estimate(
    model: LatentModel,
    x: Tensor,
    k: int = 5000,
    seed: int = 0,
    chunk: int | None = None,
    batch: int | None = None,
    score: Score | None = None,
    start: int = 0,
    progress: Progress | None = None,
) -> Estimates:
    """All estimates from importance samples of checked images; call it inside `evaluation_mode`.

    Args:
        model, x, k, seed, chunk, progress: as in `log_likelihood`.
        batch: most images processed at once.
        score: a `scorer` of the model; default: f32, not compiled.
        start: index of the first image, for messages.
    """
    check_count("k", k)
    for name, size in (("chunk", chunk), ("batch", batch)):
        if size is not None:
            check_count(name, size)
    device, dtype = device_and_dtype(model, x)
    own = own_draw(model)
    room = _pieces(model, x) if own else _room(model, x)
    images = batch or max(1, room // min(k, BLOCK))
    if noisy := _scores_by_noise(model):
        images = 1  # its noise must be keyed by image too
    score = score or scorer(model)
    # Filled in place: no small tensor outlives a chunk's large ones and pins their memory.
    estimates = Estimates(*torch.empty(len(Estimates._fields), len(x), dtype=torch.float64))
    made = estimates._asdict()
    tails = torch.empty(min(tail_length(k) + 1, k), len(x), dtype=torch.float64)
    first = 0
    while first < len(x):
        group = x[first : first + images]
        keys = noise_keys(group, seed)
        group, part = group.to(device, dtype), for_images(model, slice(first, first + images))
        rows = NOISY if noisy else chunk or _halved(min(k, BLOCK), room // len(group))
        if own:
            draws = model_draws(own, group, keys, noise_blocks(k, max(1, min(BLOCK, room))))
        else:
            draws = posterior_draws(part, group, keys, noise_blocks(k), score, rows)
        try:
            folded, tails[:, first : first + images] = _fold(_counted(draws, first, len(x), k, progress), start + first)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or noisy or own or rows == 1:
                raise
            room, images, chunk = max(1, room // 2), max(1, images // 2), chunk and (chunk + 1) // 2
            continue  # with pieces half as large, and the same noise
        for name, figures in folded.items():
            made[name][first : first + images] = figures
        first += images
    estimates.pareto_k.copy_(pareto_k(tails, k))
    return estimates


def no_density(model: LatentModel, x: Stack) -> str | None:
    """Why q(z|x) or p(z) cannot be scored, None where both can; for images x (n, *data) on the model's device."""
    try:
        with absence("the posterior or the prior has no density"):
            if own := own_draw(model):
                own(x[:1], 1)
            else:
                one = for_images(model, slice(0, 1))
                q = one.posterior(x[:1])
                z = sample(q, 1)
                q.log_prob(z)
                one.prior().log_prob(z)
    except Unavailable as error:
        return str(error)
    return None


def no_likelihood(model: LatentModel, x: Stack) -> str | None:
    """Why p(x|z) cannot be scored; None where it can, as that of every family."""
    if isinstance(declared(model), Family):
        return None
    try:
        with absence("p(x|z) has no density"):
            model.likelihood(sample(model.posterior(x[:1]), 1)).log_prob(x[:1])
    except Unavailable as error:
        return str(error)
    return None


def sampled_distortion(model: LatentModel, x: Stack, k: int, seed: int = 0) -> Tensor:
    """−log p(x|z) of images x on the model's device, nats, mean of k ≤ BLOCK samples of q: float64 (n,) on the CPU.

    For models without a density of q or p; call it inside `evaluation_mode`.
    """
    most = max(1, _room(model, x) // k)
    size = 1 if _scores_by_noise(model) else most
    scores = [one.likelihood(sample_posterior(one, some, k, seed)).log_prob(some) for one, some in each(model, x, size)]
    return -torch.cat(scores, 1).double().mean(0).cpu()


def _room(model: LatentModel, x: Stack) -> int:
    """How many samples of an image of x (n, *data) are scored at once: as many as suit the device and its memory."""
    device, _ = device_and_dtype(model, x)
    activations = ACTIVATIONS.get(device.type, ACTIVATIONS["cuda"])
    return max(1, min(_pieces(model, x), activations // max(1, widest(model, x))))


def _pieces(model: LatentModel, x: Stack) -> int:
    """How many samples of an image of x (n, *data) are scored fastest at once."""
    device, _ = device_and_dtype(model, x)
    pixels = x.shape[1:].numel() * LikelihoodTraits.of(declared(model).likelihood).width
    return VALUES.get(device.type, VALUES["cuda"]) // pixels


def widest(model: LatentModel, x: Stack) -> int:
    """Values in the largest tensor that a module of the model returns while one sample of an image of x is scored.

    Convolutions at high resolution hold many times an image's values. 0 where no module is called.
    """
    device, dtype = device_and_dtype(model, x)
    sizes = [0]

    def note(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    one, image = for_images(model, slice(0, 1)), x[:1].to(device, dtype)
    z = sample(one.posterior(image), 1)
    hooks = [module.register_forward_hook(note) for part in modules(model) for module in part.modules()]
    try:
        one.likelihood(z).log_prob(image)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)


def _scores_by_noise(model: LatentModel) -> bool:
    """Whether the likelihood draws noise to score an image, because it has a bound in place of log p(x|z)."""
    return bool(LikelihoodTraits.of(declared(model).likelihood).bound)


def _halved(size: int, limit: int) -> int:
    """`size`, halved until it is at most `limit`, and at least 1, for pieces of equal shape."""
    while size > max(1, limit):
        size = (size + 1) // 2
    return size


def _counted(draws: Iterator[Draw], first: int, n: int, k: int, progress: Progress | None) -> Iterator[Draw]:
    """The draws of one group; reports the fraction of all samples done after each."""
    done = 0
    for draw in draws:
        yield draw
        samples, images = draw.log_q.shape
        done += samples * images
        if progress is not None:
            progress(first / n + done / (n * k))


def _fold(draws: Iterator[Draw], first: int) -> tuple[dict[str, Tensor], Tensor]:
    """Estimates from the draws of one group, in float64, and their largest weights; only weights stay in memory."""
    log_w, distortion, rate = [], torch.zeros(()), torch.zeros(())
    for draw in draws:
        log_q, log_p, log_x = (part.double() for part in draw[1:])
        log_w.append(log_x + log_p - log_q)
        check_weights(log_w[-1], range(first, first + log_w[-1].shape[1]))
        distortion = distortion.to(log_x) - log_x.sum(0)
        rate = rate.to(log_x) + (log_q - log_p).sum(0)
    weights = torch.cat(log_w)
    k = len(weights)
    log_sum = torch.logsumexp(weights, 0)
    corrected, variance = jackknife(weights)
    figures = {"log_likelihood": log_sum - math.log(k), "ess": effective_size(weights)}
    figures |= {"corrected": corrected, "variance": variance, "distortion": distortion / k, "rate": rate / k}
    return figures, largest(weights)


def check_weights(log_w: Tensor, names: Sequence[int]) -> None:
    """Checks that weights (K, b) are finite; the UserError names the first bad image."""
    wrong = ~torch.isfinite(log_w).all(0)
    if wrong.any():
        index = names[int(wrong.nonzero()[0])]
        raise UserError(
            f"the model gives image {index} an importance weight that is not finite, where log p(x|z), log p(z) and "
            "log q(z|x) must be; look for diverged weights or a likelihood that excludes the image"
        )
