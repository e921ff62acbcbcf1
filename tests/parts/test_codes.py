"""Codes: quantisation, their distributions and networks, against enumeration, literal loops and scipy."""

from __future__ import annotations

import itertools
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from codewords import _words
from torch import Tensor

from vaebench.distributions.codes import Categorical, PointMass, Relaxed, Sequential, gumbel
from vaebench.errors import UserError
from vaebench.functional.quantisation import (
    Memory,
    Quantised,
    assignment_entropies,
    book_of,
    commitment,
    drawn,
    entropy,
    grid,
    looked_up,
    moved,
    nearest_codes,
    quantised,
    quantised_signs,
    revived,
    rounded,
    taken,
)
from vaebench.networks.codes import Causal, CausalGrid, CodeNetwork
from vaebench.posteriors.codes import VectorQuantised

DOUBLE = torch.float64
LEVELS = [(2, 3), (5,), (8, 6, 5), (4, 4)]


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# Quantisation ---------------------------------------------------------------------------------------------------------


def test_the_nearest_code_is_the_one_a_search_over_all_finds() -> None:
    """An argmin over the wrong axis would pick a place, not a code."""
    vectors, book = _noise(5, 4, 2, 3), _noise(2, 7, 3, seed=1)
    found = nearest_codes(vectors, book)
    for b, i, level in itertools.product(range(5), range(4), range(2)):
        distances = [float((vectors[b, i, level] - code).norm()) for code in book[level]]
        assert int(found[b, i, level]) == int(np.argmin(distances))
    assert torch.equal(nearest_codes(looked_up(found, book), book), found)


def test_residual_quantisation_leaves_to_each_level_what_the_levels_before_it_left_over() -> None:
    vectors, book = _noise(6, 4, 3), torch.stack([_noise(9, 3, seed=s) / 2**s for s in range(3)])
    found = quantised(vectors, book)
    rest = vectors
    for level in range(3):
        torch.testing.assert_close(found.inputs[:, :, level], rest)
        closest = torch.cdist(rest, book[level]).argmin(-1)
        assert torch.equal(found.indices[:, :, level], closest)
        rest = rest - book[level][closest]
    torch.testing.assert_close(vectors - found.codes.sum(-2), rest)


def test_the_commitment_of_an_image_does_not_depend_on_the_images_beside_it() -> None:
    vectors, book = _noise(8, 4, 3).requires_grad_(), _noise(1, 5, 3, seed=1)
    whole = commitment(quantised(vectors, book))
    alone = torch.cat([commitment(quantised(v[None], book)) for v in vectors])
    assert torch.equal(whole, alone)
    literal = sum(float(torch.cdist(v[None], book[0])[0].min() ** 2) for v in vectors[0].detach())
    assert float(whole[0].detach()) == pytest.approx(literal)
    gradients = [
        torch.autograd.grad(commitment(quantised(v, book)).mean(), vectors)[0]
        for v in (vectors, vectors.repeat(3, 1, 1))
    ]
    torch.testing.assert_close(*gradients)


def test_the_codebook_follows_the_literal_moving_averages() -> None:
    """van den Oord et al. 2017, appendix A.1, with counts over the number of places; and Laplace smoothing."""
    size, decay = 5, 0.9
    memory = Memory(torch.full((2, size), 0.2, dtype=DOUBLE), _noise(2, size, 3) / size)
    shares, sums = memory.shares.tolist(), memory.sums.clone()
    for seed in range(4):
        found = quantised(_noise(7, 2, 3, seed=10 + seed), book_of(memory))
        for level, code in itertools.product(range(2), range(size)):
            mine = [(b, i) for b in range(7) for i in range(2) if int(found.indices[b, i, level]) == code]
            shares[level][code] = decay * shares[level][code] + (1 - decay) * len(mine) / 14
            written = sum((found.inputs[b, i, level] for b, i in mine), torch.zeros(3, dtype=DOUBLE)) / 14
            sums[level, code] = decay * sums[level, code] + (1 - decay) * written
        memory = moved(memory, taken(found, size), torch.tensor(decay))
    torch.testing.assert_close(memory.shares, torch.tensor(shares, dtype=DOUBLE))
    torch.testing.assert_close(memory.sums, sums)
    smooth = [(share + 1e-5) / (sum(row) + size * 1e-5) * sum(row) for row in shares for share in row]
    torch.testing.assert_close(book_of(memory).flatten(0, 1), sums.flatten(0, 1) / torch.tensor(smooth)[:, None])


