"""Two variants against each other: who is meant, what is said, what is drawn, and what is refused."""

from __future__ import annotations

import json
import math
import re
import shutil

import numpy as np
import pytest
from fake_records import IMAGES, fake_arrays, fake_body, unavailable, write_board, write_fake
from scipy import stats

from vaebench.cli import main
from vaebench.errors import UserError
from vaebench.leaderboard.statistics import compare
from vaebench.leaderboard.versus import versus
from vaebench.leaderboard.versus_page import drawings, versus_page
from vaebench.leaderboard.versus_text import plain, sentences
from vaebench.records import write_record
from vaebench.records.claims import IMPORTED, note
from vaebench.records.find import find_record

PROTOCOL = fake_body(fake_arrays(np.random.default_rng(0)))["protocol"]


def scores(records, variant: str) -> np.ndarray:
    return np.stack([r.per_image()["log_likelihood"] for r in records if r.variant == variant])


def one(found):
    (only,) = found
    return only


def exact(results, name: str, mean: float, seed: int = 0, **changes) -> None:
    """A run whose mean log-likelihood is exactly `mean`."""
    arrays = fake_arrays(np.random.default_rng(hash_of(name) + seed))
    arrays["log_likelihood"] += mean - arrays["log_likelihood"].mean()
    write_record(results / f"{name}-{seed}", fake_body(arrays, variant=name, seed=seed, **changes), arrays, {})


def hash_of(name: str) -> int:
    return sum(name.encode())


# What is computed -------------------------------------------------------------------------------------------------


def test_a_comparison_is_that_of_the_figures_of_every_image(tmp_path):
    records = write_board(tmp_path, {"vae": 0.0, "iwae": 2.0, "other": 5.0})
    found = one(versus("iwae", "vae", tmp_path))
    first, second = scores(records, "iwae"), scores(records, "vae")
    columns = [[row.variant for row in found.board.rows].index(name) for name in ("iwae", "vae")]
    assert found.result == compare(first, second, found.board.noise.of(*columns))
    assert (found.first.seeds, found.second.seeds, found.verdict) == ([0, 1, 2], [0, 1, 2], "better")
    assert found.differences == pytest.approx(first.mean(0, dtype=float) - second.mean(0, dtype=float))
    assert found.by_image.median[0] == pytest.approx(np.median(found.differences))
    assert found.by_image.median[1][0] < found.by_image.median[0] < found.by_image.median[1][1]
    assert found.significant
    back = one(versus("vae", "iwae", tmp_path))
    assert (back.verdict, back.result.difference) == ("worse", pytest.approx(-found.result.difference))
    assert back.fresh_training.value == pytest.approx(1 - found.fresh_training.value)
    assert back.by_image.fresh.value == pytest.approx(1 - found.by_image.fresh.value)


def test_the_images_that_differ_most_are_named_on_both_sides(tmp_path):
    write_board(tmp_path, {"vae": 0.0, "iwae": 0.3})
    found = one(versus("iwae", "vae", tmp_path))
    order = np.argsort(found.differences)
    assert found.by_image.most == (order[::-1][:5].tolist(), order[:5].tolist())
    best = f"{found.by_image.most[0][0]} (+{found.differences[found.by_image.most[0][0]]:.2f})"
    assert f"best for iwae  {best}" in plain([found])


def test_where_lower_is_better_the_lower_one_is_better(tmp_path):
    exact(tmp_path, "good", -10.0)
    exact(tmp_path, "poor", -20.0)
    found = one(versus("good", "poor", tmp_path, "nll"))
    assert (found.verdict, found.result.difference) == ("better", pytest.approx(-10, abs=1e-5))
    assert found.by_image.fresh.value > 0.9
    assert plain([found]).startswith("digits · binary · NLL · K = 1,000\nNLL in nats, lower is better; 60 images")
    bits = one(versus("good", "poor", tmp_path, "bits_per_dim"))
    assert "good is better than poor by 0.2254 bits/dim = 10.00 nats (95 % interval" in next(sentences(bits))


