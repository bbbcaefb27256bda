"""compose.yaml: valid, closed, pinned, without secrets, and with commands that the real programs understand."""

import configparser
import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import compose_spec
import pytest
from deployment import FOLDER, ROOT, SECRET, MissingError, compose, example, filled, understood, variables

SERVICES = compose(filled())["services"]
NETWORKS = compose(filled())["networks"]
OURS = {"head", "worker", "worker-gpu", "client", "mlflow"}
ENDING = {"buckets", "client"}


def environment(service: str) -> dict[str, str]:
    return dict(SERVICES[service].get("environment", {}))


def option(service: str, name: str) -> str:
    found = [part.split("=", 1)[1] for part in SERVICES[service]["command"] if part.startswith(f"--{name}=")]
    assert len(found) == 1, f"{service} has no --{name}"
    return str(found[0])


def parsed(spec: dict[str, Any]) -> compose_spec.PyCompose:
    """As the schema reads it; it knows no image with both tag and digest, which Docker does."""
    text = re.sub(r"@sha256:[0-9a-f]{64}", "", json.dumps(spec))
    return compose_spec.PyCompose.from_json(text)


def test_it_is_valid() -> None:
    assert set(parsed(compose(filled())).service_names()) == SERVICES.keys()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("mem_limit", "mem_limt"), ("service_healthy", "service_helthy"), ("unless-stopped", "sometimes")],
)
def test_the_schema_refuses_what_is_wrong(right: str, wrong: str) -> None:
    text = json.dumps(compose(filled()))
    assert right in text
    with pytest.raises(ValueError, match=wrong):
        parsed(json.loads(text.replace(right, wrong)))


def test_it_asks_for_what_the_example_names_and_nothing_starts_without() -> None:
    assert variables().keys() == example().keys()
    assert all(variables().values()), "a variable that may be missing"
    for name in example():
        for without in (filled() | {name: ""}, {key: value for key, value in filled().items() if key != name}):
            with pytest.raises(MissingError, match=f"^{name}: .*[.]env"):
                compose(without)


def test_the_example_holds_no_secret_and_starts_nothing() -> None:
    secret = {name for name in example() if SECRET.search(name) and not name.endswith("_FILE")}
    assert len(secret) >= 6
    assert {name for name, value in example().items() if not value} == secret
    with pytest.raises(MissingError):
        compose(example())


