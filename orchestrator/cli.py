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
    from specs.resources import Storage

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


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"medoid {version('medoid')}")
        raise typer.Exit


@app.callback(epilog="Exit codes: 0 all is well, 1 a trial failed, 2 bad input, 130 stopped.")
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


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
    from specs.expansion import OWN_AXES

    sweep = _load(spec, set)
    trials = expand(sweep)
    others = [axis for axis in trials[0].point if axis not in OWN_AXES]
    rows = [
        (
            trial.hash,
            trial.spec.selection.strategy,
            trial.size() or "–",
            *(str(trial.point[axis]) for axis in others),
            str(trial.spec.seed),
        )
        for trial in trials
    ]
    typer.echo(f"{sweep.name}: {len(trials)} trials")
    typer.echo(_columns([("spec hash", "strategy", "size", *others, "seed"), *rows]))


@app.command()
def library(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A library spec, to be printed.")] = "",
) -> None:
    """List the specs that come with medoid, or print one."""
    from specs import SpecError
    from specs.loading import LIBRARY, find, read

    if not name:
        specs = sorted(LIBRARY.glob("*.yaml"))
        typer.echo(_columns([(path.stem, str(read(path).data.get("description", ""))) for path in specs]))
        return
    try:
        typer.echo(find(name).read_text(encoding="utf-8"), nl=False)
    except SpecError as error:
        raise Refused(str(error)) from None


@app.command()
def schema() -> None:
    """Print the JSON schema of spec files, for editors."""
    from specs import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def plan(
    spec: Spec,
    set: Set = None,
    address: Annotated[
        str | None, typer.Option(help="Plan for a cluster: http://HOST:8265; or auto, the one this node is in.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a sweep will take: trials, images, memory of selection, hours. Starts nothing."""
    sweep = _load(spec, set)
    with _refusals() if address in (None, "auto") else _cluster(str(address)):
        from orchestrator.planning import outlook_on
        from orchestrator.tables import plan_table

        outlook = outlook_on(sweep, address, _console(error=True))
    if as_json:
        typer.echo(outlook.to_json())
    else:
        _console().print(plan_table(outlook))


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
    job = os.environ.get("MEDOID_JOB")  # set by `medoid submit`
    again = "submit it again to go on" if job else " ".join(["go on with:", "medoid", *sys.argv[1:]])
    with _refusals(), _stopping(f"Stopped. Nothing finished is lost; {again}"):
        failed = run_here(sweep, _console(), inline=inline, address=address)
    if failed:
        raise typer.Exit(FAILED)


Address = Annotated[
    str,
    typer.Option(
        "--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard: http://HOST:8265 or https://HOST."
    ),
]
Wanted = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or a sweep's name for its latest job.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def submit(
    spec: Spec,
    address: Address,
    set: Set = None,
    again: Annotated[bool, typer.Option("--again", help="Send it even if it is finished.")] = False,
    as_json: Json = False,
) -> None:
    """Send a sweep to a Ray cluster, where it runs as `medoid run` does here; again = continue."""
    sweep = _load(spec, set)
    with _cluster(address):
        from orchestrator.jobs.commands import submit_sweep

        submit_sweep(sweep, address, _console(), again=again, as_json=as_json)


@app.command("list")
def list_(address: Address, as_json: Json = False) -> None:
    """List the sweeps that were sent to a cluster."""
    with _cluster(address):
        from orchestrator.jobs.commands import list_jobs

        list_jobs(address, _console(), as_json=as_json)


@app.command()
def status(job: Wanted, address: Address, as_json: Json = False) -> None:
    """Say how a sweep stands that was sent to a cluster, and what it said last."""
    with _cluster(address):
        from orchestrator.jobs.commands import show_status

        show_status(job, address, _console(), as_json=as_json)


@app.command()
def logs(
    job: Wanted,
    address: Address,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
    as_json: Json = False,
) -> None:
    """Print what a sweep that was sent to a cluster has printed there."""
    with _cluster(address), _stopping("The job goes on."):
        from orchestrator.jobs.commands import show_log

        show_log(job, address, lambda text: typer.echo(text, nl=False), follow=follow, as_json=as_json)


@app.command()
def stop(job: Wanted, address: Address, as_json: Json = False) -> None:
    """Stop a sweep that was sent to a cluster. Nothing finished is lost: submit it again to go on."""
    with _cluster(address):
        from orchestrator.jobs.commands import stop_job

        stop_job(job, address, _console(), as_json=as_json)


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a sweep.")]
StoragePath = Annotated[str, typer.Option("--storage", help="Folder of sweeps, or s3://…: the spec's storage.path.")]
Endpoint = Annotated[str | None, typer.Option(help="URL of the S3 server, as the spec's storage.endpoint.")]


@app.command()
def report(name: Name, storage: StoragePath = "runs", endpoint: Endpoint = None) -> None:
    """Write a sweep's tables and figures anew, from what is stored."""
    from orchestrator.reporting import write_stored_report

    with _refusals():
        write_stored_report(_place(storage, endpoint), name, _console())


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
    endpoint: Endpoint = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow on a sweep's store."""
    from orchestrator.reporting import stored_sweep
    from orchestrator.ui import serve_ui

    with _refusals(), serve_ui(stored_sweep(_place(storage, endpoint), name), port) as server:
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
    from specs import SpecError, expand, load
    from specs.remarks import remarks

    try:
        sweep = load(spec, overrides or ())
    except SpecError as error:
        raise Refused(str(error)) from None
    one_seed = sweep.model_copy(update={"seeds": sweep.seeds[:1]})
    for remark in remarks(sweep, (trial.spec for trial in expand(one_seed))):
        typer.echo(f"note: {remark}", err=True)
    return sweep


def _place(path: str, endpoint: str | None) -> "Storage":
    from pydantic import ValidationError

    from specs.resources import Storage

    try:
        return Storage(path=path, endpoint=endpoint)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        option = {"path": "--storage", "endpoint": "--endpoint"}[str(found["loc"][0])]
        raise Refused(f"medoid: {option}: {found['ctx']['error']}") from None


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turn the errors that a user can mend into one message; the others are ours, and keep their trace."""
    from orchestrator.errors import user_errors

    try:
        yield
    except user_errors() as error:
        raise Refused(f"medoid: {error}") from None


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[None]:
    """As `_refusals`, with what Ray needs set before it is imported; that takes seconds, which no token does not."""
    with _refusals():
        from orchestrator.cluster import configure
        from orchestrator.jobs.token import find_token

        find_token(address)
        configure()
        yield


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


def _console(error: bool = False) -> "Console":
    from rich.console import Console

    return Console(highlight=False, stderr=error)


def _columns(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.argv[0] = Path(sys.argv[0]).name
    main()
