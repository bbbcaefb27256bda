"""What lies in docker/, read as Docker and Kubernetes read it."""

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker"
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN")
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::\?([^}]*))?\}|\$")


class MissingError(Exception):
    """Compose would stop here: a variable that it must have is unset or empty."""


def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (FOLDER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled() -> dict[str, str]:
    """A .env as it should be: every empty value filled in, each differently."""
    return {name: value or f"filled-in-{name.lower()}" for name, value in example().items()}


def variables() -> dict[str, str | None]:
    """The variables that compose.yaml asks for, and the message where one is missing (None: it would be let pass)."""
    found = _VARIABLE.finditer((FOLDER / "compose.yaml").read_text())
    return {match[1]: match[2] for match in found if match[1]}


def compose(values: dict[str, str]) -> dict[str, Any]:
    """compose.yaml with these values for its variables. Raises MissingError."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        assert match[1], f"a $ that Compose would not understand at {match.start()}"
        if not values.get(match[1]):
            raise MissingError(f"{match[1]}: {match[2]}")
        return values[match[1]]

    text = (FOLDER / "compose.yaml").read_text()
    loaded = yaml.safe_load(_VARIABLE.sub(value, text))
    assert isinstance(loaded, dict)
    return loaded


def manifests() -> dict[str, dict[str, Any]]:
    """The objects of kuberay.yaml by their kind."""
    return {found["kind"]: found for found in yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())}


def pod_templates() -> dict[str, dict[str, Any]]:
    """The pods that kuberay.yaml asks for."""
    cluster, job = manifests()["RayCluster"]["spec"], manifests()["RayJob"]["spec"]
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **workers, "submitter": job["submitterPodTemplate"]}


def shell_blocks() -> list[str]:
    """The blocks of commands in README.md."""
    return re.findall(r"```sh\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)


def readme_commands(program: str) -> list[list[str]]:
    """The arguments of every call of a program in README.md."""
    lines = "\n".join(shell_blocks()).replace("\\\n", " ").splitlines()
    calls = [shlex.split(line, comments=True) for line in lines if re.match(rf"\s*{program} ", line)]
    return [call[1:] for call in calls]


def understood(program: list[str]) -> None:
    """Have a program's own parser read its arguments. Raises click.UsageError for what it does not know."""
    name, *arguments = program
    if name == "ray":
        from ray.scripts.scripts import cli
    elif name == "mlflow":
        from mlflow.cli import cli
    else:
        assert name == "medoid", f"{name} is no program of ours"
        from typer.main import get_command

        from orchestrator.cli import app

        cli = get_command(app)
    with cli.make_context(name, list(arguments), resilient_parsing=False) as context:
        wanted, command, rest = cli.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(wanted, rest, parent=context)
