"""What an analysis found, in short, for the terminal."""

from rich.table import Table

from orchestrator.analysis.summary import Analysis, summaries
from orchestrator.report.statistics import Summary


def spectrum_table(analysis: Analysis) -> Table:
    """Change of the singular values, and angles of the subspaces, in the first and in the last range."""
    table = Table(
        title=f"The Jacobian after epoch {analysis.settings.epoch}, in its first and last range of singular values",
        caption="Means ± standard deviation over all draws.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("augmentation")
    table.add_column("range")
    for name in ("change of σ (%)", "left angle (°)", "right angle (°)", "p"):
        table.add_column(name, justify="right")
    for perturbation in analysis.perturbations:
        ranges = summaries(analysis, perturbation)
        ends = (ranges[0], ranges[-1])
        table.add_row(
            perturbation.title,
            "largest\nsmallest",
            "\n".join(_text(one.relative, 100) for one in ends),
            "\n".join(_text(one.left) for one in ends),
            "\n".join(_text(one.right) for one in ends),
            "\n".join(f"{one.shrunk.mean:.2f}" for one in ends),
        )
        table.add_section()
    return table


def _text(value: Summary, scale: float = 1.0) -> str:
    deviation = "" if value.std is None else f" ± {value.std * scale:.1f}"
    return f"{value.mean * scale:.1f}{deviation}"
