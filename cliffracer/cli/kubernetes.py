"""The Kubernetes manifests of `cliffracer deploy k8s`: what is written is all that is needed beside NATS, PostgreSQL and one secret."""

from typing import Any

from cliffracer.cli.plan import HTTP_PORT, Plan
from cliffracer.cli.yaml import yaml

_USER = 10001
_PROPAGATION = 5
"""Seconds for which a Service may still send connections to a pod that ends: it is told at the same time as the pod, not before."""
_MONITORING = "nats.nats:8222"
Document = dict[str, Any]


def kubernetes(plan: Plan) -> str:
    """Return manifests. Secrets are referred to, not written."""
    literals = " ".join(f"--from-literal={key}=..." for key in plan.secrets)
    head = f"# First: kubectl create secret generic {plan.name} {literals}\n"
    if plan.database:
        head += "# Before a new version, where DATABASE_URL is set: cliffracer db apply\n"
    if plan.keda and plan.consumers:
        head += f"# KEDA asks NATS at {_MONITORING} how many events wait: put the address of its monitoring port there, and its account.\n"
    return head + "".join("---\n" + "\n".join(yaml(document)) + "\n" for document in documents(plan))


def documents(plan: Plan) -> list[Document]:
    """Return the manifests as values."""
    found = [_config(plan)] if plan.config else []
    found += [_deployment(plan), _disruption(plan), *plan.policies]
    if plan.http:
        ports = [{"name": "http", "port": 80, "targetPort": "http"}]
        found.append(_document(plan, "v1", "Service", {"selector": {"app": plan.name}, "ports": ports}))
    found.append(_scaled(plan) if plan.keda and plan.consumers else _autoscaler(plan))
    return found


def _document(plan: Plan, version: str, kind: str, spec: Document) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": plan.name, "labels": {"app": plan.name}}, "spec": spec}


def _config(plan: Plan) -> Document:
    found = _document(plan, "v1", "ConfigMap", {})
    del found["spec"]
    return {**found, "data": plan.config}


def _selector(plan: Plan) -> Document:
    return {"matchLabels": {"app": plan.name}}


def _deployment(plan: Plan) -> Document:
    pod = {
        "terminationGracePeriodSeconds": int(plan.drain) + 10 + (_PROPAGATION if plan.http else 0),
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(plan)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    spec = {  # without replicas: applied again, they would take away what the autoscaler has added
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": _selector(plan),
        "template": {"metadata": {"labels": {"app": plan.name}}, "spec": pod},
    }
    return _document(plan, "apps/v1", "Deployment", spec)


def _container(plan: Plan) -> Document:
    plain = {"CLIFFRACER_ENV": "production", "HTTP_HOST": "0.0.0.0", "HTTP_PORT": str(HTTP_PORT)}  # noqa: S104 - inside a pod
    secret = [{"name": key, "valueFrom": {"secretKeyRef": {"name": plan.name, "key": key}}} for key in plan.secrets]
    return {
        "name": plan.name,
        "image": plan.image,
        "command": plan.command[:1],
        "args": plan.command[1:],
        **({"envFrom": [{"configMapRef": {"name": plan.name}}]} if plan.config else {}),
        "env": [*({"name": name, "value": value} for name, value in plain.items()), *secret],
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        "startupProbe": {**_probe("/health"), "periodSeconds": 2, "failureThreshold": 30},
        "livenessProbe": {**_probe("/health"), "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**_probe("/health/ready"), "periodSeconds": 2, "failureThreshold": 1},
        **({"lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_PROPAGATION)]}}}} if plan.http else {}),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - uploads that are too large for memory go there
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
    }


def _probe(path: str) -> Document:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 2}


def _disruption(plan: Plan) -> Document:
    return _document(plan, "policy/v1", "PodDisruptionBudget", {"minAvailable": 1, "selector": _selector(plan)})


def _autoscaler(plan: Plan) -> Document:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.name}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 10, "metrics": [metric]}
    return _document(plan, "autoscaling/v2", "HorizontalPodAutoscaler", spec)


def _scaled(plan: Plan) -> Document:
    """Scale by how many events wait for each consumer, instead of by CPU (KEDA)."""
    place = {"natsServerMonitoringEndpoint": _MONITORING, "account": "$G", "stream": plan.stream, "lagThreshold": "100"}
    triggers = [{"type": "nats-jetstream", "metadata": {**place, "consumer": name}} for name in plan.consumers]
    spec = {"scaleTargetRef": {"name": plan.name}, "minReplicaCount": 2, "maxReplicaCount": 10, "triggers": triggers}
    return _document(plan, "keda.sh/v1alpha1", "ScaledObject", spec)
