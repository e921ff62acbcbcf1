"""What may be compared: the estimator of the ranked figure decides, whatever figure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_records import IMAGES, fake_arrays, fake_body, metric, row, write_board, write_fake
from scipy import stats

from vaebench.cli import main
from vaebench.configuration.discovery import figures, measurement_of
from vaebench.errors import UserError
from vaebench.evaluation.protocol import measurement, measurements
from vaebench.leaderboard import boards, leaderboard
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.versus import versus
from vaebench.leaderboard.versus_text import plain
from vaebench.records import RunRecord, read_records, write_record
from vaebench.records.rank import RANK, write_rank
from vaebench.running.bench import bench
from vaebench.running.benchmark import read_benchmark

SEEDS = 4


def protocol(**measured: Any) -> dict[str, Any]:
    likelihood = {"k": 1000, "precision": "f32", "compile": False, "corrections": False}
    settings = {"likelihood": likelihood, "units": {}, **measured}
    return {"name": "mine", "k": 1000, "seed": 0, "split": "test", "n": IMAGES, "version": 2, "measurements": settings}


def write_figure(path: Path, name: str, means: dict[str, float], seeds: int = SEEDS, higher: bool = True) -> None:
    """Runs with a figure that has no values of images, whose seeds scatter by 0.01 around the means."""
    rng = np.random.default_rng(0)
    for variant, mean in means.items():
        for seed in range(seeds):
            arrays = fake_arrays(rng)
            body = fake_body(arrays, variant=variant, seed=seed)
            value = mean + 0.01 * rng.normal()
            body["metrics"][name] = {**metric(np.zeros(1)), "value": value, "unit": "", "higher_is_better": higher}
            write_record(path / f"{variant}-{seed}", body, arrays, {})


# Estimators -------------------------------------------------------------------------------------------------------


def test_what_else_a_protocol_measured_or_is_called_parts_no_boards(tmp_path):
    rng = np.random.default_rng(0)
    write_fake(tmp_path / "a", rng, variant="a", protocol=protocol())
    write_fake(tmp_path / "b", rng, variant="b", protocol={**protocol(codes={}), "name": "codes"})
    likelihood = {**protocol()["measurements"]["likelihood"], "compile": True}
    write_fake(tmp_path / "c", rng, variant="c", protocol=protocol(likelihood=likelihood))
    (board,) = boards(read_records(tmp_path))
    assert {row.variant for row in board.rows} == {"a", "b", "c"}


def test_settings_of_the_measurement_that_gives_the_figure_part_its_boards_and_no_others(tmp_path):
    rng = np.random.default_rng(0)
    for name, precision in {"a": "f32", "b": "bf16"}.items():
        likelihood = {**protocol()["measurements"]["likelihood"], "precision": precision}
        arrays = {**fake_arrays(rng), "mse": rng.gamma(2.0, 1.0, IMAGES)}
        body = fake_body(arrays, variant=name, protocol=protocol(likelihood=likelihood, reconstruction={}))
        write_record(tmp_path / name, body, arrays, {})
    records = read_records(tmp_path)
    assert [len(boards(records, figure)) for figure in ("log_likelihood", "bits_per_dim", "mse")] == [2, 2, 1]


def test_records_of_protocols_before_and_after_other_noise_was_drawn_share_a_board(tmp_path):
    """Version 2 defined every figure as version 1 did."""
    rng = np.random.default_rng(0)
    old = {"compiled": False, "k": 1000, "precision": "f32", "n": IMAGES, "split": "test", "version": 1, "seed": 0}
    write_fake(tmp_path / "old", rng, variant="old", protocol=old)
    write_fake(tmp_path / "new", rng, variant="new", protocol=protocol())
    assert len(boards(read_records(tmp_path))) == 1


def test_every_figure_of_every_measurement_is_found_by_reading_the_sources():
    for name in measurements():
        for figure in measurement(name).KINDS:
            assert measurement_of(figure) == name, figure
    assert measurement_of("active_units_0.001") == "units"
    assert measurement_of("fid_mnist28") == measurement_of("fid") == "fidelity"
    assert measurement_of("log_likelyhood") is None
    assert measurement_of("encoder_log_likelihood") == "likelihood"
    assert len(figures()) > 50


def test_a_longer_training_is_a_column_and_said_in_the_title(tmp_path):
    rng = np.random.default_rng(0)
    for steps in (220, 1650, 440):
        own = {"variant": f"v{steps}", "selection": f"last weights, step {steps} of {steps}"}
        write_fake(tmp_path / str(steps), rng, **own)
    (board,) = boards(read_records(tmp_path))
    assert title(board) == "digits · binary · K = 1,000 · 20, 40 and 150 epochs"
    text = leaderboard(tmp_path)
    heading = [
        cell.strip() for cell in next(line for line in text.splitlines() if line.startswith("| rank")).split("|")
    ]
    place = heading.index("epochs") - 1
    assert {row(text, f"v{steps}")[place] for steps in (220, 1650, 440)} == {"20", "40", "150"}


def test_trials_of_sweeps_rank_among_benchmarks_only_when_asked(tmp_path):
    write_board(tmp_path / "bench", {"vae": 0.0}, seeds=2)
    cost = {"parameters": 1, "device": "cpu", "threads": 1, "trial": 0}
    for seed in (0, 1):
        write_fake(tmp_path / f"t{seed}", np.random.default_rng(seed), 1.0, variant="t0", seed=seed, cost=cost,
                   benchmark="beta")  # fmt: skip
    records = read_records(tmp_path)
    apart = boards(records)
    assert [[row.variant for row in board.rows] for board in apart] == [["vae"], ["t0"]]
    assert title(apart[1]).endswith(" · trials of beta")
    (together,) = boards(records, trials=True)
    assert {row.variant for row in together.rows} == {"vae", "t0"}
    assert "trials" not in title(together)
    (named,) = versus("vae", "t0", tmp_path)
    assert named.verdict == "worse"


# Figures of a run -------------------------------------------------------------------------------------------------


def test_a_figure_without_values_of_images_is_ranked_over_seeds(tmp_path):
    write_figure(tmp_path, "mig", {"low": 0.1, "high": 0.3, "twin": 0.3})
    (board,) = boards(read_records(tmp_path), "mig")
    assert {row.variant: row.rank for row in board.rows} == {"high": (1, 2), "twin": (1, 2), "low": (3, 3)}
    gap = board.rows[-1].gap
    assert gap.over_images == 0
    pooled = 0.01 * np.sqrt(2 / SEEDS)
    assert 0.5 * pooled < gap.over_seeds < 2 * pooled
    assert title(board) == "digits · binary · MIG"


def test_lower_is_better_where_the_definition_says_so(tmp_path):
    write_figure(tmp_path, "fid_mnist28", {"good": 0.1, "poor": 0.5}, higher=False)
    (board,) = boards(read_records(tmp_path), "fid_mnist28")
    assert [(row.variant, row.rank) for row in board.rows] == [("good", (1, 1)), ("poor", (2, 2))]


def test_one_seed_of_such_a_figure_is_provisional_up_to_a_scatter(tmp_path):
    write_figure(tmp_path, "mig", {"low": 0.1, "high": 0.3}, seeds=1)
    (board,) = boards(read_records(tmp_path), "mig")
    assert [row.provisional for row in board.rows] == [True, True]
    gap = board.rows[1].gap
    assert stats.norm.ppf(0.975) * gap.turns * np.sqrt(2) == pytest.approx(abs(gap.difference), rel=1e-4)
    (found,) = versus("high", "low", tmp_path, "mig")
    assert found.by_image is None
    text = plain([found])
    assert "high is better than low by" in text
    assert "95 % interval" not in text.partition(", provisionally")[0]
    assert "images that differ most" not in text.lower()


def test_two_variants_are_compared_by_such_a_figure_over_seeds(tmp_path, capsys):
    write_figure(tmp_path, "mig", {"low": 0.1, "high": 0.3})
    page = tmp_path / "page.html"
    assert main(["compare", "high", "low", "--results", str(tmp_path), "--metric", "mig", "--html", str(page)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "high is better than low by 0." in text
    assert "not known over test images, for the figure is one of a run" in text
    assert "drawing-0-1" in page.read_text()


def test_runs_without_the_figure_that_was_asked_for_are_counted_and_left_out(tmp_path):
    write_figure(tmp_path / "a", "mig", {"vae": 0.1})
    write_board(tmp_path / "b", {"vae": 0.0}, surrogate=True)
    text = leaderboard(tmp_path, metric="mig")
    assert "**Left out:** 3 of 7 runs, on whose boards none has this figure." in text
    assert text.count("### ") == 1


def test_the_likelihood_by_ais_is_found_by_its_short_name(tmp_path):
    write_figure(tmp_path, "log_likelihood_ais", {"vae": -80.0, "iwae": -70.0})
    (board,) = boards(read_records(tmp_path), "ais")
    assert (board.score, board.rows[0].variant) == ("log_likelihood_ais", "iwae")


# What a benchmark names -------------------------------------------------------------------------------------------


def test_a_board_is_ranked_by_what_its_benchmark_names_unless_another_is_asked_for(tmp_path):
    write_figure(tmp_path / "shapes", "mig", {"low": 0.1, "high": 0.3})
    write_board(tmp_path / "other", {"vae": 0.0})
    write_rank(tmp_path / "shapes", "mig")
    records = read_records(tmp_path)
    assert [board.score for board in boards(records)] == ["log_likelihood", "mig"]
    assert [board.score for board in boards(records, "elbo")] == ["elbo"]
    (found,) = versus("low", "high", tmp_path)
    assert found.board.score == "mig"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"rank": 3}', '{"rank": "nothing"}'])
def test_what_cannot_be_read_there_or_is_unknown_names_nothing(tmp_path, content):
    write_board(tmp_path / "shapes", {"vae": 0.0})
    (tmp_path / "shapes" / RANK).write_text(content)
    (board,) = boards(read_records(tmp_path))
    assert board.score == "log_likelihood"


def benchmark(path: Path, rank: str) -> Path:
    family = path / "vae.yaml"
    family.write_text("model: {class_path: vaebench.families.vae.VAE}\n")
    file = path / "mine.yaml"
    file.write_text(f"rank: {rank}\nprotocol: {{name: quick}}\nruns: {{vae: {{configs: [vae.yaml]}}}}\n")
    return file


def test_a_benchmark_names_a_figure_that_exists_or_is_told_the_nearest(tmp_path):
    assert read_benchmark(benchmark(tmp_path, "elbo")).rank == "elbo"
    with pytest.raises(UserError, match=r"unknown figure 'mgi'; did you mean mig.*mine.yaml, as rank"):
        read_benchmark(benchmark(tmp_path, "mgi"))


def test_a_benchmark_cannot_rank_by_what_its_protocol_does_not_measure(tmp_path):
    runs = bench(read_benchmark(benchmark(tmp_path, "mig")), tmp_path / "results", tmp_path / "work")
    with pytest.raises(UserError, match="ranks by mig, a figure of the measurement 'disentanglement'"):
        next(runs)


def test_the_figure_of_a_benchmark_does_not_change_what_its_records_are(tmp_path):
    write_rank(tmp_path / "shapes", "mig")
    record = write_fake(tmp_path / "shapes" / "vae", np.random.default_rng(0))
    assert isinstance(record, RunRecord)
    assert "rank" not in record.protocol
    assert len(read_records(tmp_path)) == 1