def test_every_secret_is_a_variable_and_none_is_on_a_command_line() -> None:
    values = {name: value for name, value in filled().items() if SECRET.search(name) and not name.endswith("_FILE")}
    for name, service in SERVICES.items():
        for variable, value in environment(name).items():
            if SECRET.search(variable) and not variable.endswith("_PATH"):
                assert value in values.values(), f"{name}: {variable} is not from .env"
        line = " ".join([*service.get("command", ()), *service.get("entrypoint", ()), str(service.get("healthcheck"))])
        assert not [name for name, value in values.items() if value in line]
    assert environment("head")["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert compose(filled())["secrets"] == {"ray_token": {"file": example()["RAY_TOKEN_FILE"]}}


def test_images_are_pinned() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, service in SERVICES.items():
        if name in OURS:
            assert service["image"] == f"medoid:{version}"
        else:
            assert re.fullmatch(r"[a-z./]+:[\w.-]+@sha256:[0-9a-f]{64}", service["image"]), name
    build = SERVICES["head"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).samefile(FOLDER / "Dockerfile")


def test_two_ports_are_published_and_on_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert sorted(published) == ["127.0.0.1:5000:5000", "127.0.0.1:8265:8265"]
    assert example()["PUBLISH_ADDRESS"] == "127.0.0.1"
    assert option("head", "dashboard-port") == "8265"
    assert option("mlflow", "port") == "5000"


def test_networks_are_separated() -> None:
    on = {
        network: {name for name, service in SERVICES.items() if network in service["networks"]} for network in NETWORKS
    }
    assert on == {
        "cluster": {"head", "worker", "worker-gpu", "client"},
        "tracking": {"head", "mlflow"},
        "storage": {"head", "worker", "worker-gpu", "client", "mlflow", "minio", "buckets"},
        "database": {"mlflow", "postgres"},
    }
    assert {name for name, network in NETWORKS.items() if network.get("internal")} == {"storage", "database"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gives_up_what_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "network_mode", "user", "devices"} & service.keys()
    assert service.get("cap_add", []) == (
        ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"] if name == "postgres" else []
    )
    assert ("healthcheck" in service) == (name not in ENDING)
    for needed, how in service.get("depends_on", {}).items():
        assert how["condition"] == ("service_completed_successfully" if needed in ENDING else "service_healthy")
        assert needed in SERVICES
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert source.startswith(("./", "../")) or source in compose(filled())["volumes"]
        assert volume.endswith(":ro") or not source.startswith("."), f"{volume} can be written to"


@pytest.mark.parametrize("name", ["head", "worker", "worker-gpu", "client", "mlflow"])
def test_the_real_program_understands_its_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "client":
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", environment(name)["RAY_API_SERVER_ADDRESS"])
    understood(SERVICES[name]["command"])


def test_a_command_with_a_wrong_option_is_not_understood() -> None:
    with pytest.raises(Exception, match="No such option"):
        understood([*SERVICES["worker"]["command"], "--no-such-option"])


def test_workers_find_the_head_and_health_checks_what_they_check() -> None:
    for worker in ("worker", "worker-gpu"):
        assert option(worker, "address") == f"head:{option('head', 'port')}"
        assert f":{option(worker, 'dashboard-agent-listen-port')}/api/local_raylet_healthz" in check(worker)
    assert f":{option('head', 'dashboard-port')}/api/gcs_healthz" in check("head")
    assert f":{option('mlflow', 'port')}/health" in check("mlflow")
    assert environment("client")["RAY_API_SERVER_ADDRESS"] == f"http://head:{option('head', 'dashboard-port')}"
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def check(service: str) -> str:
    kind, *command = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    return " ".join(command)


def test_postgresql_is_one_and_its_check_is_understood() -> None:
    values = environment("postgres")
    uri = f"postgresql://{values['POSTGRES_USER']}@postgres:5432/{values['POSTGRES_DB']}"
    assert option("mlflow", "backend-store-uri") == uri
    assert environment("mlflow")["PGPASSWORD"] == values["POSTGRES_PASSWORD"]
    package = importlib.util.find_spec("pgserver")
    assert package is not None
    program, *options = SERVICES["postgres"]["healthcheck"]["test"][1:]
    known = subprocess.run(
        [Path(str(package.origin)).parent / "pginstall" / "bin" / program, "--help"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert all(f"{part.split('=')[0]}=" in known for part in options)


def test_mlflow_reads_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.server.auth.config import read_auth_config

    (source,) = [each for each in SERVICES["mlflow"]["configs"] if each["target"].endswith(".ini")]
    assert source["target"] == environment("mlflow")["MLFLOW_AUTH_CONFIG_PATH"]
    content = compose(filled())["configs"][source["source"]]["content"]
    assert not any("password" in key for key in configparser_of(content)["mlflow"])
    (tmp_path / "auth.ini").write_text(content)
    for name, value in environment("mlflow").items():
        if name.startswith("MLFLOW_AUTH"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(tmp_path / "auth.ini"))
    settings = read_auth_config()
    assert settings.database_uri == option("mlflow", "backend-store-uri")
    assert settings.admin_username == environment("head")["MLFLOW_TRACKING_USERNAME"]
    assert settings.admin_password == environment("head")["MLFLOW_TRACKING_PASSWORD"]


def configparser_of(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser


def test_each_user_of_s3_has_a_bucket_and_no_more() -> None:
    script = SERVICES["buckets"]["command"][0]
    subprocess.run(["sh", "-n", "-c", script], check=True)
    given = dict(re.findall(r"\| provide (\w+) \"\$(\w+)\"", script))
    assert given == {"sweeps": "SWEEPS_ACCESS_KEY", "artifacts": "ARTIFACTS_ACCESS_KEY"}
    targets = {each["target"]: each["source"] for each in SERVICES["buckets"]["configs"]}
    for bucket, key in given.items():
        policy = json.loads(compose(filled())["configs"][targets[f"/policies/{bucket}.json"]]["content"])
        (statement,) = policy["Statement"]
        assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        user = "mlflow" if bucket == "artifacts" else "worker"
        assert environment(user)["AWS_ACCESS_KEY_ID"] == environment("buckets")[key] == example()[key]
    assert option("mlflow", "artifacts-destination") == "s3://artifacts"
    root = {name for name in SERVICES if filled()["MINIO_ROOT_PASSWORD"] in str(environment(name))}
    assert root == {"minio", "buckets"}
