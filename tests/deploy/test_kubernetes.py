"""The manifests for Kubernetes: valid, and consistent with each other and with the service."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.deploy.dockerfile import ROOT, read_stages

FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")

Manifest = dict[str, Any]


def _documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def _resources(folder: Path = FOLDER) -> Iterator[Manifest]:
    """The resources that the kustomization lists, as written."""
    (kustomization,) = _documents(folder / "kustomization.yaml")
    for name in kustomization.get("resources", []):
        path = folder / name
        if path.is_dir():
            yield from _resources(path)
        else:
            yield from _documents(path)


@cache
def _of_kind(kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in _resources() if one["kind"] == kind}


def _pods() -> dict[str, Manifest]:
    workloads = _of_kind("Deployment") | _of_kind("StatefulSet")
    return {name: workload["spec"]["template"] for name, workload in workloads.items()}


def _container(pod: Manifest) -> Manifest:
    (container,) = pod["spec"]["containers"]
    return container  # type: ignore[no-any-return]


def _selected(labels: Manifest) -> list[str]:
    return [name for name, pod in _pods().items() if labels.items() <= pod["metadata"]["labels"].items()]


def _ports(pod: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in _container(pod)["ports"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid(version: str) -> None:
    manifests = list(_resources())
    assert len(manifests) >= 15
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_validation_finds_a_field_that_does_not_exist() -> None:
    (manifest,) = (one for one in _of_kind("Deployment").values() if one["metadata"]["name"] == "fingerpost")
    wrong = manifest | {"spec": manifest["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_kustomize_builds_valid_manifests() -> None:
    kustomize, kubectl = shutil.which("kustomize"), shutil.which("kubectl")
    if kustomize is None and kubectl is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    command = [str(kubectl), "kustomize"] if kustomize is None else [kustomize, "build"]
    built = subprocess.run([*command, FOLDER], capture_output=True, text=True, check=True).stdout
    manifests = list(yaml.safe_load_all(built))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    assert {one["metadata"].get("namespace", "fingerpost") for one in manifests} == {"fingerpost"}
    (balancer,) = (one for one in manifests if one["kind"] == "ConfigMap" and "haproxy.cfg" in one["data"])
    assert balancer["data"]["haproxy.cfg"] == (ROOT / "deploy/haproxy/haproxy.cfg").read_text()


def test_workloads_select_their_own_pods_only() -> None:
    for name, workload in (_of_kind("Deployment") | _of_kind("StatefulSet")).items():
        assert _selected(workload["spec"]["selector"]["matchLabels"]) == [name]


def test_services_and_budgets_select_existing_pods_and_open_ports() -> None:
    expected = {"fingerpost": "haproxy", "fingerpost-replicas": "fingerpost", "redis": "redis"}
    for name, service in _of_kind("Service").items():
        (pod,) = _selected(service["spec"]["selector"])
        assert pod == expected.pop(name)
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(_ports(_pods()[pod]))
    assert not expected
    for name, budget in _of_kind("PodDisruptionBudget").items():
        assert _selected(budget["spec"]["selector"]["matchLabels"]) == [name]


def test_network_policies_allow_only_the_needed_connections() -> None:
    policies = _of_kind("NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in ("haproxy", "fingerpost", "redis"):
        spec = policies[name]["spec"]
        assert _selected(spec["podSelector"]["matchLabels"]) == [name]
        for rule in spec["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= set(_ports(_pods()[name]))
        for rule in spec.get("egress", []):
            (to,) = rule["to"]
            (other,) = _selected(to["podSelector"]["matchLabels"])
            assert {port["port"] for port in rule["ports"]} <= set(_ports(_pods()[other]))


def test_no_container_runs_as_root_or_writes_outside_its_mounts() -> None:
    for pod in _pods().values():
        security = _container(pod)["securityContext"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert _container(pod)["resources"]["limits"]["memory"]


def test_replicas_have_the_user_port_and_probes_of_the_image() -> None:
    image, pod = read_stages()["service"], _pods()["fingerpost"]
    context = pod["spec"]["securityContext"]
    assert image.arguments("USER") == [f"{context['runAsUser']}:{context['runAsGroup']}"]
    assert image.environment()["FINGERPOST_PORT"] == str(_ports(pod)["http"])
    paths = {
        name: _container(pod)[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert paths == {
        "startupProbe": "/health/live",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    assert _container(pod)["readinessProbe"]["timeoutSeconds"] > Settings().readiness_timeout_s
    assert pod["spec"]["terminationGracePeriodSeconds"] > 2 * (Settings().drain_s + Settings().shutdown_s)
    # With links the Service fingerpost would set FINGERPOST_PORT to a URL.
    assert pod["spec"]["enableServiceLinks"] is False


def test_keys_are_mounted_where_the_image_reads_them() -> None:
    keys = Path(read_stages()["service"].environment()["FINGERPOST_KEYS_FILE"])
    (mount,) = [one for one in _container(_pods()["fingerpost"])["volumeMounts"] if one["name"] == "keys"]
    assert (Path(mount["mountPath"]), mount["readOnly"]) == (keys.parent, True)
    assert "subPath" not in mount  # a subPath mount never shows changes


def test_configuration_sets_only_existing_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    (kustomization,) = _documents(FOLDER / "kustomization.yaml")
    generated = {one["name"]: one for one in kustomization["configMapGenerator"]}
    (source,) = _container(_pods()["fingerpost"])["envFrom"]
    literals = dict(one.split("=", 1) for one in generated[source["configMapRef"]["name"]]["literals"])
    assert {name.removeprefix("FINGERPOST_").lower() for name in literals} <= set(Settings.model_fields)
    for name, value in literals.items():
        monkeypatch.setenv(name, value)
    assert Settings().redis_url == "redis://redis:6379"


def test_autoscaler_follows_the_queue() -> None:
    (autoscaler,) = _of_kind("HorizontalPodAutoscaler").values()
    target = autoscaler["spec"]["scaleTargetRef"]
    assert "replicas" not in _of_kind(target["kind"])[target["name"]]["spec"]
    (metric,) = autoscaler["spec"]["metrics"]
    (adapter,) = _documents(FOLDER / "prometheus-adapter.yaml")
    (rule,) = adapter["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    thousandths = re.fullmatch(r"(\d+)m", metric["pods"]["target"]["averageValue"])
    assert thousandths is not None
    assert int(thousandths[1]) / 1000 < Settings().standing_queue_s
    balancer = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    assert f"server-template replica- {autoscaler['spec']['maxReplicas']} " in balancer


def test_redis_and_haproxy_match_compose() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    command = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", one) for one in compose["redis"]["command"]]
    assert _container(_pods()["redis"])["args"] == command
    assert all(_container(_pods()[name])["image"] == compose[name]["image"] for name in ("redis", "haproxy"))
