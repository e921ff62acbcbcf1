"""A comparison in plain words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from vaebench.leaderboard.cells import lost_seeds
from vaebench.leaderboard.comparable import BITS
from vaebench.leaderboard.display import error, number, score_display
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.statistics import Probability
from vaebench.leaderboard.versus import Side, Versus, spreads

CARRIED = 0.1  # share of one image in the variance from which a trimmed mean is added


def plain(comparisons: Sequence[Versus]) -> str:
    """Every comparison as text, board by board."""
    return "\n\n".join("\n".join(_lines(one)) for one in comparisons) + "\n"


def _lines(one: Versus) -> Iterator[str]:
    heading, unit, _ = score_display(one.board)
    better = "higher" if one.board.sign > 0 else "lower"
    images = number(one.board.estimator["n"])
    yield title(one.board)
    yield f"{heading}{f' in {unit}' if unit else ''}, {better} is better; {images} images that both were measured on"
    yield ""
    width = max(len(side.name) for side in (one.first, one.second))
    for side in (one.first, one.second):
        mean = number(side.figures.mean(dtype=np.float64), _decimals(one))
        yield f"  {side.name:{width}}  {mean} {_unit(one)}  {_seeds(side)}"
    yield ""
    for sentence in sentences(one):
        yield from textwrap.wrap(sentence, 110, break_long_words=False, break_on_hyphens=False)
    if one.by_image is None:
        return
    yield ""
    yield "Images that differ most (their number in the test split, from 0, and the difference):"
    for side, most in zip((one.first, one.second), one.by_image.most, strict=True):
        shown = ", ".join(f"{index} ({signed(one, one.differences[index])})" for index in most)
        yield f"  best for {side.name:{width}}  {shown}"


def sentences(one: Versus) -> Iterator[str]:
    """The verdict, its evidence, its meaning for a new image and a new training, and its limits."""
    yield _verdict(one)
    yield _noise(one)
    if one.result.opened:
        yield (
            f"The interval has {amount(one, one.result.opened)} on either side for the estimator: what the difference "
            "changed from K/10 to K samples, and the gap to what lies above the estimates where that was measured."
        )
    for side in (one.first, one.second):
        if side.row.undecided:
            yield f"Of {side.name} nothing is decided: {side.row.undecided}."
    if one.by_image is not None:
        median, ends = one.by_image.median
        yield (
            f"On a fresh test image, {one.first.name} is better with probability {_probability(one.by_image.fresh)}; "
            f"the median image differs by {signed(one, median)} {_unit(one)} ({_interval(one, ends)})."
        )
        if one.by_image.carried[1] > CARRIED:
            yield _carried(one, *one.by_image.carried)
    yield _fresh_training(one)
    if one.significant is not None and (pairs := math.comb(sum(row.rank is not None for row in one.board.rows), 2)) > 1:
        verdict = "finds them different" if one.significant else "does not find them different"
        yield f"The board, which pays for comparing all of its {number(pairs)} pairs, {verdict}."
    for side in (one.first, one.second):
        if side.row.failures:
            yield f"{side.name} is judged by the runs that survived: {lost_seeds(side.row)}."
        if side.row.claimed:
            yield f"{side.name} came on a card and was not verified here: `vaebench verify` measures it again."


def _verdict(one: Versus) -> str:
    difference, (low, high) = one.result.difference, one.result.interval
    if low == high == 0:
        return f"A tie: they have the same score{' on every image' if one.by_image else ''}."
    if one.verdict == "tie":
        low_high = f"up to {amount(one, max(-low, high))} either way"
        return (
            f"A tie: the difference of {signed(one, difference)} {_unit(one)} (95 % interval "
            f"{_interval(one, (low, high))}) is inside the noise; {low_high} cannot be excluded."
        )
    ends = (low, high) if difference > 0 else (-high, -low)
    by = amount(one, abs(difference)) + (f" (95 % interval {_interval(one, ends)})" if low < high else "")
    if one.result.turns is not None:
        scatter = f"trainings with other seeds scatter by more than {amount(one, one.result.turns)} (sd)"
        return f"{one.first.name} is {one.verdict} than {one.second.name} by {by}, provisionally: unless {scatter}."
    return f"{one.first.name} is {one.verdict} than {one.second.name} by {by}."


def _noise(one: Versus) -> str:
    over_images, alone = f"{amount(one, one.result.over_images)} over test images", _alone(one)
    if one.by_image is None:
        over_images = "not known over test images, for the figure is one of a run"
    if one.result.over_seeds is not None:
        whose = f" ({alone} one seed: how far trainings scatter is taken from variants with several)" if alone else ""
        return f"Standard error: {over_images}, {amount(one, one.result.over_seeds)} over seeds{whose}."
    unknown = (
        f"Standard error: {over_images}; over seeds it is unknown, for {alone} one seed: the verdict is on "
        "these trainings, and says nothing of others."
    )
    if known := spreads(one.board.rows, one.board.score):
        spread = " to ".join(dict.fromkeys(amount(one, end) for end in (known[0], known[-1])))
        variants = f"{len(known)} variant{'s' if len(known) > 1 else ''}"
        unknown += (
            f" Trainings of the {variants} of this board with several seeds spread by {spread}, too few to judge."
        )
    return unknown


def _alone(one: Versus) -> str:
    """Who has one seed, with its verb; nothing where both have several."""
    alone = [side.name for side in (one.first, one.second) if len(side.seeds) == 1]
    return f"{' and '.join(alone)} {'have' if len(alone) > 1 else 'has'}" if alone else ""


def _carried(one: Versus, image: int, share: float, trimmed: float) -> str:
    return (
        f"Image {image} alone carries {share:.0%} of the variance over images; without the tenth of images that differ "
        f"most on either side the mean differs by {signed(one, trimmed)} {_unit(one)}."
    ).replace("%", " %")


def _fresh_training(one: Versus) -> str:
    if one.fresh_training is None:
        return f"Whether a fresh training would turn out better is unknown: {_alone(one)} one seed."
    return f"A fresh training of {one.first.name} is better with probability {_probability(one.fresh_training)}."


def _probability(probability: Probability) -> str:
    if probability.interval is None:
        return f"{probability.value:.2f}"
    return f"{probability.value:.2f} ({probability.interval[0]:.2f} to {probability.interval[1]:.2f})"


def _seeds(side: Side) -> str:
    return f"seed{'s' if len(side.seeds) > 1 else ''} {', '.join(map(str, side.seeds))}"


def _interval(one: Versus, ends: tuple[float, float]) -> str:
    return " to ".join(number(end, _decimals(one)) for end in ends)


def _decimals(one: Versus) -> int:
    decimals = score_display(one.board).decimals
    return decimals if decimals < 3 else 4


def _unit(one: Versus) -> str:
    heading, unit, _ = score_display(one.board)
    return unit or heading


def amount(one: Versus, value: float) -> str:
    """A difference in the score's unit; of bits/dim in nats per image too."""
    in_nats = ""
    if one.board.score == BITS:
        in_nats = f" = {number(value * math.prod(one.board.data['shape']) * math.log(2), 2)} nats"
    return f"{error(value, _decimals(one))} {_unit(one)}{in_nats}"


def signed(one: Versus, value: float) -> str:
    """A difference with its sign."""
    return f"{'+' if value > 0 else ''}{number(value, _decimals(one))}"
