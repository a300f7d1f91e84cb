"""The faults of bench/faults.py in small: a killed reward service, a drained server, readers that do not read."""

import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "bench"))

import faults  # noqa: E402
import harness  # noqa: E402

BIN = os.environ["NABLA_BIN"]
SECONDS = 2
CALLERS = 2


class FaultsTest(unittest.TestCase):
    def expect(self, fault):
        goals = harness.Goals("faults")
        with harness.Programs(BIN) as programs:
            fault(programs, goals, SECONDS, CALLERS)
        missed = [goal for goal in goals.goals if not goal["met"]]
        self.assertEqual(missed, [], goals.figures)

    @unittest.skipUnless(os.path.exists(os.path.join(BIN, "nabla-reward-server")), "no nabla-reward-server was built")
    def test_a_killed_reward_service_fails_only_those_that_need_it_until_it_is_back(self):
        self.expect(faults.kill_reward_service)

    def test_what_was_admitted_before_sigterm_ends_well(self):
        self.expect(faults.drain_under_load)

    def test_readers_that_do_not_read_hold_nobody_up(self):
        self.expect(faults.slow_readers)


if __name__ == "__main__":
    unittest.main(verbosity=2)
