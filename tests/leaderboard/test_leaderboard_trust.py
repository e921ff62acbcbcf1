"""What the estimator of a likelihood leaves open enters verdicts, and bounds that stand in for it have no rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_records import IMAGES, fake_arrays, fake_body, metric, row, write_board, write_fake

from vaebench.leaderboard import boards, markdown
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.facts import facts, title
from vaebench.leaderboard.ranking import significant
from vaebench.leaderboard.statistics import compare
from vaebench.leaderboard.versus import versus
from vaebench.leaderboard.versus_text import plain
from vaebench.records import read_records, write_record

LIKELIHOOD = {"k": 1000, "precision": "f32", "compile": False, "corrections": False, "proposal": "refined"}
PROTOCOL = {"name": "refined", "k": 1000, "seed": 0, "split": "test", "n": IMAGES, "version": 2,
            "measurements": {"likelihood": LIKELIHOOD}}  # fmt: skip


def write_refined(path: Path, variant: str, mean: float, used: str = "refined", **figures: float) -> None:
    """Runs whose likelihood was estimated by refined proposals, or where the encoder's bound stands in for that."""
    rng = np.random.default_rng(sum(variant.encode()))
    for seed in range(3):
        arrays = fake_arrays(rng, mean)
        table = {"asked": "refined", "used": used, **({} if used == "refined" else {"reason": "codes are discrete"})}
        body = fake_body(arrays, variant=variant, seed=seed, protocol=PROTOCOL, tables={"proposal": table})
        for name in ("log_likelihood", "nll", "bits_per_dim"):
            body["metrics"][name]["version"] = 2 if used == "refined" else 1
        for name, value in {"untrusted_images": 0.0, **figures}.items():
            body["metrics"][name] = {**metric(np.zeros(2)), "value": value, "higher_is_better": False}
        write_record(path / f"{variant}-{seed}", body, arrays, {})


def board(path: Path, **asked: Any) -> Board:
    (found,) = boards(read_records(path), **asked)
    return found


@pytest.mark.parametrize(("changes", "apart"), [((0.0, 0.0), True), ((3.0, 3.0), True), ((0.0, 3.0), False)])
def test_a_difference_counts_beyond_what_it_changed_from_a_tenth_of_the_samples(tmp_path, changes, apart):
    """The change of the difference: what both gain alike does not matter."""
    for variant, mean, change in zip(("good", "poor"), (2.0, 0.0), changes, strict=True):
        write_refined(tmp_path, variant, mean, log_likelihood_change=change)
    found = board(tmp_path)
    assert [one.rank for one in found.rows] == ([(1, 1), (2, 2)] if apart else [(1, 2), (1, 2)])
    (compared,) = versus("good", "poor", tmp_path)
    assert (compared.verdict, compared.significant) == (("better", True) if apart else ("tie", False))
    assert ("for the estimator" in " ".join(plain([compared]).split())) == (changes[0] != changes[1])


def test_the_wider_gap_to_what_lies_above_the_estimates_opens_the_interval_too(tmp_path):
    write_refined(tmp_path, "good", 2.0, bracket_gap=-0.1, certificate_gap=0.1)
    write_refined(tmp_path, "poor", 0.0, bracket_gap=3.0, certificate_gap=0.2)
    gap = board(tmp_path).rows[1].gap
    assert gap.opened == pytest.approx(3.0)
    assert gap.tie


def test_boards_of_one_data_set_that_differ_in_their_proposal_have_titles_of_their_own(tmp_path):
    """Defect: two boards of one page had the same heading, and nothing but the settings below told them apart."""
    write_refined(tmp_path, "ours", 0.0)
    write_fake(tmp_path / "plain", np.random.default_rng(0))
    titles = {title(one) for one in boards(read_records(tmp_path))}
    assert titles == {"digits · binary · K = 1,000, refined", "digits · binary · K = 1,000"}