def test_the_break_even_is_the_spread_over_seeds_that_makes_it_a_tie(tmp_path):
    exact(tmp_path, "good", -10.0)
    exact(tmp_path, "poor", -10.5)
    found = one(versus("good", "poor", tmp_path))
    error = math.sqrt(found.result.over_images**2 + 2 * found.result.turns**2)
    assert stats.norm.ppf(0.975) * error == pytest.approx(0.5, rel=1e-4)
    scatter = f"trainings with other seeds scatter by more than {found.result.turns:.2f} nats (sd)"
    assert next(sentences(found)).endswith(f", provisionally: unless {scatter}.")


def test_they_are_compared_on_every_board_that_both_are_on(tmp_path):
    write_board(tmp_path / "a", {"vae": 0.0, "iwae": 2.0})
    write_board(tmp_path / "b", {"vae": 0.0, "iwae": 2.0}, protocol={**PROTOCOL, "k": 5000})
    write_board(tmp_path / "c", {"vae": 0.0}, protocol={**PROTOCOL, "k": 1})
    assert [found.board.estimator["k"] for found in versus("vae", "iwae", tmp_path)] == [5000, 1000]


# What is said -----------------------------------------------------------------------------------------------------


def test_a_difference_is_said_with_its_interval_noise_and_probabilities(tmp_path):
    write_board(tmp_path, {"vae": 0.0, "iwae": 2.0, "twin": 0.0})
    found = one(versus("vae", "iwae", tmp_path))
    text, (low, high) = list(sentences(found)), found.result.interval
    assert text[0] == f"vae is worse than iwae by {-found.result.difference:.2f} nats " + (
        f"(95 % interval {-high:.2f} to {-low:.2f})."
    )
    assert text[1] == f"Standard error: {found.result.over_images:.2f} nats over test images, " + (
        f"{found.result.over_seeds:.2f} nats over seeds."
    )
    assert f"vae is better with probability {found.by_image.fresh.value:.2f} (" in text[2]
    text = [sentence for sentence in text if not sentence.startswith("Image ")]
    assert text[3] == f"A fresh training of vae is better with probability {found.fresh_training.value:.2f}."
    assert text[4] == "The board, which pays for comparing all of its 3 pairs, finds them different."


def test_a_difference_inside_the_noise_is_a_tie_and_says_what_it_leaves_open(tmp_path):
    write_board(tmp_path, {"vae": 0.0, "twin": 0.0})
    found = one(versus("vae", "twin", tmp_path))
    assert found.verdict == "tie"
    assert next(sentences(found)).startswith("A tie: the difference of ")
    largest = max(abs(end) for end in found.result.interval)
    assert f"is inside the noise; up to {largest:.2f} nats either way cannot be excluded." in next(sentences(found))


def test_one_seed_is_said_to_speak_of_itself_alone(tmp_path):
    exact(tmp_path, "good", -10.0)
    exact(tmp_path, "poor", -12.0)
    text = " ".join(sentences(one(versus("good", "poor", tmp_path))))
    assert "over seeds it is unknown, for good and poor have one seed: the verdict is on these trainings" in text
    assert "Whether a fresh training would turn out better is unknown: good and poor have one seed." in text
    write_board(tmp_path / "more", {"seeded": 0.0})
    text = " ".join(sentences(one(versus("good", "poor", tmp_path))))
    assert re.search(r"1 variant of this board with several seeds spread by 0\.\d+ nats, too few to judge\.", text)
    text = " ".join(sentences(one(versus("good", "seeded", tmp_path))))
    assert "over seeds it is unknown, for good has one seed:" in text
    assert "is unknown: good has one seed." in text
    write_board(tmp_path / "many", {"a": 0.0, "b": 0.0, "c": 0.0})
    text = " ".join(sentences(one(versus("good", "seeded", tmp_path))))
    assert "over seeds (good has one seed: how far trainings scatter is taken from variants with several)." in text
    assert "A fresh training of good is better with probability" in text


