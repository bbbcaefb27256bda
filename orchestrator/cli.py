"""The command line. Every command imports what it needs when it is called: `validate` must answer at once."""

import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from specs import SweepSpec

app = typer.Typer(
    name="medoid",
    help="Data-efficient augmentation: train with strong augmentation on a small weighted coreset, and compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

analyze = typer.Typer(help="Look closer at what a sweep has trained.", no_args_is_help=True)
app.add_typer(analyze, name="analyze")

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A spec file, or the name of a library spec: quickstart, …")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, such as training.epochs=5. Repeatable."),
]


class Refused(Exception):
    """Bad input, or a failed run: what to tell the user, and the exit code."""

    def __init__(self, message: str, code: int = BAD_INPUT):
        super().__init__(message)
        self.code = code


@app.command()
def validate(spec: Spec, set: Set = None) -> None:
    """Check a spec, and list its trials."""
    from specs import expand

    sweep = _load(spec, set)
    trials = expand(sweep)
    rows = [(trial.hash, trial.spec.selection.strategy, trial.size() or "–", str(trial.spec.seed)) for trial in trials]
    typer.echo(f"{sweep.name}: {len(trials)} trials")
    typer.echo(_columns([("spec hash", "strategy", "size", "seed"), *rows]))


@app.command()
def schema() -> None:
    """Print the JSON schema of spec files, for editors."""
    from specs import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def plan(spec: Spec, set: Set = None) -> None:
    """Say what a sweep will take: trials, images, memory of selection, hours. Starts nothing."""
    from orchestrator.plan import concurrency_here, estimate
    from orchestrator.preparation import Library, prepare

    sweep = _load(spec, set)
    with _refusals():
        library = Library()
        prepared = prepare(sweep, library, notify=lambda text: None)
        estimates = estimate(prepared, library)
    from orchestrator.tables import plan_table

    at_once = concurrency_here(prepared.trials[0].spec)
    _console().print(plan_table(prepared, estimates, at_once))


@app.command()
def run(
    spec: Spec,
    set: Set = None,
    inline: Annotated[bool, typer.Option("--inline", help="One process, no Ray, no MLflow.")] = False,
    address: Annotated[str | None, typer.Option(help="Join a Ray cluster: auto is the one this node is in.")] = None,
) -> None:
    """Run a sweep here, or go on with it: what is finished is not run again."""
    from orchestrator.running import run_here

    sweep = _load(spec, set)
    command = " ".join(["medoid", *sys.argv[1:]])
    with _refusals(), _stopping(f"Stopped. Nothing finished is lost; go on with: {command}"):
        failed = run_here(sweep, _console(), inline=inline, address=address)
    if failed:
        raise typer.Exit(FAILED)


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a sweep.")]
StoragePath = Annotated[str, typer.Option("--storage", help="Folder of sweeps: the spec's storage.path.")]


@app.command()
def report(name: Name, storage: StoragePath = "runs") -> None:
    """Write a sweep's tables and figures anew, from what is stored."""
    from orchestrator.reporting import write_stored_report

    with _refusals():
        write_stored_report(storage, name, _console())


@analyze.command()
def spectrum(
    spec: Spec,
    set: Set = None,
    epoch: Annotated[int, typer.Option(min=1, help="Epochs of training: one of the spec's checkpoints.keep.")] = 15,
    classes: Annotated[str, typer.Option(help="Names or numbers, as 0,1,2.", show_default="the first three")] = "",
    examples: Annotated[int, typer.Option(min=1, help="Training images of each class.")] = 10,
    augmentations: Annotated[
        str,
        typer.Option(
            help="Of noise:BOUND (0 to 255), weak, strong, copy (strong after weak), or one of the spec's operations.",
            show_default="noise:8,noise:16,weak,strong",
        ),
    ] = "",
    draws: Annotated[int, typer.Option(min=2, help="Draws of each augmentation.")] = 50,
    ranges: Annotated[int, typer.Option(min=1, help="Ranges of singular values.")] = 10,
    memory: Annotated[float, typer.Option(min=0.001, metavar="GB", help="Beyond what data and network take.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the subsample of images, and of the draws.")] = 0,
) -> None:
    """How augmentation moves the singular values and subspaces of the Jacobian (the paper's Figures 1 and 3)."""
    sweep = _load(spec, set)
    again = shlex.join(["medoid", "run", spec, *(part for one in set or () for part in ("--set", one))])
    with _refusals(), _stopping("Stopped."):
        from orchestrator.analysis.command import Question, analyze_spectrum

        names, chains = ([one.strip() for one in text.split(",") if one.strip()] for text in (classes, augmentations))
        question = Question(epoch, names, examples, chains, draws, ranges, memory, seed)
        analyze_spectrum(sweep, question, again, _console())


@app.command()
def ui(
    name: Name,
    storage: StoragePath = "runs",
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow on a sweep's store."""
    from orchestrator.reporting import stored_sweep
    from orchestrator.ui import serve_ui

    with _refusals(), serve_ui(stored_sweep(storage, name), port) as server:
        typer.echo(f"MLflow is at {server.url} (Ctrl-C stops it)")
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


def main() -> None:
    """Entry point of the console script."""
    # Specs use no pydantic plugins, and looking for some reads the metadata of every installed package
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        app()
    except Refused as refused:
        print(refused, file=sys.stderr)
        sys.exit(refused.code)


def _load(spec: str, overrides: list[str] | None) -> "SweepSpec":
    from specs import SpecError, load

    try:
        return load(spec, overrides or ())
    except SpecError as error:
        raise Refused(str(error)) from None


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turn the errors that a user can mend into one message; the others are ours, and keep their trace."""
    from orchestrator.errors import user_errors

    try:
        yield
    except user_errors() as error:
        raise Refused(f"medoid: {error}") from None


@contextlib.contextmanager
def _stopping(message: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop cleanly, and say how to go on."""
    from orchestrator.interrupts import sigterm_interrupts

    before = signal.getsignal(signal.SIGTERM)
    sigterm_interrupts()
    try:
        yield
    except KeyboardInterrupt:
        raise Refused(message, INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


def _columns(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.argv[0] = Path(sys.argv[0]).name
    main()