def test_a_code_that_nobody_takes_keeps_a_finite_vector() -> None:
    """Without Laplace smoothing its average is 0 / 0."""
    memory = Memory(torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0], [0.0]]]))
    assert torch.isfinite(book_of(memory)).all()
    assert float(book_of(memory)[0, 0, 0]) == pytest.approx(2.0, rel=1e-4)


def test_dead_codes_start_anew_at_vectors_of_the_batch_and_others_stay() -> None:
    torch.manual_seed(0)  # one time in 40 both start at one vector
    vectors = torch.cat([_noise(20, 2) / 10, _noise(20, 2, seed=1) / 10 + 5])[:, None]
    book = torch.tensor([[[0.0, 0.0], [100.0, 100.0], [-100.0, 0.0]]], dtype=DOUBLE)
    found = quantised(vectors, book)
    before = moved(Memory(torch.full((1, 3), 1 / 3, dtype=DOUBLE), book / 3), taken(found, 3), torch.tensor(0.0))
    dead = before.shares < 0.01
    assert dead.tolist() == [[False, True, True]]
    after = revived(before, drawn(found, 3), dead)
    assert torch.equal(after.shares[0, 1:], torch.full((2,), 1 / 3, dtype=DOUBLE))
    assert torch.equal(after.sums[0, 0], before.sums[0, 0])
    new = book_of(after)[0, 1:]
    assert (torch.cdist(new, vectors[:, 0]).min(1).values < 1e-3).all()
    assert not torch.equal(new[0], new[1])


class Together:
    """Two processes as two threads, which exchange figures as they come to them."""

    def __init__(self) -> None:
        self.barrier, self.told = threading.Barrier(2, timeout=60), [torch.empty(0)] * 2

    def of(self, rank: int) -> Any:
        return SimpleNamespace(
            pooled=lambda figure: torch.stack(self.exchanged(rank, figure)).mean(0),
            of_first=lambda figure: self.exchanged(rank, figure)[0],
        )

    def exchanged(self, rank: int, figure: Tensor) -> list[Tensor]:
        self.told[rank] = figure
        self.barrier.wait()
        found = list(self.told)
        self.barrier.wait()
        return found


@pytest.mark.parametrize("t", [0.0, 1.0], ids=["all start anew", "the dead start anew"])
def test_processes_that_train_together_start_dead_codes_at_one_vector_of_a_batch(t: float) -> None:
    """Defect: each looked for dead codes by its own images and drew for itself, and means of two draws were codes."""
    torch.manual_seed(0)
    posterior = VectorQuantised((1, 4, 4), (3,), codes=6, width=2).double()
    x = torch.rand(8, 1, 4, 4, dtype=DOUBLE)
    decay, least, learns = torch.tensor(0.0), torch.tensor(0.5), torch.tensor(True)
    alone = SimpleNamespace(pooled=lambda figure: figure, of_first=lambda figure: figure)
    nearest = [posterior.read(part)[1] for part in (x[:4], x[4:], x)]
    size, step = 6, torch.tensor(t)
    threads = Together()
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(posterior.after, nearest[rank], decay, least, step, learns, threads.of(rank)) for rank in (0, 1)
        ]
        found = [job.result() for job in jobs]
    whole = posterior.after(nearest[2], decay, least, step, learns, alone)
    shares, sums = found[0]["posterior.shares"][0], found[0]["posterior.sums"][0]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    dead = (taken(nearest[2], size).shares[0] < 0.5 / size) | (step == 0)
    assert dead.any()
    assert dead.all() == (t == 0)
    torch.testing.assert_close(sums[~dead], whole["posterior.sums"][0][~dead])
    torch.testing.assert_close(shares, whole["posterior.shares"][0])
    vectors = nearest[0].inputs.flatten(0, -2).detach()
    assert (torch.cdist(sums[dead] * size, vectors).min(1).values < 1e-12).all()


