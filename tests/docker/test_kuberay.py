"""kuberay.yaml: pods that Kubernetes takes, fields that KubeRay knows, no root and no secrets."""

import re
import shlex
from typing import Any

import kubernetes_validate
import pytest
from deployment import ROOT, SECRET, compose, filled, manifests, pod_templates, understood

from specs import load

# The fields of KubeRay 1.6's API (ray-operator/apis/ray/v1) that are not Kubernetes' own.
FIELDS = {
    "RayCluster": {
        "authOptions",
        "autoscalerOptions",
        "enableInTreeAutoscaling",
        "gcsFaultToleranceOptions",
        "headGroupSpec",
        "headServiceAnnotations",
        "managedBy",
        "rayVersion",
        "suspend",
        "upgradeStrategy",
        "workerGroupSpecs",
    },
    "authOptions": {"mode", "secretName", "enableK8sTokenAuth"},
    "head": {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"},
    "worker": {
        "groupName",
        "idleTimeoutSeconds",
        "labels",
        "maxReplicas",
        "minReplicas",
        "numOfHosts",
        "rayStartParams",
        "replicas",
        "resources",
        "scaleStrategy",
        "suspend",
        "template",
    },
    "RayJob": {
        "activeDeadlineSeconds",
        "backoffLimit",
        "clusterSelector",
        "deletionStrategy",
        "entrypoint",
        "entrypointNumCpus",
        "entrypointNumGpus",
        "entrypointResources",
        "jobId",
        "managedBy",
        "metadata",
        "rayClusterSpec",
        "runtimeEnvYAML",
        "shutdownAfterJobFinishes",
        "submissionMode",
        "submitterConfig",
        "submitterPodTemplate",
        "suspend",
        "ttlSecondsAfterFinished",
    },
}
CLUSTER, JOB = (manifests()[kind] for kind in ("RayCluster", "RayJob"))
PODS = pod_templates()


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("pod", PODS)
def test_kubernetes_takes_the_pod(pod: str, version: str) -> None:
    kubernetes_validate.validate(as_pod(PODS[pod]), version, strict=True)


def test_kubernetes_refuses_a_field_that_it_does_not_know() -> None:
    spoilt = as_pod(PODS["head"]) | {"spec": PODS["head"]["spec"] | {"runAsNonRoot": True}}
    with pytest.raises(kubernetes_validate.ValidationError, match="runAsNonRoot"):
        kubernetes_validate.validate(spoilt, "1.37", strict=True)


def as_pod(template: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "pod", **template.get("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def test_kuberay_knows_the_fields() -> None:
    for found in (CLUSTER, JOB):
        assert found["apiVersion"] == "ray.io/v1"
        assert found["spec"].keys() <= FIELDS[found["kind"]]
    cluster = CLUSTER["spec"]
    assert cluster["authOptions"].keys() <= FIELDS["authOptions"]
    assert cluster["headGroupSpec"].keys() <= FIELDS["head"]
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() <= FIELDS["worker"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert JOB["spec"]["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert JOB["spec"]["clusterSelector"] == {"ray.io/cluster": CLUSTER["metadata"]["name"]}


def test_the_versions_are_ours() -> None:
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert CLUSTER["spec"]["rayVersion"] == pinned[1]
    image = compose(filled())["services"]["head"]["image"]
    assert {container["image"] for container in containers()} == {image}


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_is_not_root_and_has_bounds(pod: str) -> None:
    spec = PODS[pod]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        if pod != "submitter":
            assert {"readinessProbe", "livenessProbe"} <= container.keys()
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    assert {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", ())} == volumes


def containers() -> list[dict[str, Any]]:
    return [container for pod in PODS.values() for container in pod["spec"]["containers"]]


def test_secrets_are_referred_to_and_mlflows_is_the_heads_alone() -> None:
    for container in containers():
        for variable in container.get("env", ()):
            assert (
                not SECRET.search(variable["name"])
                or "secretKeyRef" in variable.get("valueFrom", {})
                or (variable == {"name": "RAY_AUTH_MODE", "value": "token"})
            )
    taken = {
        pod: {
            source["secretRef"]["name"] for each in template["spec"]["containers"] for source in each.get("envFrom", ())
        }
        for pod, template in PODS.items()
    }
    assert taken == {
        "head": {"medoid-s3", "medoid-mlflow"},
        "cpu": {"medoid-s3"},
        "gpu": {"medoid-s3"},
        "submitter": set(),
    }
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token", "secretName": "medoid-ray-token"}
    assert "Secret" not in manifests()


def test_the_real_programs_understand_the_commands() -> None:
    for group in (CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]):
        options = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
        understood(["ray", "start", *options])
    entry = shlex.split(JOB["spec"]["entrypoint"])
    understood(entry)
    overrides = [entry[place + 1] for place, part in enumerate(entry) if part == "--set"]
    assert load(entry[2], overrides).name == entry[2]


def test_probes_ask_what_compose_asks() -> None:
    services = compose(filled())["services"]
    (head,) = PODS["head"]["spec"]["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        asked = head[probe]["httpGet"]
        assert f":{asked['port']}{asked['path']}" in services["head"]["healthcheck"]["test"][-1]
        assert asked["port"] in [port["containerPort"] for port in head["ports"]]
        for group in ("cpu", "gpu"):
            (worker,) = PODS[group]["spec"]["containers"]
            assert worker[probe]["exec"]["command"] == services["worker"]["healthcheck"]["test"][1:]
    (gpu,) = PODS["gpu"]["spec"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
