"""The page of an analysis: one HTML file with everything in it, in the look of the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.analysis.summary import Analysis, summaries
from orchestrator.report.drawing import Figure
from orchestrator.report.page import spec_yaml, templates
from orchestrator.report.statistics import Summary
from workers.records import SweepRecord

_NOTES = (
    "J has a row for each pair of example and logit, N in all, and a column for each parameter: J Jᵀ is the neural "
    "tangent kernel of all logits. The paper’s networks have one output. Batch normalisation uses its running "
    "statistics, and everything after the network’s input is computed in float64.",
    "J̃ = J + E is the Jacobian on as many augmented images, in the same order, and σ̃ᵢ its i-th singular value. "
    "Singular values come from a QR factorisation of J and of both Jacobians together, never from J Jᵀ.",
    "Noise moves every pixel and channel by an amount drawn evenly from [−ε₀, ε₀], in units of 0 to 255, without "
    "rounding or clipping. The paper says neither the norm nor how many examples a class: both are our choice.",
    "Angles are the principal angles between the subspaces that belong to the same range of J and of J̃.",
    "‖uᵢᵀE‖ is how large E is along the i-th left singular vector of J; Lemma 4.1 has ‖E‖, its largest value in any "
    "direction, in its place. Both of its sides are sums over the range, relative to the sum of σᵢ².",
)


@dataclass(frozen=True)
class Origin:
    """Where the numbers come from: what the analysis ran on, and what the networks were trained with."""

    commit: str
    hardware: str
    versions: str
    data: str
    trained: str  # commits that the networks were trained with


def page_html(
    analysis: Analysis, sweep: SweepRecord, figures: list[Figure], origin: Origin, files: tuple[str, ...]
) -> str:
    """The analysis as one self-contained page. `files` lie next to it."""
    values: dict[str, Any] = {
        "analysis": analysis,
        "sweep": sweep,
        "figures": figures,
        "tables": [(one, summaries(analysis, one)) for one in analysis.perturbations],
        "origin": origin,
        "files": files,
        "notes": _NOTES,
        "yaml": spec_yaml(sweep),
        "percent": _percent,
        "number": _number,
        "degrees": _degrees,
    }
    return templates(Path(__file__).parent).get_template("spectrum.html.j2").render(values)


def _percent(value: Summary) -> str:
    digits = 1 if abs(value.mean) >= 0.1 else 2
    return _with_deviation(f"{value.mean * 100:.{digits}f}", value.std and f"{value.std * 100:.{digits}f}")


def _number(value: Summary) -> str:
    return _with_deviation(f"{value.mean:.3g}", value.std and f"{value.std:.2g}")


def _degrees(value: Summary) -> str:
    return _with_deviation(f"{value.mean:.1f}", value.std and f"{value.std:.1f}")


def _with_deviation(mean: str, deviation: str | float | None) -> str:
    return mean.replace("-", "−") + (f" ± {deviation}" if isinstance(deviation, str) else "")