def test_perplexity_counts_codes_and_not_places() -> None:
    found = Quantised(torch.tensor([[[0], [1]], [[2], [3]], [[0], [1]], [[2], [3]]]), *[torch.zeros(4, 2, 1, 1)] * 2)
    assert float(entropy(taken(found, 8).shares).exp()) == pytest.approx(4.0)
    constant = Quantised(torch.full((4, 2, 1), 5), *[torch.zeros(4, 2, 1, 1)] * 2)
    assert float(entropy(taken(constant, 8).shares).exp()) == pytest.approx(1.0)
    shares = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=DOUBLE)
    assert float(entropy(shares)) == pytest.approx(scipy.stats.entropy(shares.numpy()))


@pytest.mark.parametrize("levels", LEVELS)
def test_every_level_of_a_finite_scalar_is_reached_and_nothing_else(levels: tuple[int, ...]) -> None:
    book = grid(levels).double()
    assert book.shape == (1, math.prod(levels), len(levels))
    assert len(book[0].unique(dim=0)) == math.prod(levels)
    values = rounded(_noise(200_000, len(levels)) * 3, torch.tensor(levels))
    found = values.unique(dim=0)
    torch.testing.assert_close(found, book[0].unique(dim=0), rtol=0, atol=1e-7)
    indices = torch.arange(book.shape[1])[:, None]
    assert torch.equal(nearest_codes(looked_up(indices, book), book), indices)
    zero = torch.zeros(1, len(levels), dtype=DOUBLE)
    assert torch.equal(rounded(zero, torch.tensor(levels)), zero)


def test_odd_levels_of_a_finite_scalar_are_the_papers_rounded_tanh() -> None:
    z = _noise(100, 2).requires_grad_()
    value = rounded(z, torch.tensor((5, 7)))
    half = torch.tensor([2.0, 3.0], dtype=DOUBLE)
    torch.testing.assert_close(value, (torch.tanh(z) * half * 1.001).round() / half)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(gradient, (1 - torch.tanh(z) ** 2) * 1.001)


def test_undecided_vectors_are_counted_as_a_loop_over_all_codes_does() -> None:
    vectors, book = _noise(3, 2, 3), 2 * grid([2] * 3).double() + 1
    assert torch.equal(book[0].unique(dim=0), book[0])
    assert set(book.flatten().tolist()) == {-1.0, 1.0}
    squares = torch.stack([(vectors - code).square().sum(-1) for code in book[0]], -1)
    p = torch.softmax(-squares / 0.7, -1).flatten(0, 1)
    each, together = assignment_entropies(vectors, book, torch.tensor(0.7))
    assert float(each) == pytest.approx(np.mean([scipy.stats.entropy(row) for row in p.numpy()]))
    assert float(together) == pytest.approx(scipy.stats.entropy(p.mean(0).numpy()))
    assert float(each) < float(together)


def test_signs_are_the_nearest_corners_with_the_gradient_straight_through() -> None:
    vectors = _noise(20, 4).requires_grad_()
    book = 2 * grid([2] * 4).double() + 1
    z = quantised_signs(vectors)
    assert torch.equal(z.detach(), looked_up(nearest_codes(vectors[:, None].detach(), book), book)[:, 0])
    (gradient,) = torch.autograd.grad((z * _noise(20, 4, seed=1)).sum(), vectors)
    assert torch.equal(gradient, _noise(20, 4, seed=1))


# Distributions --------------------------------------------------------------------------------------------------------


