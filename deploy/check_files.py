"""Checks of deploy/ that no tool at hand makes: that its files agree with each other and with the sources.

    python3 deploy/check_files.py

Needs compose-spec and PyYAML (deploy/check_requirements.txt). Prints every disagreement, exit code 1 if there is one.
"""

import json
import pathlib
import re
import sys

import compose_spec
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"

# What a build for developers needs and that of an image does not.
NOT_IN_IMAGE = {"ccache", "python3-venv", "libgtest-dev", "libgmock-dev", "libbenchmark-dev"}
# Of compose.yaml, with the Kubernetes manifest and the config file of each.
SERVICES = (("nabla-server", "kubernetes/server.yaml", "nabla.textproto"), ("nabla-reward", "kubernetes/reward.yaml", "reward.textproto"))
SUFFIXES = ("_bucket", "_sum", "_count")


def metrics_of_sources():
    """Names of the metrics that the servers register."""
    names = set()
    for path in (ROOT / "server").glob("*.cc"):
        names.update(re.findall(r'"(nabla_[a-z0-9_]+)"', path.read_text()))
    return names


def metrics_used():
    """{metric: [where]} of the dashboard, the rules and the autoscaler; recorded series (nabla:…) are no metrics."""
    texts = {"grafana/dashboard.json": [], "prometheus/rules.yml": [], "prometheus/adapter.yml": [], "kubernetes/autoscaler.yaml": []}
    dashboard = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        texts["grafana/dashboard.json"] += [target["expr"] for target in panel.get("targets", [])]
    for group in yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"]:
        texts["prometheus/rules.yml"] += [rule["expr"] for rule in group["rules"]]
    for name in ("prometheus/adapter.yml", "kubernetes/autoscaler.yaml"):
        texts[name].append((DEPLOY / name).read_text())
    used = {}
    for where, expressions in texts.items():
        for expression in expressions:
            for name in re.findall(r"\b(nabla_[a-z0-9_]+)\b", expression):
                used.setdefault(name, []).append(where)
    return used


def recorded_series():
    """Series that rules.yml records, and those that the dashboard and the alerts read."""
    groups = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    read = set(re.findall(r"nabla:[a-z0-9_:]+", (DEPLOY / "grafana/dashboard.json").read_text()))
    for rule in rules:
        read.update(re.findall(r"nabla:[a-z0-9_:]+", rule["expr"]))
    return recorded, read


def base_name(metric, known):
    """The metric that a histogram's series belongs to."""
    for suffix in SUFFIXES:
        if metric not in known and metric.endswith(suffix):
            return metric[:-len(suffix)]
    return metric


def seconds_of(text, field):
    return float(re.search(rf"{field}: ([0-9.]+)", text)[1])


def check_metrics():
    known = metrics_of_sources()
    for metric, places in sorted(metrics_used().items()):
        if base_name(metric, known) not in known:
            yield f"{sorted(set(places))}: no server exports {metric}"
    recorded, read = recorded_series()
    for series in sorted(read - recorded):
        yield f"rules.yml records no {series}"


def check_config_map():
    config_map = yaml.safe_load((DEPLOY / "kubernetes/configmap.yaml").read_text())
    for _, _, name in SERVICES:
        if config_map["data"].get(name) != (DEPLOY / name).read_text():
            yield f"kubernetes/configmap.yaml: differs from {name}"


def check_grace_periods():
    """A drain is the server's own to give up, kDrainGrace behind its timeout."""
    grace = float(re.search(r"kDrainGrace = absl::Seconds\((\d+)\)", (ROOT / "server/shutdown_signal.h").read_text())[1])
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for service, manifest, config in SERVICES:
        drain = seconds_of((DEPLOY / config).read_text(), "drain_timeout_seconds") + grace
        given = float(compose["services"][service]["stop_grace_period"].rstrip("s"))
        if given <= drain:
            yield f"compose.yaml: {service} is killed after {given:g} s, before its drain may have ended, {drain:g} s"
        pod = next(yaml.safe_load_all((DEPLOY / manifest).read_text()))["spec"]["template"]["spec"]
        given = pod["terminationGracePeriodSeconds"] - float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
        if given <= drain:
            yield f"{manifest}: {given:g} s are left behind the preStop hook, less than the drain may take, {drain:g} s"


def check_compose():
    text = (DEPLOY / "compose.yaml").read_text()
    try:
        compose_spec.PyCompose.from_yaml(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    except ValueError as error:
        yield f"compose.yaml: {error}"
    for service, about in yaml.safe_load(text)["services"].items():
        for volume in about.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (DEPLOY / source).exists():
                yield f"compose.yaml: {service} mounts {source}, which is not there"


def check_packages():
    wanted = set(re.search(r'^PACKAGES="([^"]*)"', (ROOT / "dev").read_text(), re.MULTILINE)[1].split()) - NOT_IN_IMAGE
    installed = set(re.findall(r"[a-z0-9][a-z0-9+.-]+", (ROOT / "Dockerfile").read_text()))
    for package in sorted(wanted - installed):
        yield f"Dockerfile: does not install {package}, which ./dev does"
    versions = [re.search(r"TORCH_VERSION=([0-9.]+)", (ROOT / name).read_text())[1] for name in ("dev", "Dockerfile")]
    if versions[0] != versions[1]:
        yield f"Dockerfile: TORCH_VERSION is {versions[1]}, that of ./dev is {versions[0]}"


def main():
    wrong = []
    for check in (check_metrics, check_config_map, check_grace_periods, check_compose, check_packages):
        wrong += check()
    for line in wrong:
        print(f"deploy: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
