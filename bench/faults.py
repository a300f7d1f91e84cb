"""Faults under load: the reward service is killed and comes back, the server is told to stop, readers do not read.

Each must leave no request without an end, no admitted request lost that nobody gave up, and no thread, file or memory
behind.
"""

import argparse
import signal
import sys

import harness
import stalled_reader

# A request that revises at length, so that a fault meets it in mid-stream.
REVISING = ["--strategy=nabla", "--learning_rate=0.5", "--max_confidence=1", "--max_rollouts=64"]
WANTED_GROWTH_BYTES = 32 << 20
DRAIN_SECONDS = 60


def count_failures(report, *expected_codes):
    """Failures of a report whose codes are not among those."""
    return sum(count for code, count in report["codes"].items() if code not in expected_codes)


def await_running(server, count):
    server.await_metrics(f"{count} requests run", lambda metrics: (
        harness.sum_of(metrics, "nabla_num_requests_running") >= count))


def kill_reward_service(programs, goals, seconds, callers):
    """The fault twice: what the first round starts for good (workers, arenas of memory) is no leak of the second. Then
    once more, with another reward model behind it."""
    reward = programs.reward_server()
    port = reward.address.rsplit(":", 1)[1]
    # No more workers than the loads need, so that the first round starts them all.
    server = programs.server(f"--reward_address={reward.address}", f"--max_running_requests={2 * callers}", reward=False)
    reward = lose_reward_service(programs, goals, server, reward, port, seconds, callers, "first round")
    server.await_idle()
    before = server.resources()
    reward = lose_reward_service(programs, goals, server, reward, port, seconds, callers, "second round")
    judge_leaks(goals, server, before)
    lose_reward_service(programs, goals, server, reward, port, seconds, callers, "with another model", "--kind=verdict")


def lose_reward_service(programs, goals, server, reward, port, seconds, callers, which, *flags):
    """kill -9 under two loads: one whose requests need the reward, one whose requests go on without. The new service,
    started with `flags`."""
    print(f"kill -9 of the reward service in mid-stream, and its return: {which}")
    load = [*REVISING, f"--concurrency={callers}", "--warmup=0s", f"--duration={seconds}s"]
    needing = programs.bench(server, *load)
    going_on = programs.bench(server, *load, "--continue_without_reward")
    await_running(server, 2 * callers)
    reward.send(signal.SIGKILL)
    reward.wait()
    needed, went_on = needing.report(seconds + harness.PATIENCE_SECONDS), going_on.report(seconds + harness.PATIENCE_SECONDS)
    goals.figures[f"reward service lost, {which}"] = {"needing": needed, "going on": went_on}
    failed = needed["requests"] - needed["completed"]
    goals.goal("requests that failed for the reward service, all UNAVAILABLE", failed,
               failed > 0 and count_failures(needed, "UNAVAILABLE") == 0, "> 0, no other code")
    goals.goal("failures of those that go on without", went_on["requests"] - went_on["completed"],
               went_on["completed"] > 0 and not went_on["codes"], "0")
    server.await_idle()

    reward = programs.reward_server(*flags, port=port)
    harness.await_that("a request with reward succeeds again", lambda: programs.nabla(
        "reason", "Tom has 3 apples. He buys 4 more. How many apples does Tom have?", f"--server={server.address}",
        "--strategy=nabla", "--max_rollouts=2").returncode == 0, alive=[server])
    again = programs.bench(server, *load).report(seconds + harness.PATIENCE_SECONDS)
    goals.figures[f"reward service back, {which}"] = again
    goals.goal("failures once it is back", again["requests"] - again["completed"],
               again["completed"] > 0 and not again["codes"], "0")
    return reward


def judge_leaks(goals, server, before):
    server.await_idle()

    def as_before():
        now = server.resources()
        return now if now["own_threads"] <= before["own_threads"] and now["files"] <= before["files"] else None
    try:
        after = harness.await_that("threads and files are back", as_before, seconds=20, alive=[server])
    except harness.Failure:
        after = server.resources()
    goals.figure("before, after", [before, after])
    goals.goal("threads left behind, gRPC's pools apart", after["own_threads"] - before["own_threads"],
               after["own_threads"] <= before["own_threads"], "≤ 0")
    goals.goal("files left open", after["files"] - before["files"], after["files"] <= before["files"], "≤ 0")
    growth = after["memory_bytes"] - before["memory_bytes"]
    goals.goal("memory left behind, MB", round(growth / 1e6, 1), growth < WANTED_GROWTH_BYTES, "< 33.6")