def test_codes_and_their_numbers_tell_each_other() -> None:
    book = _noise(2, 5, 3)
    p = Categorical(_noise(6, 5, seed=1), book, places=3)
    indices = torch.randint(5, (4, 6), generator=torch.Generator().manual_seed(0))
    z = p.vectors(indices)
    assert z.shape == (4, 18)
    torch.testing.assert_close(z[1].reshape(3, 2, 3)[2, 1], book[1, indices[1, 5]])
    assert torch.equal(p.indices(z), indices)


def test_categorical_codes_sum_to_one_and_sample_what_they_score() -> None:
    torch.manual_seed(0)
    p = Categorical(_noise(2, 3), _noise(1, 3, 2, seed=1), places=2)
    words = _words(2, 3)
    log_p = p.log_prob(p.vectors(words))
    assert float(log_p.exp().sum()) == pytest.approx(1.0)
    _assert_sampled(p, words, log_p)
    torch.testing.assert_close(p.mean, (log_p.exp()[:, None] * p.vectors(words)).sum(0))


def test_divergences_of_codes_are_sums_over_all_of_them() -> None:
    book, words = _noise(1, 3, 2), _words(2, 3)
    q, p = (Categorical(_noise(4, 2, 3, seed=s), book, places=2) for s in (1, 2))
    z = q.vectors(words)[:, None]
    log_q, log_p = q.log_prob(z), p.log_prob(z)
    torch.testing.assert_close(torch.distributions.kl_divergence(q, p), (log_q.exp() * (log_q - log_p)).sum(0))
    point = PointMass(q.vectors(words[3:5]), book, places=2)
    first = Categorical(p.logits[:2], book, places=2)
    torch.testing.assert_close(torch.distributions.kl_divergence(point, first), -first.log_prob(point.point))


def test_a_point_mass_is_one_there_and_nothing_elsewhere() -> None:
    book, words = _noise(2, 3, 2), _words(2, 3)
    q = PointMass(Categorical(torch.zeros(2, 3, dtype=DOUBLE), book, places=1).vectors(words[4:5]), book, places=1)
    log_q = q.log_prob(q.vectors(words)[:, None])
    assert log_q.exp()[:, 0].tolist() == [float(i == 4) for i in range(9)]
    assert torch.equal(q.rsample((3,)), q.point.expand(3, 1, 4))


