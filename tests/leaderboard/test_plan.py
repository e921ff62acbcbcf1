"""How many seeds and images see a difference, and what that costs: closed forms, simulation, and what is printed."""

from __future__ import annotations

import numpy as np
import pytest
from fake_records import IMAGES, fake_arrays, fake_body, write_board
from scipy import stats

from vaebench.cli import main
from vaebench.errors import UserError
from vaebench.leaderboard.moderation import Trainings, evidence, trainings
from vaebench.leaderboard.plan import planned, plans
from vaebench.leaderboard.power import Size, Variation, assumed, freedom, variation
from vaebench.leaderboard.statistics import compare
from vaebench.records import write_record
from vaebench.records.calibration import Calibration, write_calibration


def known(sd: float = 1.0, images: float = 0.0, degrees: float = 1e4) -> Variation:
    """Noise over trainings that is known with so many degrees of freedom."""
    return Variation(images, np.zeros(2), np.full((1, 2), sd**2), np.full(2, degrees), np.full(2, 3))


def test_with_known_noise_power_is_that_of_the_normal_test():
    for seeds in (2, 5, 20):
        error = np.sqrt(2 / seeds + 4 / 100)
        found = known(1.0, 4.0).power(1.5, Size(seeds, 100))
        assert known(1.0, 4.0).error(Size(seeds, 100)) == pytest.approx(error)
        assert found == pytest.approx(stats.norm.sf(1.96 - 1.5 / error), abs=0.01)


def test_with_seeds_alone_power_is_that_of_students_test():
    """Two times five seeds, nothing known before: eight degrees of freedom."""
    one = Variation(0.0, np.zeros(2), np.ones((1, 2)), np.zeros(2), np.ones(2))
    power = stats.nct.sf(stats.t.ppf(0.975, 8), 8, 2 / np.sqrt(2 / 5))
    assert one.power(2.0, Size(5, 100)) == pytest.approx(power, abs=1e-6)


def test_seeds_and_smallest_difference_agree_with_the_power():
    one = known(1.0, 1.0, 10)
    seeds = one.seeds_for(1.2, 100, 0.8)
    assert seeds is not None
    assert one.power(1.2, Size(seeds, 100)) >= 0.8 > one.power(1.2, Size(seeds - 1, 100))
    assert one.power(one.detectable(Size(6, 100), 0.9), Size(6, 100)) == pytest.approx(0.9, abs=1e-3)
    assert one.seeds_for(0.1, 100, 0.8) is None, "images alone have a standard error of 0.1"


def test_degrees_of_freedom_are_those_of_a_scaled_inverse_chi_square():
    rng = np.random.default_rng(0)
    drawn = np.stack([5 / rng.chisquare(5, 40_000), 30 / rng.chisquare(30, 40_000)], 1)
    assert freedom(drawn) == pytest.approx([5, 30], rel=0.05)


def test_the_parts_of_an_error_are_found_again():
    rng, n = np.random.default_rng(1), 4000
    taste = rng.normal(0, 2.0, (2, n))
    pair = [taste[i] + rng.normal(0, 1, (4, 1)) + rng.normal(0, 3.0, (4, n)) for i in range(2)]
    found = assumed(*pair, 1.0)
    assert found.images == pytest.approx(8, rel=0.1)
    assert found.rest == pytest.approx([9, 9], rel=0.1)


def test_as_many_are_seen_as_was_planned():
    """A board of eight variants with three seeds; then two of them, a bit apart, get five."""
    rng, planned_power, seen = np.random.default_rng(2), [], []
    for _ in range(60):
        every = [rng.normal(0, 1, (5, 1)) + rng.normal(0, 0.5, (5, 40)) for _ in range(8)]
        every[0] = every[0] + 1.7
        small = [one[:3] for one in every]
        noise = trainings(evidence(small), draws=500)
        planned_power.append(variation(*small[:2], noise.of(0, 1)).power(1.7, Size(5, 40)))
        more = [*every[:2], *small[2:]]
        seen.append(not compare(*every[:2], trainings(evidence(more), draws=500).of(0, 1)).tie)
    assert np.mean(planned_power) == pytest.approx(np.mean(seen), abs=0.15)


