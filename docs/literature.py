"""Writes the table of docs/literature.md: claims that one model is better, judged by the spreads that were published.

    python docs/literature.py

It stands between the marks `<!-- literature -->` and `<!-- end -->`; its figures are those of published.csv.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vaebench.files import rewrite
from vaebench.leaderboard.comparable import BITS
from vaebench.leaderboard.published import Figure, published_figures
from vaebench.leaderboard.verdicts import JudgedClaim, judge_claim

PAGE = Path(__file__).with_name("literature.md")
MARKED = re.compile(r"(<!-- literature -->\n)(.*?)(<!-- end -->)", re.DOTALL)
VDVAE = "vdvae_s0 vdvae_s1 vdvae_s2 vdvae_s3"
TABLES = {  # models that were measured alike: groups of ids of published.csv, each one figure or one for each training
    "CIFAR-10": (VDVAE, "nvae_cifar10"),
    "Norouzi, MNIST": ("norouzi_vae_mnist", "norouzi_vamp_mnist", "norouzi_exemplar_mnist"),
    "Norouzi, Fashion-MNIST": ("norouzi_vae_fashion", "norouzi_vamp_fashion", "norouzi_exemplar_fashion"),
    "Norouzi, Omniglot": ("norouzi_vae_omniglot", "norouzi_vamp_omniglot", "norouzi_exemplar_omniglot"),
    "flows, static MNIST": ("sylvester_none", "sylvester_planar", "sylvester_iaf", "sylvester_sylvester"),
    "flows, Frey faces": ("frey_none", "frey_planar", "frey_iaf", "frey_sylvester", "frey_ffjord"),
    "Rainforth, MNIST": ("rainforth_miwae", "rainforth_piwae", "rainforth_ciwae"),
    "Burda, static MNIST": ("burda_vae_k1", "burda_iwae_k5", "burda_iwae_k50"),
    "NVAE, MNIST": ("nvae_no_flow", "nvae_flow"),
}


class Claim(NamedTuple):
    """One model is said to be better than another, by the ids of the first figures of their groups, in a table."""

    words: str
    table: str
    better: str
    worse: str


CLAIMS = (
    Claim("VDVAE beats NVAE", "CIFAR-10", "vdvae_s0", "nvae_cifar10"),
    Claim("exemplars beat a VampPrior", "Norouzi, MNIST", "norouzi_exemplar_mnist", "norouzi_vamp_mnist"),
    Claim("exemplars beat a VampPrior", "Norouzi, Fashion-MNIST", "norouzi_exemplar_fashion", "norouzi_vamp_fashion"),
    Claim("exemplars beat a VampPrior", "Norouzi, Omniglot", "norouzi_exemplar_omniglot", "norouzi_vamp_omniglot"),
    Claim("a VampPrior beats the standard prior", "Norouzi, MNIST", "norouzi_vamp_mnist", "norouzi_vae_mnist"),
    Claim("planar flows help", "flows, static MNIST", "sylvester_planar", "sylvester_none"),
    Claim("IAF beats planar flows", "flows, static MNIST", "sylvester_iaf", "sylvester_planar"),
    Claim("Sylvester flows beat IAF", "flows, static MNIST", "sylvester_sylvester", "sylvester_iaf"),
    Claim("planar flows help", "flows, Frey faces", "frey_planar", "frey_none"),
    Claim("FFJORD beats Sylvester flows", "flows, Frey faces", "frey_ffjord", "frey_sylvester"),
    Claim("PIWAE beats MIWAE", "Rainforth, MNIST", "rainforth_piwae", "rainforth_miwae"),
    Claim("PIWAE beats CIWAE", "Rainforth, MNIST", "rainforth_piwae", "rainforth_ciwae"),
    Claim("IWAE with k = 5 beats the VAE", "Burda, static MNIST", "burda_iwae_k5", "burda_vae_k1"),
    Claim("NVAE does without flows", "NVAE, MNIST", "nvae_no_flow", "nvae_flow"),
)


def groups(table: str) -> list[list[Figure]]:
    """The figures of a table, one list a model."""
    known: Mapping[str, Figure] = {figure.id: figure for figure in published_figures()}
    return [[known[name] for name in names.split()] for names in TABLES[table]]


def verdict(claim: Claim) -> JudgedClaim:
    """What the published spreads say of a claim."""
    return judge_claim(claim.better, claim.worse, groups(claim.table))


def lines() -> str:
    """The table as Markdown."""
    rows = [["claim", "where", "better", "worse", "difference", "95 % interval", "p", "verdict"],
            [":--", ":--", "--:", "--:", "--:", "--:", "--:", ":--"]]  # fmt: skip
    for claim in CLAIMS:
        table = {group[0].id: group for group in groups(claim.table)}
        found, pair = verdict(claim), [table[claim.better], table[claim.worse]]
        digits = 3 if pair[0][0].metric == BITS else 2
        interval = "no spread" if found.interval is None else " to ".join(_signed(v, digits) for v in found.interval)
        p = "–" if found.p is None else f"{found.p:.3f}" if found.p >= 0.001 else "< 0.001"
        shown = [_shown(group) for group in pair]
        rows.append([claim.words, claim.table, *shown, _signed(found.difference, digits), interval, p, found.verdict])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _shown(group: list[Figure]) -> str:
    if len(group) > 1:
        return ", ".join(figure.written for figure in group)
    return f"{group[0].written}{f' ± {group[0].spread}' if group[0].trainings else ''}"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def written(page: str) -> str:
    """The page with its table as published.csv has it."""
    return MARKED.sub(lambda found: f"{found[1]}{lines()}{found[3]}", page)


def main() -> None:
    if rewrite(PAGE, written):
        print(PAGE)


if __name__ == "__main__":
    main()