def test_a_point_mass_does_not_care_which_of_two_equal_codes_is_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: log q was −∞ at its own point, where rounding took the other of two equal codes."""
    book = torch.tensor([[[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]]])
    q = PointMass(book[0, :1], book, places=1)
    taken = iter((1, 0))
    monkeypatch.setattr(PointMass, "indices", lambda *_: torch.tensor([[next(taken)]]))
    assert q.log_prob(q.rsample()).tolist() == [0.0]


def test_relaxed_codes_of_two_integrate_to_one() -> None:
    p = Relaxed(torch.tensor([[0.3, -0.9]], dtype=DOUBLE), torch.tensor(0.7, dtype=DOUBLE))

    def density(z: float) -> float:
        return float(p.log_prob(torch.tensor([z, 1 - z], dtype=DOUBLE)).exp())

    assert scipy.integrate.quad(density, 0, 1, epsabs=1e-10, limit=200)[0] == pytest.approx(1.0, abs=1e-6)


def test_relaxed_codes_of_three_integrate_to_one() -> None:
    """Over logits u of z = softmax(u, 0), whose volume is dz₁ dz₂ = z₁ z₂ z₃ du₁ du₂."""
    p = Relaxed(torch.tensor([[0.3, -0.9, 0.5]], dtype=DOUBLE), torch.tensor(0.7, dtype=DOUBLE))
    line = torch.linspace(-60, 60, 1201, dtype=DOUBLE)
    logits = torch.stack([*torch.meshgrid(line, line, indexing="ij"), torch.zeros(1201, 1201, dtype=DOUBLE)], -1)
    log_z = torch.log_softmax(logits, -1)
    total = torch.logsumexp((p.log_prob(log_z.exp()) + log_z.sum(-1)).flatten(), 0).exp() * 0.1**2
    assert float(total) == pytest.approx(1.0, abs=1e-4)


def test_relaxed_codes_are_torchs() -> None:
    torch.manual_seed(0)
    logits, tau = _noise(4, 2, 3), torch.tensor(0.6, dtype=DOUBLE)
    p = Relaxed(logits, tau)
    theirs = torch.distributions.Independent(torch.distributions.RelaxedOneHotCategorical(tau, logits=logits), 1)
    z = p.rsample((5,))
    torch.testing.assert_close(p.log_prob(z), theirs.log_prob(z.unflatten(-1, (2, 3))))
    torch.testing.assert_close(z.unflatten(-1, (2, 3)).sum(-1), torch.ones(5, 4, 2, dtype=DOUBLE))


def test_relaxed_codes_are_largest_where_the_codes_are() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[0.5, -1.0, 0.2]], dtype=DOUBLE)
    largest = Relaxed(logits, torch.tensor(0.7, dtype=DOUBLE)).rsample((40_000,)).argmax(-1)
    expected = logits[0].softmax(-1).numpy() * 40_000
    assert scipy.stats.chisquare(np.bincount(largest.numpy(), minlength=3), expected).pvalue > 1e-3


def test_straight_through_samples_are_one_hot_with_the_gradient_of_the_relaxed_ones() -> None:
    logits, direction = _noise(4, 2, 3).requires_grad_(), _noise(1, 4, 6, seed=1)
    gradients = []
    for sample in ("straight_through", "rsample"):
        torch.manual_seed(0)
        z = getattr(Relaxed(logits, torch.tensor(0.6, dtype=DOUBLE)), sample)((1,))
        gradients.append(torch.autograd.grad((z * direction).sum(), logits)[0])
        if sample == "straight_through":
            assert set(z.detach().flatten().tolist()) == {0.0, 1.0}
            assert torch.equal(z.detach().unflatten(-1, (2, 3)).sum(-1), torch.ones(1, 4, 2, dtype=DOUBLE))
    torch.testing.assert_close(*gradients)


def test_gumbel_noise_is_scipys() -> None:
    torch.manual_seed(0)
    noise = gumbel(torch.Size((5_000,)), torch.zeros((), dtype=DOUBLE))
    assert scipy.stats.kstest(noise.numpy(), scipy.stats.gumbel_r.cdf).pvalue > 1e-3


# Networks -------------------------------------------------------------------------------------------------------------


NETWORKS = {
    "sequence": lambda: Causal(4, 3, width=8),
    "square": lambda: CausalGrid(4, 3, channels=8, layers=3),
    "row": lambda: CausalGrid(4, 3, rows=1, channels=8, layers=4),
    "column": lambda: CausalGrid(4, 3, rows=4, channels=8, layers=4),
}
every_network = pytest.mark.parametrize("kind", NETWORKS)


def _network(kind: str) -> CodeNetwork:
    torch.manual_seed(0)
    return NETWORKS[kind]().double()


@every_network
def test_a_causal_network_reads_all_codes_before_and_no_other(kind: str) -> None:
    net = _network(kind)
    words = torch.randint(3, (16, 4))
    logits = net(words)
    assert logits.shape == (16, 4, 3)
    assert torch.equal(net(words.view(2, 8, 4)), logits.view(2, 8, 4, 3))
    for i in range(4):
        changed = words.clone()
        changed[:, i] = (changed[:, i] + 1) % 3
        moves = (net(changed) - logits).abs().amax((0, 2)) > 1e-12
        assert moves.tolist() == [j > i for j in range(4)]


@pytest.mark.parametrize("rows", [None, 2, 6])
def test_a_grid_of_codes_is_causal_by_its_gradients(rows: int | None) -> None:
    """With a vector of its own for each code, its gradient tells which of the logits read it: all after it alone."""
    torch.manual_seed(0)
    count = 9 if rows is None else 12
    net = CausalGrid(count, count, rows=rows, channels=8, layers=5).double()
    logits = net(torch.arange(count)[None])[0]
    for j in range(count):
        (gradient,) = torch.autograd.grad(logits[j].sum(), net.code, retain_graph=True)
        assert (gradient.abs().sum(-1) > 0).tolist() == [i < j for i in range(count)]


@every_network
def test_an_autoregressive_prior_sums_to_one_over_all_codes_and_samples_what_it_scores(kind: str) -> None:
    p = Sequential(_network(kind), _noise(1, 3, 2), places=4)
    words = _words(4, 3)
    with torch.no_grad():
        for parameter in p.net.parameters():
            parameter.mul_(2)  # so that codes depend on one another
        log_p = p.log_prob(p.vectors(words))
    assert float(log_p.exp().sum()) == pytest.approx(1.0)
    _assert_sampled(p, words, log_p)
    alone = torch.stack([(log_p.exp()[:, None] * (words == code)).sum(0) for code in range(3)])  # (3, m)
    independent = alone[words, torch.arange(4)].prod(-1)
    assert float((log_p.exp() - independent).abs().sum()) > 0.05, "the test can tell an autoregressive model"


@every_network
def test_logits_while_sampling_are_those_of_the_finished_sequence(kind: str) -> None:
    net, seen = _network(kind), []

    def pick(logits: Tensor) -> Tensor:
        seen.append(logits)
        return torch.randint(3, (len(logits),))

    with torch.no_grad():
        words = net.sample(pick, 6)
        torch.testing.assert_close(torch.stack(seen, 1), net(words))
    assert words.shape == (6, 4)


def test_a_fitted_grid_reaches_the_joint_entropy_of_codes_that_repeat_their_neighbour() -> None:
    """Rows of one code each: 3 ln 4 nats, where codes that do not look at one another would take 9 ln 4."""
    torch.manual_seed(0)
    net = CausalGrid(9, 4, channels=16, layers=3)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        words = torch.randint(4, (64, 3, 1)).expand(64, 3, 3).flatten(1)
        rate = torch.nn.functional.cross_entropy(net(words).flatten(0, 1), words.flatten()) * 9
        optimizer.zero_grad()
        rate.backward()
        optimizer.step()
    assert float(rate.detach()) == pytest.approx(3 * math.log(4), abs=0.1)
    drawn = net.sample(lambda logits: torch.distributions.Categorical(logits=logits).sample(), 200)
    assert float((drawn.view(200, 3, 3) == drawn.view(200, 3, 3)[..., :1]).float().mean()) > 0.98


def test_samples_of_an_autoregressive_prior_have_the_shape_asked_for() -> None:
    p = Sequential(_network("square"), _noise(1, 3, 2), places=4)
    assert p.sample().shape == (8,)
    assert p.sample((2, 5)).shape == (2, 5, 8)


@pytest.mark.parametrize(
    ("count", "rows", "what"), [(8, None, "square"), (9, 2, "grid of 2 rows"), (9, 0, "grid of 0 rows")]
)
def test_codes_that_make_no_grid_are_refused(count: int, rows: int | None, what: str) -> None:
    with pytest.raises(
        UserError, match=rf"^CausalGrid has {count} codes, which make no {what}: .*net\.rows.*model\.latent$"
    ):
        CausalGrid(count, 3, rows=rows)


def _assert_sampled(p: Categorical | Sequential, words: Tensor, log_p: Tensor) -> None:
    size = p.size
    numbers = (p.indices(p.sample((20_000,))) * torch.tensor([size**i for i in range(p.count)][::-1])).sum(-1)
    counts = np.bincount(numbers.numpy(), minlength=len(words))
    probabilities = log_p.exp().numpy()
    assert scipy.stats.chisquare(counts, 20_000 * probabilities / probabilities.sum()).pvalue > 1e-3