def drain_under_load(programs, goals, seconds, callers):
    """SIGTERM while requests run and wait: what was admitted ends well, what comes later is told to go elsewhere."""
    print("SIGTERM under load")
    server = programs.server(f"--max_running_requests={callers}", f"--drain_timeout={DRAIN_SECONDS}s")
    load = programs.bench(server, "--strategy=nabla", "--learning_rate=0.5", f"--concurrency={4 * callers}",
                          "--warmup=0s", f"--duration={seconds}s")
    metrics = server.await_metrics("requests run and wait", lambda values: (
        harness.sum_of(values, "nabla_num_requests_running") >= callers
        and harness.sum_of(values, "nabla_num_requests_waiting") >= callers
        and harness.sum_of(values, "nabla_requests_total") > 0))
    goals.figure("running, waiting at SIGTERM", [harness.sum_of(metrics, "nabla_num_requests_running"),
                                                 harness.sum_of(metrics, "nabla_num_requests_waiting")])
    server.send(signal.SIGTERM)
    admitted = []
    refused = harness.await_that("a new request is refused", lambda: refusal_of(programs, server, admitted))
    goals.goal("a new request is told", refused, "shutting down" in refused, 'with "shutting down" in it')
    status = server.wait(DRAIN_SECONDS + harness.PATIENCE_SECONDS)
    report = load.report(seconds + harness.PATIENCE_SECONDS)
    goals.figures["drained"] = report
    ended = server.ended_requests()
    lost = {code: count for (event, code), count in ended.items() if event == "request_finished" and code != "OK"}
    completed = ended.get(("request_finished", "OK"), 0)
    goals.goal("admitted requests that did not end OK, by the server's log", lost or 0, not lost, "0")
    seen = report["completed"] + len(admitted)
    goals.goal("completed by the server and not by the client", completed - seen, completed == seen, "0")
    goals.goal("streams that broke behind their first event", report["failed_after_start"],
               report["failed_after_start"] == 0, "0")
    goals.goal("codes of the others", report["codes"], count_failures(report, "UNAVAILABLE") == 0, "UNAVAILABLE alone")
    goals.goal("exit status of the server", status, status == 0, "0")


def refusal_of(programs, server, admitted):
    """What a new request is told while the server drains; None, and one more in `admitted`, while it still is."""
    if server.process.poll() is not None:
        return "nobody listens any more"
    asked = programs.nabla("reason", "?", f"--server={server.address}", "--strategy=greedy", "--max_new_tokens=1")
    if asked.returncode == 0:
        admitted.append(asked)
        return None
    return asked.stderr.strip()


def open_of(metrics):
    """Admitted requests that have not ended, be it only for their reader."""
    return int(harness.sum_of(metrics, "nabla_requests_admitted_total") - harness.sum_of(metrics, "nabla_requests_total"))


def slow_readers(programs, goals, seconds, callers):
    """A client that takes no byte of its answers: the engines go on without it, and others are served meanwhile."""
    print("readers that do not read")
    server = programs.server(f"--max_running_requests={callers}")
    with stalled_reader.StalledReader(server.address) as reader:
        reader.ask("Tom has 3 apples. He buys 4 more. How many apples does Tom have?", callers)
        metrics = server.await_metrics("the engines are done with those who do not read", lambda values: (
            harness.sum_of(values, "nabla_requests_admitted_total") == callers
            and harness.sum_of(values, "nabla_num_requests_running") == 0
            and harness.sum_of(values, "nabla_num_requests_waiting") == 0))
        goals.goal("streams kept for those who do not read", open_of(metrics), open_of(metrics) == callers, callers)
        others = programs.bench(server, "--strategy=greedy", f"--concurrency={callers}", "--warmup=0s",
                                f"--duration={seconds}s").report(seconds + harness.PATIENCE_SECONDS)
        goals.goal("failures of those that read meanwhile", others["requests"] - others["completed"],
                   others["completed"] > 0 and not others["codes"], "0")
        still_open = open_of(server.metrics())
        goals.goal("streams still kept behind that", still_open, still_open == callers, callers)
        reader.read_on()
        ended = server.await_idle()
        failed = harness.sum_of(ended, "nabla_requests_total") - harness.sum_of(ended, "nabla_requests_total", code="OK")
        goals.goal("failures once they read on", int(failed), failed == 0, "0")


FAULTS = {"reward": kill_reward_service, "drain": drain_under_load, "readers": slow_readers}


def measure(programs, goals, arguments):
    for name in arguments.faults.split(","):
        if name not in FAULTS:
            raise harness.Failure(f"there is no fault {name}; expected some of {', '.join(FAULTS)}")
        FAULTS[name](programs, goals, arguments.seconds, arguments.callers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", default=",".join(FAULTS), help="which (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="of each load (default %(default)s)")
    parser.add_argument("--callers", type=int, default=8, help="requests at once in each load (default %(default)s)")
    sys.exit(harness.run("faults", measure, parser))
