"""README.md: its commands are the programs', its files are there, and its first block makes a .env that works."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from deployment import FOLDER, ROOT, SECRET, compose, example, manifests, readme_commands, shell_blocks, understood

TEXT = (FOLDER / "README.md").read_text()


def test_its_first_block_makes_secrets_and_a_whole_env(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(FOLDER / ".env.example", tmp_path / "docker")
    subprocess.run(["bash", "-euo", "pipefail", "-c", shell_blocks()[0]], cwd=tmp_path, check=True)
    lines = (tmp_path / "docker" / ".env").read_text().splitlines()
    made = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert made.keys() == example().keys()
    assert {name: value for name, value in made.items() if example()[name]} == {
        name: value for name, value in example().items() if value
    }
    random = [value for name, value in made.items() if not example()[name]]
    assert len(set(random)) == len(random)
    assert all(re.fullmatch(r"[0-9a-f]{40}", value) for value in random)
    compose(made)
    token = tmp_path / "docker" / example()["RAY_TOKEN_FILE"]
    assert re.fullmatch(r"[0-9a-f]{64}", token.read_text())
    assert stat.S_IMODE(os.stat(tmp_path / "docker" / ".env").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(token.parent).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(token).st_mode) == 0o444


def test_what_it_makes_is_ignored_by_git() -> None:
    made = ["docker/.env", f"docker/{example()['RAY_TOKEN_FILE']}", "docker/specs/mine.yaml"]
    ignored = subprocess.run(["git", "check-ignore", *made], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.split() == made


def medoid_commands() -> list[list[str]]:
    within = [part[part.index("medoid") :] for part in readme_commands("docker compose") if "medoid" in part]
    return [["medoid", *part] for part in readme_commands("medoid")] + within


@pytest.mark.parametrize("command", medoid_commands(), ids=" ".join)
def test_medoid_understands(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265")  # as in the service `client`
    understood(command)


def test_it_submits_watches_and_tears_down() -> None:
    assert {command[1] for command in medoid_commands()} == {"submit", "list", "logs", "status", "stop"}


def test_compose_is_asked_for_services_and_profiles_that_there_are() -> None:
    services = compose(dict.fromkeys(example(), "1"))["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    for command in readme_commands("docker compose"):
        assert command[:3] == ["compose", "-f", "docker/compose.yaml"]
        asked = [at + 1 for at, part in enumerate(command) if part in ("--profile", "--scale")]
        assert {command[at].split("=")[0] for at in asked} <= profiles | services.keys()
        words = [part for at, part in enumerate(command) if at > 2 and at not in asked and not part.startswith("-")]
        verb, *named = words
        assert verb in {"build", "up", "run", "ps", "logs", "down"}
        assert set(named[:1] if verb == "run" else named) <= services.keys()


def test_kubectl_makes_the_secrets_that_the_pods_take() -> None:
    text = (FOLDER / "kuberay.yaml").read_text()
    made = {command[5] for command in readme_commands("kubectl") if command[2:4] == ["create", "secret"]}
    taken = set(re.findall(r"secretRef: {name: ([\w-]+)}|secretName: ([\w-]+)", text))
    assert made == {"".join(names) for names in taken}
    name = manifests()["RayCluster"]["metadata"]["name"]
    assert f"service/{name}-head-svc 8265:8265" in TEXT
    assert "--from-file=auth_token=" in TEXT


def test_the_files_it_names_are_there() -> None:
    for name in re.findall(r"`((?:docker/)?[\w.-]+\.(?:yaml|md|example)|Dockerfile)`", TEXT):
        assert (FOLDER / name.removeprefix("docker/")).exists(), name


def test_the_table_says_where_each_service_listens() -> None:
    table = TEXT.split("## What listens where")[1]
    values = {name: name.lower() if SECRET.search(name) else "1" for name in example()}
    for name, service in compose(values)["services"].items():
        for port in re.findall(r"--\S*port=(\d+)", " ".join(service.get("command", ()))):
            assert re.search(rf"\b{port}\b", table), f"{name} listens at {port}"