def test_one_image_that_carries_a_comparison_is_named_with_a_robust_figure(tmp_path):
    arrays = fake_arrays(np.random.default_rng(0))
    write_record(tmp_path / "plain", fake_body(arrays, variant="plain"), arrays, {})
    moved = arrays["log_likelihood"] + np.random.default_rng(1).normal(1, 0.1, IMAGES)
    moved[7] += 50
    arrays = {**arrays, "log_likelihood": moved}
    write_record(tmp_path / "spiked", fake_body(arrays, variant="spiked"), arrays, {})
    found = one(versus("spiked", "plain", tmp_path))
    trimmed = stats.trim_mean(found.differences, 0.1)
    expected = "Image 7 alone carries 98 % of the variance over images; without the tenth of images that differ most "
    assert expected + f"on either side the mean differs by {trimmed:+.2f} nats." in " ".join(sentences(found))


def test_copies_tie_on_every_image(tmp_path):
    arrays = fake_arrays(np.random.default_rng(0))
    for name in ("one", "copy"):
        write_record(tmp_path / name, fake_body(arrays, variant=name), arrays, {})
    found = one(versus("one", "copy", tmp_path))
    assert (found.verdict, found.by_image.fresh.value, found.result.turns) == ("tie", 0.5, None)
    assert next(sentences(found)) == "A tie: they have the same score on every image."


# Who is meant -----------------------------------------------------------------------------------------------------


def test_a_run_is_named_by_id_first_digits_or_folder_inside_or_outside_the_results(tmp_path):
    records = write_board(tmp_path / "results", {"vae": 0.0, "iwae": 2.0})
    run = next(record for record in records if record.variant == "iwae" and record.seed == 1)
    outside = tmp_path / "elsewhere"
    shutil.copytree(run.path, outside)
    for name in (run.id, run.id[:8], run.path.name, str(run.path)):
        found = one(versus(name, "vae", tmp_path / "results"))
        assert found.first.figures == pytest.approx(run.per_image()["log_likelihood"][None])
        assert (found.first.name, found.significant) == (f"iwae, run {run.id[:8]} (seed 1)", None)
    shutil.rmtree(run.path)
    found = one(versus(str(outside), "vae", tmp_path / "results"))
    assert found.first.figures == pytest.approx(np.load(outside / "per_image.npz")["log_likelihood"][None])


def test_every_command_takes_the_same_names_for_a_record(tmp_path):
    """Defect: `verify` took a record.json and five digits of an id, `compare` neither, but folders below results."""
    results = tmp_path / "results"
    write_board(results, {"vae": 0.0})
    run = write_fake(results / "own" / "iwae-s0", np.random.default_rng(0), variant="iwae")
    for name in (run.id, run.id[:5], "iwae-s0", str(run.path), str(run.path / "record.json"), "own/iwae-s0"):
        assert find_record(name, results).id == run.id, name
        assert one(versus(name, "vae", results)).first.name == "iwae", name


def test_a_name_that_fits_several_runs_is_refused_with_all_of_them(tmp_path):
    write_board(tmp_path / "results", {"vae": 0.0})
    for variant in ("one", "two"):
        write_fake(tmp_path / "results" / variant / "iwae-s0", np.random.default_rng(0), variant=variant)
    with pytest.raises(UserError, match=r"'iwae-s0' may mean any of the runs \w{16}, \w{16}; give the id of one"):
        versus("iwae-s0", "vae", tmp_path / "results")


def test_a_claim_is_said_to_be_one_and_has_no_part_in_the_boards_verdicts(tmp_path):
    records = write_board(tmp_path, {"vae": 0.0, "iwae": 2.0, "other": 1.0})
    for record in records:
        if record.variant == "iwae":
            note(record, IMPORTED, {})
    found = one(versus("iwae (claimed)", "vae", tmp_path))
    assert (found.verdict, found.significant) == ("better", None)
    assert list(sentences(found))[-1].startswith("iwae (claimed) came on a card and was not verified here")


