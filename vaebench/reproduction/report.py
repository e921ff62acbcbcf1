"""Terminal output of a comparison of a record with its repetition."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vaebench.display.terminal import wide
from vaebench.records import RunRecord
from vaebench.records.claims import VERIFIED, claimed, imported, note
from vaebench.reproduction.comparison import RecordComparison, altered, compare_records
from vaebench.reproduction.tolerance import CLASSES, DIFFERENT, EQUAL, UNCOMPARED

STYLES = {EQUAL: "green", DIFFERENT: "bold red"}


def repeat_and_compare(record: RunRecord, how: str, allowed: tuple[str, ...], make: Callable[[], RunRecord]) -> int:
    """Repeats a record, prints the comparison, and marks an imported record as verified where all metrics agree.

    Args:
        record: the record.
        how: 'reproduce' or 'verify'.
        allowed: accepted classes of agreement.
        make: makes the new record.

    Returns:
        The exit code: 0 where every metric agrees, 1 where one does not or the data differ.
    """
    from vaebench.reproduction.repeat import OtherDataError

    if warning := altered(record):
        print(f"vaebench: {warning}", file=sys.stderr)
    try:
        again = make()
    except OtherDataError as error:
        print(f"vaebench: different: {error}", file=sys.stderr)
        return 1
    comparison = compare_records(record, again, allowed)
    show(record, again, how, comparison)
    if comparison.different:
        return 1
    if claimed(record) and comparison.former:
        print(f"it came on a card, and stays a claim: {', '.join(comparison.former)} could not be measured again")
        return 0
    if claimed(record):
        at = datetime.now(UTC).isoformat(timespec="seconds")
        note(record, VERIFIED, {"how": how, "class": comparison.widest, "at": at, "environment": again.environment})
    if imported(record):
        print("it came on a card, and ranks from now on")
    return 0


def show(record: RunRecord, again: RunRecord, how: str, comparison: RecordComparison) -> None:
    """Prints every metric with its class, all other differences, and the definitions of the classes."""
    console = wide()
    table = Table("metric", "recorded", "now", "difference", "verdict", title=f"{record.variant}, seed {record.seed}")
    for finding in comparison.findings:
        gap = None if finding.recorded is None or finding.measured is None else finding.measured - finding.recorded
        verdict = f"[{STYLES.get(finding.verdict, 'yellow')}]{finding.verdict}[/]"
        cells = [_figure(finding.recorded), _figure(finding.measured), "" if gap is None else f"{gap:+.3g}"]
        table.add_row(finding.metric, *cells, verdict + (f" ({escape(finding.why)})" if finding.why else ""))
    console.print(table)
    if comparison.equal:
        _line(console, f"equal as a whole: {', '.join(comparison.equal)}")
    if comparison.differences:
        others = Table("what else differs", "", "recorded", "now")
        for one in comparison.differences:
            others.add_row(one.group, escape(one.name), escape(_words(one.recorded)), escape(_words(one.measured)))
        console.print(others)
    else:
        _line(console, "settings, protocol, data, code and environment are the same")
    for name in dict.fromkeys((*comparison.allowed, UNCOMPARED, DIFFERENT)):
        _line(console, f"  {name}: {CLASSES[name]}")
    _line(console, str(again.path))
    _line(console, _verdict(how, comparison))


def _verdict(how: str, comparison: RecordComparison) -> str:
    if comparison.different:
        return f"different: {', '.join(comparison.different)}"
    counts = {name: sum(f.verdict == name for f in comparison.findings) for name in (*comparison.allowed, UNCOMPARED)}
    counted = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    done = {"reproduce": "reproduced", "verify": "verified"}[how]
    return f"{done}: of {len(comparison.findings)} metrics {counted}"


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _figure(value: Any) -> str:
    return "unavailable" if value is None else f"{value:.6g}"


def _words(value: Any) -> str:
    """A value as text; hashes by their beginning."""
    text = "–" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"