def test_bits_are_opened_in_their_own_unit(tmp_path):
    for variant, change in (("good", 0.0), ("poor", 1.5)):
        write_refined(tmp_path, variant, 0.0, log_likelihood_change=change)
    found = board(tmp_path, metric="bits_per_dim")
    assert found.rows[1].gap.opened == pytest.approx(1.5 / (64 * np.log(2)))


def test_what_opens_an_interval_widens_it_on_either_side_by_as_much():
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 1, (3, 50)), rng.normal(0, 1, (3, 50))
    plain, wide = compare(first, second), compare(first, second, opened=0.25)
    assert wide.interval == pytest.approx((plain.interval[0] - 0.25, plain.interval[1] + 0.25))
    assert wide.difference == plain.difference
    assert wide.p > plain.p


def test_pairs_are_told_apart_only_beyond_what_is_open_between_them():
    means, variances = np.array([0.0, 1.0, 2.0]), np.full((4000, 3), 0.01)
    opened = np.zeros((3, 3))
    opened[0, 1] = opened[1, 0] = 1.0
    told = significant(means, np.zeros((3, 3)), 2, variances, opened=opened)
    assert told.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_a_refined_estimate_that_is_mostly_untrusted_decides_nothing(tmp_path):
    write_refined(tmp_path, "best", 5.0, untrusted_images=0.6 * IMAGES)
    write_refined(tmp_path, "good", 2.0, untrusted_images=0.4 * IMAGES)
    write_refined(tmp_path, "poor", 0.0)
    found = board(tmp_path)
    assert [(one.variant, one.rank) for one in found.rows] == [("good", (1, 1)), ("poor", (2, 2)), ("best", None)]
    text = markdown([found])
    assert row(text, "best")[0].startswith("not decided [")
    assert "not decided: on 60 % of its images the weights of the estimate are not to be trusted" in text
    assert "refined for each image" in facts(found)["what it measures"]


def test_a_bound_that_stands_in_for_a_refined_estimate_has_no_rank_and_says_why(tmp_path):
    write_refined(tmp_path, "vae", 0.0)
    write_refined(tmp_path, "vq", 5.0, used="encoder")
    found = board(tmp_path)
    assert [(one.variant, one.rank) for one in found.rows] == [("vae", (1, 1)), ("vq", None)]
    assert "the encoder's bound stands in for a refined estimate: codes are discrete" in markdown([found])


def test_refined_estimates_and_those_of_encoders_never_share_a_board(tmp_path):
    write_refined(tmp_path / "refined", "vae", 0.0)
    write_board(tmp_path / "encoder", {"vae": 0.0})
    assert len(boards(read_records(tmp_path))) == 2


def test_how_far_an_estimate_is_to_be_trusted_are_columns(tmp_path):
    write_refined(tmp_path, "vae", 0.0, log_likelihood_change=0.03, bracket_gap=0.2, ess=321.0, encoder_price=1.5)
    lines = [line for line in markdown([board(tmp_path)]).splitlines() if line.startswith("| rank")]
    for heading in ("rise from K/10 to K", "bracket by AIS", "effective samples", "price of the encoder", "k̂ > 0.7"):
        assert heading in lines[0]


def test_the_share_of_untrusted_images_of_encoders_is_a_column_and_said_in_the_head(tmp_path):
    for seed, share in enumerate((0.5, 1.0)):
        arrays = fake_arrays(np.random.default_rng(seed))
        body = fake_body(arrays, variant=f"v{seed}")
        body["metrics"]["untrusted_images"] = {**metric(np.zeros(2)), "value": share * IMAGES}
        write_record(tmp_path / str(seed), body, arrays, {})
    found = board(tmp_path)
    assert all(one.rank is None and one.provisional for one in found.rows)  # for their seeds, not for their weights
    assert "measures the encoder too" in facts(found)["what it measures"]
    assert "(k̂ > 0.7) on 50–100 % of a row's images" in facts(found)["what it measures"]