def test_an_unknown_name_is_an_error_with_the_nearest_ones(tmp_path, capsys):
    write_board(tmp_path, {"beta_vae": 0.0, "iwae": 2.0})
    assert main(["compare", "beta_vea", "iwae", "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vaebench: unknown variant 'beta_vea'; did you mean beta_vae")
    assert error.count("\n") == 1
    with pytest.raises(UserError, match="'iwae' cannot be compared with itself"):
        versus("iwae", "iwae", tmp_path)


def test_what_was_measured_in_another_way_is_refused_with_all_that_differs(tmp_path):
    rng = np.random.default_rng(0)
    write_fake(tmp_path / "one", rng, variant="one")
    write_fake(tmp_path / "other", rng, variant="other", protocol={**PROTOCOL, "k": 50, "half": True}, surrogate=True)
    expected = (
        r"'one' and 'other' were not measured in the same way and cannot be compared: they differ in "
        r"estimator\.half \(none against True\), estimator\.k \(1000 against 50\), surrogate \(False against True\); "
    )
    with pytest.raises(UserError, match=expected):
        versus("one", "other", tmp_path)


def test_other_data_is_named_by_its_name_and_changed_data_by_its_hash(tmp_path):
    rng = np.random.default_rng(0)
    data = fake_body(fake_arrays(rng))["data"]
    write_fake(tmp_path / "one", rng, variant="one")
    write_fake(tmp_path / "else", rng, variant="else", data={**data, "name": "mnist", "shape": [1, 28, 28]})
    write_fake(tmp_path / "new", rng, variant="new", data={**data, "hashes": {**data["hashes"], "test": "a" * 64}})
    with pytest.raises(UserError, match=r"differ in data\.name \(digits against mnist\); evaluate"):
        versus("one", "else", tmp_path)
    with pytest.raises(UserError, match=r"differ in data\.hashes\.test \(\w{8} against aaaaaaaa\); evaluate"):
        versus("one", "new", tmp_path)


def test_a_variant_without_the_metric_is_refused_with_its_reason(tmp_path):
    write_board(tmp_path, {"vae": 0.0})
    arrays = fake_arrays(np.random.default_rng(0))
    body = fake_body(arrays, variant="wae")
    body["metrics"]["log_likelihood"] = unavailable("q(z|x) has no density")
    write_record(tmp_path / "wae", body, arrays, {})
    expected = (
        r"'wae' has no log-likelihood of every image \(q\(z\|x\) has no density\); compare by another with --metric"
    )
    with pytest.raises(UserError, match=expected):
        versus("vae", "wae", tmp_path)
    assert one(versus("vae", "wae", tmp_path, "elbo")).board.score == "elbo"


# What is drawn ----------------------------------------------------------------------------------------------------


def test_the_drawings_hold_every_image_every_seed_and_every_variant(tmp_path):
    write_board(tmp_path, {"vae": 0.0, "iwae": 2.0, "other": 1.0})
    found = one(versus("iwae", "vae", tmp_path))
    differences, means, plane = drawings(found)
    assert sum(differences.data[0]["y"]) == IMAGES
    assert differences.data[1]["x"] == [found.result.difference]
    assert means.data[0]["y"] == pytest.approx([r.value("log_likelihood") for r in found.first.records], rel=1e-5)
    assert [len(trace["x"]) for trace in plane.data if trace["name"] in ("iwae", "vae")] == [3, 3]
    assert sum(len(trace["x"]) for trace in plane.data if trace["name"].startswith("others")) == 1


def test_the_command_writes_one_page_that_needs_no_network_and_escapes_names(tmp_path, capsys):
    write_board(tmp_path / "results", {"vae": 0.0, "<b>i</b>": 2.0})
    page = tmp_path / "out" / "page.html"
    arguments = ["compare", "<b>i</b>", "vae", "--results", str(tmp_path / "results"), "--html", str(page)]
    assert main(arguments) == 0
    out, html = capsys.readouterr().out, page.read_text()
    assert "<b>i</b> is better than vae by" in out
    assert out.endswith(f"\nPage: {page}\n")
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", html), "it needs no network"
    assert "<b>i</b>" not in html
    assert "&lt;b&gt;i&lt;/b&gt; is better than vae" in html
    stored = re.search(r'<script type="application/json" id="drawings">(.*?)</script>', html, re.DOTALL)
    assert list(json.loads(stored.group(1))) == ["drawing-0-0", "drawing-0-1", "drawing-0-2"]
    assert versus_page(versus("<b>i</b>", "vae", tmp_path / "results")) == html
