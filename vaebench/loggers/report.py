"""The leaderboard as a report of Weights & Biases, with tables from this package and charts by the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vaebench.curves import BOUND
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.markdown_tables import markdown
from vaebench.loggers.about import flat
from vaebench.loggers.figures import logged_figures
from vaebench.loggers.server import connected, require_wandb
from vaebench.records import Damage, RunRecord

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import PanelGrid, ParallelCoordinatesPlotColumn, Runset

TITLE = "vaebench leaderboard"
BARS = ("elbo", "rate", "distortion")  # charts besides that of the score
AXES = 8  # settings in parallel coordinates
ABOUT = (
    "Each table ranks runs that were measured in the same way on the same images; `vaebench leaderboard` made it from "
    "their records. Bars are means over the seeds of a setting with their standard error; the tables also have the "
    "noise over test images, and the claims that nobody verified. The charts show the runs of this project whose "
    "records are ranked in the table above them; tables and text change when the command runs again."
)


def write_wandb_report(path: str, boards: Sequence[Board], damaged: Sequence[Damage] = ()) -> str:
    """Creates or updates the report of a project; returns its address.

    Args:
        path: ENTITY/PROJECT.
        boards: of the report.
        damaged: records to list as left out.

    Raises:
        UserError: wandb is not installed, there is no key, or the server refuses.
    """
    require_wandb("wandb_workspaces")
    with connected(path) as (api, entity, project):
        import wandb_workspaces.reports.v2 as wr

        address = _existing(api, entity, project)
        report = wr.Report(project, entity, TITLE) if address is None else wr.Report.from_url(address)
        report.width, report.description = "fluid", "Written by `vaebench leaderboard --wandb`; edits are overwritten."
        report.blocks = blocks(boards, entity, project, damaged)
        report.save()
        return str(report.url)


def _existing(api: Any, entity: str, project: str) -> str | None:
    """The address of the report that was written before; the project is made where there is none."""
    if project not in (known.name for known in api.projects(entity)):
        api.create_project(project, entity)  # charts need an existing project
        return None
    return next((report.url for report in api.reports(f"{entity}/{project}") if report.display_name == TITLE), None)


def blocks(boards: Sequence[Board], entity: str, project: str, damaged: Sequence[Damage] = ()) -> list[Any]:
    """The report: damaged records, the table and charts of every board, then the definitions."""
    import wandb_workspaces.reports.v2 as wr

    left_out = [wr.P(f"Left out, damaged: {damage.path.name}: {damage.reason}") for damage in damaged]
    content: list[Any] = [wr.TableOfContents(), wr.P(ABOUT), *left_out]
    for board in boards:
        records = [record for row in board.rows if not row.claimed for record in row.records]
        _, _, table = markdown([board]).partition("\n")  # after its title
        content += [wr.H1(title(board)), wr.MarkdownBlock(text=table)]
        if records:
            content += _grids(board, records, entity, project)
    definitions = "\n".join(f"- **{name}** ({unit}): {text}" for name, (unit, text) in _definitions(boards).items())
    return [*content, wr.H1("Definitions"), wr.MarkdownBlock(text=definitions)]


def _grids(board: Board, records: Sequence[RunRecord], entity: str, project: str) -> Iterator[PanelGrid]:
    """Bars, curves and pictures of all runs; then varying settings of each benchmark or sweep."""
    import wandb_workspaces.reports.v2 as wr

    yield wr.PanelGrid(runsets=[_runs(board, records, title(board), entity, project)], panels=_charts(board, records))
    for name in sorted({str(record.benchmark) for record in records}):
        runs = [record for record in records if str(record.benchmark) == name]
        if columns := _columns(board, runs):
            panel = wr.ParallelCoordinatesPlot(title=f"{name}: settings and what they led to", columns=columns)
            panel.layout = wr.Layout(w=24, h=12)
            yield wr.PanelGrid(runsets=[_runs(board, runs, name, entity, project)], panels=[panel])


def _runs(board: Board, records: Sequence[RunRecord], name: str, entity: str, project: str) -> Runset:
    """The runs of some records, the best first."""
    import wandb_workspaces.expr as expr
    import wandb_workspaces.reports.v2 as wr

    return wr.Runset(
        entity,
        project,
        name,
        filters=expr.And(expr.Config("record").isin(sorted({record.id for record in records}))),
        order=[wr.OrderBy(wr.SummaryMetric(f"test/{board.score}"), ascending=board.sign < 0)],
        pinned_columns=["run:displayName", "config:setting.value", f"summary:test/{board.score}"],
    )


def _charts(board: Board, records: Sequence[RunRecord]) -> list[Any]:
    """Bars with intervals, the held-out bound over training, and the pictures."""
    import wandb_workspaces.reports.v2 as wr

    metrics = (board.score, *BARS)
    panels: list[Any] = [
        wr.BarPlot(
            title=f"{metric}, mean over seeds ± standard error",
            metrics=[f"test/{metric}"],
            groupby=wr.Config("setting"),
            groupby_aggfunc="mean",
            groupby_rangefunc="stderr",
            max_bars_to_show=50,
        )
        for metric in dict.fromkeys(metrics)
        if any(record.value(metric) is not None for record in records)
    ]
    panels.append(wr.LinePlot(title="held-out bound, nats", x="step", y=[BOUND], groupby=wr.Config("setting")))
    if pictures := sorted({f"pictures/{name}" for record in records for name in record.pictures()}):
        panels.append(wr.MediaBrowser(title="pictures", media_keys=pictures, num_columns=4))
    for index, panel in enumerate(panels):
        panel.layout = wr.Layout(x=12 * (index % 2), y=10 * (index // 2), w=12, h=10)
    return panels


def _columns(board: Board, records: Sequence[RunRecord]) -> list[ParallelCoordinatesPlotColumn]:
    """The settings in which the runs differ, and their results; empty without such settings."""
    import wandb_workspaces.reports.v2 as wr

    configs = [flat(record.config) for record in records]
    shared = sorted(set(configs[0]).intersection(*configs))
    values = {key: [config[key] for config in configs] for key in shared}
    varied = [key for key in shared if len(set(map(repr, values[key]))) > 1 and not any(map(_long, values[key]))]
    scalars = [logged_figures(record) for record in records]
    ends = dict.fromkeys(("held_out/elbo", "test/rate", "test/distortion", f"test/{board.score}"))
    columns = [
        *(wr.ParallelCoordinatesPlotColumn(wr.Config(key), log=_decades(values[key])) for key in varied[:AXES]),
        *(
            wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(e))
            for e in ends
            if all(e in logged for logged in scalars)
        ),
    ]
    return columns if varied else []


def _long(value: Any) -> bool:
    return isinstance(value, list | dict)


def _decades(values: Sequence[Any]) -> bool:
    """Whether values are positive numbers that span more than a factor of ten."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) > 10 * min(numbers)


def _definitions(boards: Iterable[Board]) -> dict[str, tuple[str, str]]:
    """Unit and definition of every metric that a run has."""
    metrics = [record.metrics for board in boards for row in board.rows for record in row.records]
    return {
        name: (str(metric.get("unit") or "no unit"), str(metric.get("definition") or ""))
        for match in metrics
        for name, metric in sorted(match.items())
    }
