"""Three times as many requests as the server can serve: goodput, the answer to the refused, memory, counters.

Capacity is what a closed loop gets through with as many callers as the server runs requests. Then requests come at
random at three times that rate, whatever the server does. A request is good if it ends OK within four times the p99
end-to-end time of the closed loop: the queue is as long as what runs, so that half of it is waiting. Machines become
slower and faster within minutes: capacity is measured again behind it, and goodput compared with the mean of the two.
The engine leaves a core to the load, which elsewhere has a machine of its own: else what is measured is how the two
share the cores.
"""

import argparse
import statistics
import sys
import time

import harness

WANTED_GOODPUT = 0.9
WANTED_REFUSAL_SECONDS = 0.05  # of 99 in 100; the longest is printed, too
WANTED_LOAD = 2.9
WANTED_GROWTH = 0.05
FACTOR = 3


def watch_memory(server, load, seconds):
    """(seconds, bytes) about once a second until the load's process ends."""
    samples = []
    start = time.monotonic()
    while load.process.poll() is None:
        server.check_alive()
        if time.monotonic() - start > seconds + harness.PATIENCE_SECONDS:
            raise harness.Failure("nabla bench does not end")
        samples.append((time.monotonic() - start, server.resources()["memory_bytes"]))
        time.sleep(1)
    return samples


def judge_memory(goals, samples):
    """Compares the second quarter, when everything has been touched once, with the last."""
    sizes = [size for _, size in samples]
    quarter = max(len(sizes) // 4, 1)
    early, late = statistics.median(sizes[quarter:2 * quarter] or sizes), statistics.median(sizes[-quarter:])
    goals.figures["memory"] = samples
    goals.goal("memory, last quarter over second", round(late / early, 3), late <= early * (1 + WANTED_GROWTH),
               f"≤ {1 + WANTED_GROWTH:g}")


def judge_counters(goals, before, after, report):
    """What the server counted against what the client saw; the client's report leaves nothing out without a warm-up."""
    def grown(name, **labels):
        return harness.sum_of(after, name, **labels) - harness.sum_of(before, name, **labels)
    ended = grown("nabla_requests_total")
    admitted = grown("nabla_requests_admitted_total")
    refused = grown("nabla_requests_refused_total")
    goals.goal("admitted − ended", int(admitted - ended), admitted == ended, "0")
    goals.goal("asked by the client − (admitted + refused)", int(report["requests"] - admitted - refused),
               report["requests"] == admitted + refused, "0")
    goals.goal("completed for the client − counted OK", int(report["completed"] - grown("nabla_requests_total", code="OK")),
               report["completed"] == grown("nabla_requests_total", code="OK"), "0")


def measure(programs, goals, arguments):
    for strategy in arguments.strategies.split(","):
        print(f"{strategy} requests")
        part = harness.Goals(strategy)
        overload(programs, part, strategy, arguments)
        goals.include(part)


def overload(programs, goals, strategy, arguments):
    server = programs.server(f"--max_running_requests={arguments.running}", f"--max_queued_requests={arguments.running}")
    flags = [f"--strategy={strategy}", *(["--learning_rate=0.5"] if strategy == "nabla" else [])]

    def closed_loop(when):
        load = programs.bench(server, *flags, f"--concurrency={arguments.running}", "--warmup=3s",
                              f"--duration={arguments.capacity_seconds}s")
        report = load.report(arguments.capacity_seconds + harness.PATIENCE_SECONDS)
        goals.figures[f"closed loop {when}"] = report
        goals.figure(f"capacity {when}, requests/s", report["requests_per_second"], f"{report['requests_per_second']:.1f}")
        return report

    calm = closed_loop("before")
    capacity = calm["requests_per_second"]
    limit = 4 * calm["end_to_end"]["p99"]
    goals.figure("a good request ends within, s", limit, f"{limit:.2f}")
    before = server.await_idle()

    load = programs.bench(server, *flags, f"--rate={FACTOR * capacity}", "--warmup=0s",
                          f"--duration={arguments.seconds}s", f"--slo_e2e={limit}s")
    samples = watch_memory(server, load, arguments.seconds)
    report = load.report()
    goals.figures["open loop"] = report
    goals.figure("asked, completed, refused", [report["requests"], report["completed"], report["refused"]])
    goals.figure("other failures", {code: count for code, count in report["codes"].items() if code != "RESOURCE_EXHAUSTED"})
    offered = report["requests"] / report["window_seconds"] / capacity
    goals.goal("offered over capacity", round(offered, 3), offered >= WANTED_LOAD, f"≥ {WANTED_LOAD:g}")
    after = server.await_idle()
    share = report["good_per_second"] / statistics.mean([capacity, closed_loop("behind it")["requests_per_second"]])
    goals.goal("goodput over capacity", round(share, 3), share >= WANTED_GOODPUT, f"≥ {WANTED_GOODPUT:g}")
    refusal = report["refusal"]
    goals.figure("answer to the refused, ms, p50 / p99 / max",
                 [refusal["p50"], refusal["p99"], refusal["max"]],
                 " / ".join(f"{refusal[name] * 1e3:.2f}" for name in ("p50", "p99", "max")))
    goals.goal("99 % of the refused answered within, ms", round(refusal["p99"] * 1e3, 2),
               refusal["count"] > 0 and refusal["p99"] < WANTED_REFUSAL_SECONDS, "< 50")
    judge_memory(goals, samples)
    judge_counters(goals, before, after, report)
    server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="of overload (default %(default)s)")
    parser.add_argument("--capacity_seconds", type=float, default=15, help="of the closed loop (default %(default)s)")
    parser.add_argument("--running", type=int, default=16, help="requests that run at once, and that may wait (default %(default)s)")
    parser.add_argument("--strategies", default="nabla,greedy", help="what is asked for, one after another (default %(default)s)")
    sys.exit(harness.run("overload", measure, parser))
