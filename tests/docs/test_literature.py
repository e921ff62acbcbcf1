"""Verdicts on the literature are those that the published spreads give."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from vaebench.leaderboard.verdicts import judge_claim

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("literature", ROOT / "docs" / "literature.py")
literature = importlib.util.module_from_spec(SPEC)
sys.modules["literature"] = literature
SPEC.loader.exec_module(literature)
PAGE = literature.PAGE.read_text(encoding="utf-8")
VERDICTS = {
    ("vdvae_s0", "nvae_cifar10"): "not decidable",
    ("norouzi_exemplar_mnist", "norouzi_vamp_mnist"): "holds",
    ("norouzi_exemplar_fashion", "norouzi_vamp_fashion"): "holds",
    ("norouzi_exemplar_omniglot", "norouzi_vamp_omniglot"): "holds",
    ("norouzi_vamp_mnist", "norouzi_vae_mnist"): "holds",
    ("sylvester_planar", "sylvester_none"): "holds",
    ("sylvester_iaf", "sylvester_planar"): "holds",
    ("sylvester_sylvester", "sylvester_iaf"): "holds",
    ("frey_planar", "frey_none"): "not decidable",
    ("frey_ffjord", "frey_sylvester"): "not decidable",
    ("rainforth_piwae", "rainforth_miwae"): "holds",
    ("rainforth_piwae", "rainforth_ciwae"): "not decidable",
    ("burda_iwae_k5", "burda_vae_k1"): "not decidable",
    ("nvae_no_flow", "nvae_flow"): "not decidable",
}


def test_the_page_s_table_is_that_of_published_csv() -> None:
    assert literature.written(PAGE) == PAGE, "python docs/literature.py writes it anew"


@pytest.mark.parametrize("claim", literature.CLAIMS, ids=lambda claim: f"{claim.better}-{claim.worse}")
def test_a_claim_is_judged_by_the_spreads_of_its_table(claim: literature.Claim) -> None:
    """The interval lies between that of Welch's t on the pair alone and the normal one; the difference is plain."""
    found, table = literature.verdict(claim), {group[0].id: group for group in literature.groups(claim.table)}
    assert found.verdict == VERDICTS[claim.better, claim.worse]
    pair = [table[claim.better], table[claim.worse]]
    means = [np.mean([abs(figure.value) for figure in group]) for group in pair]
    assert found.difference == pytest.approx(means[1] - means[0])
    assert (found.interval is None) == any(len(group) == 1 and not group[0].trainings for group in pair)
    if found.interval is not None:
        assert (found.p < 0.05) == (found.interval[0] > 0)
        half, spreads = (found.interval[1] - found.interval[0]) / 2, [float(group[0].spread) for group in pair]
        assert half < scipy.stats.t.isf(0.025, 2) * np.hypot(*spreads) / 3**0.5


def test_claims_turn_where_the_spreads_are_wide() -> None:
    """With tenfold spreads no claim about MNIST holds, and with the models changed places it is reversed."""
    table = literature.groups("Norouzi, MNIST")
    wide = [[replace(group[0], spread=str(10 * float(group[0].spread)))] for group in table]
    assert judge_claim("norouzi_vamp_mnist", "norouzi_vae_mnist", wide).verdict == "not decidable"
    assert judge_claim("norouzi_vae_mnist", "norouzi_vamp_mnist", table).verdict == "reversed"


def test_the_page_says_which_verdicts_turn_where_a_spread_is_a_standard_error() -> None:
    turned = []
    for claim in literature.CLAIMS:
        table = literature.groups(claim.table)
        wide = [
            [replace(f, spread=str(3**0.5 * float(f.spread))) if f.trainings else f for f in group] for group in table
        ]
        if judge_claim(claim.better, claim.worse, wide).verdict != literature.verdict(claim).verdict:
            turned.append(f"{claim.words} ({claim.table})")
    assert f"then {', '.join(turned)} would be open as well" in " ".join(PAGE.split())


def test_the_page_s_figures_of_vdvae_are_its_seeds() -> None:
    seeds, (nvae,) = ([figure.value for figure in group] for group in literature.groups("CIFAR-10"))
    sd = np.std(seeds, ddof=1)
    p = 2 * scipy.stats.t.sf((nvae - np.mean(seeds)) / (sd * np.sqrt(1 + 1 / 4)), 3)
    words = " ".join(PAGE.split())
    assert f"between {min(seeds)} and {max(seeds)}, with a standard deviation of {sd:.3f} bits" in words
    assert f"a difference of {nvae - np.mean(seeds):.3f} from its one figure would have p = {p:.2f}" in words