# From records -----------------------------------------------------------------------------------------------------


def test_a_plan_counts_what_is_lacking_and_what_it_costs(tmp_path):
    write_board(tmp_path, {"vae": 0.0, "iwae": 0.5, "other": 5.0})
    (found,) = plans("iwae", "vae", tmp_path, difference=2.0)
    assert found.more(5) == [2, 2]
    training, image = 12.5 / 60, 3.25 / 60 / IMAGES
    assert found.minutes(Size(5, IMAGES)) == pytest.approx(4 * (training + image * IMAGES))
    assert found.minutes(Size(3, 2 * IMAGES)) == pytest.approx(6 * 2 * IMAGES * image), "all are measured again"
    assert found.variation.trainings.shape[1] == 2
    text = planned([found])
    assert "iwae (3 seeds) and vae (3 seeds)" in text
    assert "2.00 nats" in text
    (stricter,) = plans("iwae", "vae", tmp_path, difference=2.0, comparisons=10)
    assert stricter.level == pytest.approx(0.995)
    assert stricter.variation.power(2.0, Size(3, IMAGES), stricter.level) < found.variation.power(2.0, Size(3, IMAGES))


def test_trainings_are_priced_by_timed_steps_where_there_are_some(tmp_path):
    records = write_board(tmp_path, {"vae": 0.0, "iwae": 0.5, "other": 5.0})
    assert "priced by the clock, which other work lengthens" in " ".join(
        planned(plans("iwae", "vae", tmp_path, difference=0.05)).split()
    )
    for record in records:
        seconds = 0.006 if record.variant == "iwae" else 0.003
        machine = {"threads": 1}
        found = Calibration(
            seconds / 0.003, 1.0, 3.0, 15, seconds, 0.003, "vae", {}, machine, "2025-03-01T12:00:00+00:00"
        )
        write_calibration(record, found)
    (plan,) = plans("iwae", "vae", tmp_path, difference=0.05)
    assert [price.training for price in plan.prices] == pytest.approx([2000 * 0.006 / 60, 2000 * 0.003 / 60])
    assert "priced by steps that were timed beside the plain VAE's" in " ".join(planned([plan]).split())


def test_without_seeds_a_deviation_must_be_assumed(tmp_path, capsys):
    write_board(tmp_path, {"vae": 0.0, "iwae": 0.5}, seeds=1)
    assert main(["plan", "iwae", "vae", "--results", str(tmp_path)]) == 2
    assert "--sd" in capsys.readouterr().err
    assert main(["plan", "iwae", "vae", "--results", str(tmp_path), "--sd", "0.2"]) == 0
    assert "0.20 nats (sd), which is assumed" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"difference": 0.0}, {"power": 1.0}, {"deviation": -1.0}, {"comparisons": 0}])
def test_arguments_outside_their_ranges_are_refused(tmp_path, wrong):
    with pytest.raises(UserError, match="cannot be"):
        plans("iwae", "vae", tmp_path, **wrong)


def test_records_that_do_not_say_what_a_run_took_have_no_price(tmp_path):
    for name in ("a", "b"):
        for seed in range(6):
            arrays = fake_arrays(np.random.default_rng(seed + ord(name)))
            times = {"started": "2025-03-01T12:00:00+00:00"}
            write_record(
                tmp_path / f"{name}{seed}", fake_body(arrays, variant=name, seed=seed, times=times), arrays, {}
            )
    (found,) = plans("a", "b", tmp_path, difference=1.0)
    assert found.minutes(Size(9, IMAGES)) is None


def test_draws_are_those_of_the_two():
    noise = Trainings(np.arange(8.0).reshape(4, 2) + 1, np.ones(2, dtype=bool))
    rng = np.random.default_rng(3)
    found = variation(rng.normal(size=(2, 9)), rng.normal(size=(3, 9)), noise)
    assert found.trainings.tolist() == noise.variances.tolist()
    assert found.seeds.tolist() == [2, 3]
