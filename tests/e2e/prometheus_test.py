"""A real Prometheus with the configuration and rules of deploy/ scrapes the servers: the counters add up, every metric of
the dashboard is there, every expression of it is taken."""

import json
import os
import pathlib
import re
import shutil
import sys
import unittest
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import harness  # noqa: E402

BIN = os.environ["NABLA_BIN"]
HAS_REWARD_SERVER = os.path.exists(os.path.join(BIN, "nabla-reward-server"))
REWARD_SERVICE_METRICS = re.compile(r"nabla_reward_(calls|call_seconds|model_tokens|batch_tokens|rpc)")


class Prometheus:
    """Started on deploy/prometheus/prometheus.yml with its targets replaced and a second for its intervals."""

    def __init__(self, programs, targets):
        text = (ROOT / "deploy/prometheus/prometheus.yml").read_text().replace("15s", "1s")
        for address, running in targets.items():
            if address not in text:
                raise harness.Failure(f"deploy/prometheus/prometheus.yml has no target {address}")
            text = text.replace(address, running)
        folder = pathlib.Path(programs.scratch)
        (folder / "prometheus.yml").write_text(text)
        shutil.copy(ROOT / "deploy/prometheus/rules.yml", folder)
        self.program = programs.start("prometheus", "prometheus", f"--config.file={folder / 'prometheus.yml'}",
                                      f"--storage.tsdb.path={folder / 'data'}", "--web.listen-address=127.0.0.1:0")
        harness.await_that("Prometheus is ready", lambda: self._logged("ready to receive web requests"),
                           alive=[self.program])
        self.url = "http://" + self._logged(r'msg="Listening on" address=(\S+)')[1]

    def _logged(self, pattern):
        return next(filter(None, (re.search(pattern, line) for line in list(self.program.error))), None)

    def get(self, path, **parameters):
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def values(self, expression):
        return [float(sample["value"][1]) for sample in self.get("query", query=expression)["result"]]

    def await_value(self, expression, value):
        harness.await_that(f"{expression} is {value}", lambda: self.values(expression) == [value], alive=[self.program])


def dashboard_expressions():
    """As Grafana would send them, with its variables set to everything."""
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "5s")
            yield expression.replace("$job", ".*").replace("$instance", ".*")


class PrometheusTest(unittest.TestCase):
    def setUp(self):
        self.programs = harness.Programs(BIN)
        self.addCleanup(self.programs.__exit__)
        targets = {}
        if HAS_REWARD_SERVER:
            reward = self.programs.reward_server()
            targets["nabla-reward:9465"] = self.address_of(reward.line("metrics on "))
            self.server = self.programs.server(f"--reward_address={reward.address}", reward=False)
        else:
            self.server = self.programs.server()
        targets["nabla-server:9464"] = self.address_of(self.server.metrics_url)
        self.targets = targets
        self.prometheus = Prometheus(self.programs, targets)

    @staticmethod
    def address_of(url):
        return url.removeprefix("http://").removesuffix("/metrics")

    def ask(self, *flags):
        return self.programs.nabla("reason", "Tom has 3 apples. He buys 4 more. How many apples does Tom have?",
                                   f"--server={self.server.address}", *flags)

    def test_the_counters_add_up_and_the_dashboard_has_data(self):
        for target in self.targets.values():
            self.prometheus.await_value(f'up{{instance="{target}"}}', 1)
            self.prometheus.await_value(f'nabla_ready{{instance="{target}"}}', 1)
        asked = {"greedy": 3, "sample": 2, "nabla": 2}
        for strategy, count in asked.items():
            flags = ["--learning_rate=0.5", "--max_confidence=1"] if strategy == "nabla" else []
            for _ in range(count):
                result = self.ask(f"--strategy={strategy}", *flags)
                self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotEqual(self.ask("--max_new_tokens=0").returncode, 0)

        for strategy, count in asked.items():
            self.prometheus.await_value(f'sum(nabla_requests_total{{strategy="{strategy}", code="OK"}})', count)
        self.prometheus.await_value("sum(nabla_requests_admitted_total)", sum(asked.values()))
        self.prometheus.await_value("sum(nabla_requests_refused_total)", 1)
        self.prometheus.await_value("nabla:requests_unaccounted", 0)
        self.prometheus.await_value("sum(nabla_e2e_request_latency_seconds_count)", sum(asked.values()))
        alarmed = {alert["labels"].get("job") for alert in self.prometheus.get("alerts")["alerts"]}
        self.assertEqual(alarmed, set() if HAS_REWARD_SERVER else {"nabla-reward"})

        names = set(self.prometheus.get("label/__name__/values"))
        for expression in dashboard_expressions():
            self.prometheus.get("query", query=expression)  # an HTTP error where Prometheus does not take it
            for name in re.findall(r"\bnabla_[a-z0-9_]+", expression):
                if HAS_REWARD_SERVER or not REWARD_SERVICE_METRICS.match(name):
                    self.assertIn(name, names)
        health = [rule["health"] for group in self.prometheus.get("rules")["groups"] for rule in group["rules"]]
        self.assertEqual(set(health), {"ok"})


if __name__ == "__main__":
    if not shutil.which("prometheus"):
        print("skipped: prometheus is not installed; ./dev test fetches it")
        sys.exit(77)  # SKIP_RETURN_CODE
    unittest.main(verbosity=2)
