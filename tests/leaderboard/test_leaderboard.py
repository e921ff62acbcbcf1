"""Which runs may meet on a board, how they are ranked there, and what the Markdown says of it."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from fake_records import IMAGES, fake_arrays, fake_body, row, unavailable, write_board, write_fake

from vaebench.errors import UserError
from vaebench.leaderboard import boards, leaderboard, markdown
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.statistics import estimate
from vaebench.leaderboard.table import table
from vaebench.records import read_records, write_record

DATA = fake_body(fake_arrays(np.random.default_rng(0)))["data"]
PROTOCOL = fake_body(fake_arrays(np.random.default_rng(0)))["protocol"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# Grouping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {**DATA, "hashes": {**DATA["hashes"], "test": "0" * 64}}},
        {"data": {**DATA, "hashes": {**DATA["hashes"], "train": "0" * 64}}},
        {"data": {**DATA, "name": "mnist"}},
        {"data": {**DATA, "measure": "discrete17"}},
        {"protocol": {**PROTOCOL, "k": 5000}},
        {"protocol": {**PROTOCOL, "version": 3}},
        {"protocol": {**PROTOCOL, "given": "labels"}},
        {"protocol": {**PROTOCOL, "precision": "bfloat16"}},
        {"n": IMAGES - 1},
        {"surrogate": True},
    ],
)
def test_runs_that_were_measured_in_another_way_never_share_a_board(tmp_path, rng, changes):
    write_fake(tmp_path / "one", rng, variant="one")
    write_fake(tmp_path / "other", rng, variant="other", **changes)
    found = boards(read_records(tmp_path))
    assert [[row.variant for row in board.rows] for board in found] in ([["one"], ["other"]], [["other"], ["one"]])


def test_a_new_definition_of_one_figure_parts_boards_of_that_figure_alone(tmp_path, rng):
    for name, version in {"old": 1, "new": 2}.items():
        arrays = fake_arrays(rng, 0.0)
        body = fake_body(arrays, variant=name)
        body["metrics"]["elbo"]["version"] = version
        write_record(tmp_path / name, body, arrays, {})
    records = read_records(tmp_path)
    assert (len(boards(records)), len(boards(records, "elbo"))) == (1, 2)


def test_seeds_of_training_and_evaluation_benchmarks_and_machines_may_differ_on_a_board(tmp_path, rng):
    write_fake(tmp_path / "a", rng)
    changes = {"protocol": {**PROTOCOL, "seed": 1}, "benchmark": None, "environment": {"python": "3.13"}}
    write_fake(tmp_path / "b", rng, seed=1, **changes)
    (board,) = boards(read_records(tmp_path))
    assert [row.seeds for row in board.rows] == [[0, 1]]


def test_boards_do_not_depend_on_where_and_in_which_order_records_lie(tmp_path):
    write_board(tmp_path / "x", {"vae": 0.0, "iwae": 1.0})
    records = list(read_records(tmp_path))
    assert markdown(boards(records)) == markdown(boards(records[::-1]))


def test_runs_of_one_name_with_other_settings_are_other_variants(tmp_path, rng):
    def config(beta: float, seed: int) -> dict[str, object]:
        init = {"latent": 16, "beta": beta, "schedule": {"class_path": "Constant"}}
        return {"model": {"class_path": "BetaVAE", "init_args": init}, "seed_everything": seed}

    for beta in (2.0, 4.0):
        for seed in (0, 1):
            write_fake(tmp_path / f"{beta}-{seed}", rng, variant="beta_vae", config=config(beta, seed), seed=seed)
    (board,) = boards(read_records(tmp_path))
    assert {row.variant: row.seeds for row in board.rows} == {
        "beta_vae (beta = 2.0)": [0, 1],
        "beta_vae (beta = 4.0)": [0, 1],
    }


def test_a_name_that_looks_like_another_variants_settings_hides_no_run(tmp_path, rng):
    for index, (variant, family) in enumerate([("vae", "vae"), ("vae", "iwae"), ("vae (x)", "vae")]):
        write_fake(tmp_path / str(index), rng, variant=variant, family=family, config={"model": {"x": 1}})
    (board,) = boards(read_records(tmp_path))
    assert len({row.variant for row in board.rows}) == 3


# Ranking ----------------------------------------------------------------------------------------------------------


def test_variants_rank_by_log_likelihood_and_tie_inside_the_noise(tmp_path):
    write_board(tmp_path, {"worst": -5.0, "twin": 0.0, "vae": 0.0, "best": 3.0})
    (board,) = boards(read_records(tmp_path))
    assert board.score == "log_likelihood"
    assert [board.rows[0].variant, board.rows[-1].variant] == ["best", "worst"]
    ranks = {row.variant: row.rank for row in board.rows}
    assert ranks == {"best": (1, 1), "twin": (2, 3), "vae": (2, 3), "worst": (4, 4)}
    gaps = {row.variant: row.gap for row in board.rows}
    assert gaps["best"] is None
    assert gaps["vae"].interval[0] < -3 < gaps["vae"].interval[1] < 0
    text = markdown([board])
    assert [row(text, name)[0] for name in ("best", "vae", "worst")] == ["1", "2–3", "4"]


def test_estimates_are_over_seeds_and_repeated_seeds_count_once(tmp_path, rng):
    records = write_board(tmp_path, {"vae": 0.0})
    again = write_fake(tmp_path / "again", rng, variant="vae", seed=0)
    (board,) = boards(read_records(tmp_path))
    values = [record.value("elbo") for record in records]
    errors = [record.error("elbo") for record in (again, *records)]
    values[0] = (values[0] + again.value("elbo")) / 2
    assert board.rows[0].estimates["elbo"] == estimate(values, errors, IMAGES)
    assert row(markdown([board]), "vae")[2] == "3 [1]"
    assert "[1] a seed was run more than once" in markdown([board])


def test_without_any_log_likelihood_a_board_ranks_by_the_elbo_and_says_so(tmp_path, rng):
    for seed, mean in enumerate((0.0, 2.0)):
        arrays = fake_arrays(rng, mean)
        body = fake_body(arrays, variant=f"v{seed}")
        body["metrics"]["log_likelihood"] = unavailable("no density")
        write_record(tmp_path / str(seed), body, arrays, {})
    (board,) = boards(read_records(tmp_path))
    assert board.score == "elbo"
    assert [row.variant for row in board.rows] == ["v1", "v0"]
    text = markdown([board])
    assert "ranked by: ELBO, higher is better; no variant has a log-likelihood" in text
    assert text.index("ELBO (nats)") < text.index("± seeds") < text.index("log-likelihood (nats)")


@pytest.mark.parametrize(("metric", "best"), [("log_likelihood", 1), ("nll", 1), ("bits_per_dim", 1), ("mse", 0)])
def test_a_board_ranks_by_the_metric_asked_for_in_its_direction(tmp_path, rng, metric, best):
    for index, seed in itertools.product((0, 1), range(3)):
        error = 0.1 * (1 + index)
        arrays = {**fake_arrays(rng, mean=5.0 * index), "mse": rng.gamma(100, error / 100, IMAGES)}
        body = fake_body(arrays, variant=f"v{index}", seed=seed)
        body["metrics"]["mse"]["higher_is_better"] = False
        write_record(tmp_path / f"{index}-{seed}", body, arrays, {})
    (board,) = boards(read_records(tmp_path), metric)
    assert [(row.variant, row.rank) for row in board.rows] == [(f"v{best}", (1, 1)), (f"v{1 - best}", (2, 2))]
    first, second = (np.mean([record.value(metric) for record in row.records]) for row in board.rows)
    assert board.rows[1].gap.difference == pytest.approx(second - first, rel=1e-5)
    text = leaderboard(tmp_path, metric=metric)
    assert ("higher is better" if metric == "log_likelihood" else "lower is better") in text
    assert text.index("± seeds") < text.index("rate (nats)")


def test_a_metric_that_cannot_be_ranked_by_is_an_error_that_names_those_that_can(tmp_path, rng):
    write_fake(tmp_path / "run", rng)
    for metric in ("log_likelyhood", "active_units", "ssim"):
        with pytest.raises(UserError, match=f"unknown metric '{metric}'.*ranked by: bits_per_dim, .*log_likelihood"):
            leaderboard(tmp_path, metric=metric)


def test_a_bound_is_never_ranked_among_likelihoods(tmp_path, rng):
    """Neither where a run says that it has none, nor where its per-image figures are missing or not finite."""
    write_board(tmp_path, {"vae": 0.0})
    for name, harm in {"none": "unavailable", "gone": "missing", "nan": "not finite", "short": "short"}.items():
        arrays = fake_arrays(rng, 9.0)
        body = fake_body(arrays, variant=name)
        if harm == "unavailable":
            body["metrics"]["log_likelihood"] = unavailable("the posterior has no density")
        elif harm == "missing":
            del arrays["log_likelihood"]
        elif harm == "not finite":
            arrays["log_likelihood"][3] = np.nan
        else:
            arrays["log_likelihood"] = arrays["log_likelihood"][1:]
        write_record(tmp_path / name, body, arrays, {})
    (board,) = boards(read_records(tmp_path))
    assert [(row.variant, row.rank) for row in board.rows] == [
        ("vae", (1, 1)), ("gone", None), ("nan", None), ("none", None), ("short", None)
    ]  # fmt: skip
    text = markdown([board])
    assert row(text, "none")[0].startswith("–")
    assert re.fullmatch(r"unavailable \[\d\]", row(text, "none")[3])
    assert re.search(r"\[\d\] unavailable: the posterior has no density", text)
    assert re.search(r"\[\d\] not ranked", text)


def test_a_metric_that_some_seeds_lack_says_of_how_many_runs_it_is(tmp_path, rng):
    write_fake(tmp_path / "0", rng, seed=0)
    arrays = fake_arrays(rng)
    body = fake_body(arrays, seed=1)
    body["metrics"]["bits_per_dim"] = unavailable("it diverged")
    write_record(tmp_path / "1", body, arrays, {})
    (board,) = boards(read_records(tmp_path))
    assert board.rows[0].estimates["bits_per_dim"].seeds == 1
    assert "of 1 in 2 runs; unavailable in the others: it diverged" in markdown([board])


# Markdown ---------------------------------------------------------------------------------------------------------


def test_the_markdown_table_is_rectangular_and_holds_the_figures(tmp_path):
    records = write_board(tmp_path, {"vae": 0.0, "iwae": 1.0})
    (board,) = boards(records)
    text = markdown([board])
    assert text.startswith(f"### {title(board)}\n")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    mine = [record for record in records if record.variant == "vae"]
    expected = estimate([r.value("log_likelihood") for r in mine], [r.error("log_likelihood") for r in mine])
    figures = f"{expected.mean:.2f}|{expected.over_seeds:.2f}|{expected.over_images:.2f}".replace("-", "−").split("|")
    assert row(text, "vae")[2:6] == ["3", *figures]
    assert row(text, "vae")[-5:] == ["14.0", "partial", "52,416", "182", "12.5"]


def test_the_interval_of_a_mean_says_what_noise_it_covers(tmp_path):
    write_board(tmp_path / "three", {"vae": 0.0})
    write_board(tmp_path / "one", {"iwae": 3.0}, seeds=1)
    (board,) = boards(read_records(tmp_path))
    sheet = table(board)
    place = [column.key for column in sheet.columns].index("interval")
    (one, three), (first, second) = [cells[place] for cells in sheet.cells], board.rows
    ends = [[f"{end:.2f}".replace("-", "−") for end in r.estimates["log_likelihood"].interval] for r in (first, second)]
    assert (one.text, three.text) == (" to ".join(ends[0]) + " (images alone)", " to ".join(ends[1]))
    assert sheet.columns[place].page


def test_rows_of_one_seed_are_provisional_up_to_the_scatter_at_which_their_order_would_turn(tmp_path):
    write_board(tmp_path, {"vae": 0.0, "twin": 0.0, "best": 2.0}, seeds=1)
    (board,) = boards(read_records(tmp_path))
    assert [(row.variant, row.rank, row.provisional) for row in board.rows[:1]] == [("best", None, True)]
    assert not any(row.beaten_by for row in board.rows)
    second, third = (row.gap for row in board.rows[1:])
    text = markdown([board])
    assert [row(text, name)[0] for name in ("best", "vae", "twin")] == ["provisional [1]"] * 3
    assert "[1] no rank: with one seed nothing says how far its trainings scatter" in text
    assert "noise over trainings: unknown, as no variant has several seeds; all are provisional" in text
    turns = [row(text, one.variant)[6] for one in board.rows]
    assert turns == [f"{second.turns:.2f}", f"{second.turns:.2f}", f"{third.turns:.2f}"]
    assert row(text, "best")[4] == "–"
    close = markdown(boards(read_records(tmp_path), "bits_per_dim"))
    assert "holds up to a seed sd of" in close


def test_two_rows_of_one_seed_that_differ_by_less_than_images_vary_say_that_they_tie(tmp_path):
    write_board(tmp_path, {"vae": 0.0, "twin": 0.0}, seeds=1)
    (board,) = boards(read_records(tmp_path))
    assert board.rows[1].gap.tie
    assert [row(markdown([board]), name)[6] for name in ("vae", "twin")] == ["a tie", "a tie"]


def test_one_seed_ranks_by_the_noise_of_variants_with_several_and_by_that_of_other_boards(tmp_path):
    several = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}
    write_board(tmp_path / "several", several)
    write_board(tmp_path / "one", {"far": 30.0}, seeds=1)
    (board,) = boards(read_records(tmp_path))
    assert (board.rows[0].variant, board.rows[0].rank, board.borrowed) == ("far", (1, 1), ())
    assert "noise over trainings: from the seeds of 4 variants" in markdown([board])
    assert "one seed: how far its trainings scatter is taken from other variants" in markdown([board])
    write_board(tmp_path / "other", {"far": 30.0, "near": 0.0}, seeds=1, protocol={**PROTOCOL, "k": 50})
    other = boards(read_records(tmp_path))[-1]
    assert [row.rank for row in other.rows] == [(1, 1), (2, 2)]
    assert sorted(other.borrowed) == ["a", "b", "c", "d"]
    assert "noise over trainings: from other boards of these data: seeds of" in markdown([other])


def test_too_few_seeds_leave_rows_of_one_seed_provisional_and_rank_the_others(tmp_path):
    write_board(tmp_path / "several", {"good": 5.0, "poor": 0.0})
    write_board(tmp_path / "one", {"alone": 9.0}, seeds=1)
    (board,) = boards(read_records(tmp_path))
    assert {row.variant: row.rank for row in board.rows} == {"alone": None, "good": (1, 1), "poor": (2, 2)}
    assert "from the seeds of 2 variants, too few for those of one seed, which are provisional" in markdown([board])


def test_a_board_of_two_seeds_says_where_they_cannot_decide(tmp_path):
    rng = np.random.default_rng(1)
    for index, deviation in enumerate(np.exp(rng.normal(0, 2.5, 14))):
        for seed in (0, 1):
            arrays = fake_arrays(rng)
            arrays["log_likelihood"] += rng.normal(0, deviation)
            write_record(tmp_path / f"{index}-{seed}", fake_body(arrays, variant=f"v{index}", seed=seed), arrays, {})
    (board,) = boards(read_records(tmp_path))
    assert {row.rank for row in board.rows} == {None}
    assert "noise over trainings: two seeds cannot decide" in markdown([board])


def test_verdicts_that_differ_between_seeds_are_counted(tmp_path, rng):
    for seed, verdict in enumerate(["none", "none", "full"]):
        write_fake(tmp_path / str(seed), rng, seed=seed, collapse={"verdict": verdict})
    assert "| 1 full, 2 none |" in markdown(boards(read_records(tmp_path)))


def test_names_from_records_cannot_break_the_markdown(tmp_path, rng):
    write_fake(tmp_path / "run", rng, variant="a|b<script>alert(1)</script> [x](y) `c`")
    text = markdown(boards(read_records(tmp_path)))
    assert "<script" not in re.sub(r"\\.", "", text)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_columns_and_cells_agree(tmp_path):
    write_board(tmp_path, {"vae": 0.0, "iwae": 1.0})
    (board,) = boards(read_records(tmp_path))
    sheet = table(board)
    assert {len(cells) for cells in sheet.cells} == {len(sheet.columns)}
    assert len({column.key for column in sheet.columns}) == len(sheet.columns)


# The facade -------------------------------------------------------------------------------------------------------


def test_damage_is_named_first_and_the_rest_still_ranks(tmp_path, rng):
    write_board(tmp_path / "sound", {"vae": 0.0})
    harmed = write_fake(tmp_path / "harmed", rng).path / "per_image.npz"
    harmed.write_bytes(harmed.read_bytes()[:-1])
    text = leaderboard(tmp_path)
    assert text.startswith("**Left out, damaged:** ")
    assert "harmed: per_image.npz" in text.splitlines()[0]
    assert row(text, "vae")[2] == "3"


def test_the_facade_prints_what_the_boards_say_and_writes_the_page_only_when_asked(tmp_path):
    write_board(tmp_path / "results", {"vae": 0.0})
    assert leaderboard(tmp_path / "results") == markdown(boards(read_records(tmp_path / "results")))
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    leaderboard(tmp_path / "results", tmp_path / "out" / "page.html")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"page.html", "page_files"}
    with pytest.raises(UserError, match="pass a directory"):
        leaderboard(tmp_path / "nowhere")
