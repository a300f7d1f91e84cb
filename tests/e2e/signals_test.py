"""SIGTERM to the servers, once and twice: while they load, and while something runs."""

import os
import pathlib
import shutil
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "bench"))

import harness  # noqa: E402

BIN = os.environ["NABLA_BIN"]
ENDED_BY_SIGTERM = 128 + signal.SIGTERM


class SignalsTest(unittest.TestCase):
    def setUp(self):
        self.programs = harness.Programs(BIN)
        self.addCleanup(self.programs.__exit__)

    def endless_model(self):
        """A folder of the embedded judge whose weights never come."""
        folder = pathlib.Path(self.programs.scratch) / "judge"
        shutil.copytree(harness.ROOT / "models/judge", folder)
        (folder / "model.safetensors").unlink()
        os.mkfifo(folder / "model.safetensors")
        return folder

    def loading(self, name):
        program = self.programs.start(name, self.programs.bin / name, f"--model={self.endless_model()}", "--port=0",
                                      "--metrics_port=0")
        program.line("metrics on ")
        return program

    def test_one_ends_a_server_that_loads(self):
        program = self.loading("nabla-server")
        program.send(signal.SIGTERM)
        self.assertEqual(program.wait(), 0)

    @unittest.skipUnless(os.path.exists(os.path.join(BIN, "nabla-reward-server")), "no nabla-reward-server was built")
    def test_one_ends_a_reward_server_that_loads(self):
        program = self.loading("nabla-reward-server")
        program.send(signal.SIGTERM)
        self.assertEqual(program.wait(), 0)

    def test_a_second_ends_a_server_that_drains(self):
        server = self.programs.server("--drain_timeout=10m")
        self.programs.bench(server, "--strategy=nabla", "--iterations=1000", "--max_confidence=1", "--concurrency=16",
                            "--warmup=0s", "--requests=16")
        server.await_metrics("requests run", lambda metrics: harness.sum_of(metrics, "nabla_num_requests_running") > 8)
        server.send(signal.SIGTERM)
        server.line("draining")
        server.send(signal.SIGTERM)
        self.assertEqual(server.wait(), ENDED_BY_SIGTERM)


if __name__ == "__main__":
    unittest.main(verbosity=2)
