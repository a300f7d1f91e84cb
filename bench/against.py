"""Revised answers of the embedded pair beside an earlier build: a request's median time, and requests per second.

Both servers answer the same questions of the same `nabla bench`, one after the other in every turn.
"""

import argparse
import statistics
import sys

import harness

LEVELS = ("1", "8")


def turn(client, programs, arguments):
    """Reports by level of one server of `programs`, asked by the `nabla bench` of `client`."""
    server = programs.server()
    load = client.bench(server, f"--concurrency={','.join(LEVELS)}", "--strategy=nabla", "--learning_rate=0.5",
                        "--warmup=2s", f"--duration={arguments.seconds}s")
    reports = load.reports(len(LEVELS) * (arguments.seconds + 2) + harness.PATIENCE_SECONDS)
    server.stop()
    return dict(zip(LEVELS, reports))


def measure(programs, goals, arguments):
    with harness.Programs(arguments.before) as before:
        builds = {"before": before, "after": programs}
        turns = {name: [] for name in builds}
        for _ in range(arguments.turns):
            for name, build in builds.items():
                turns[name].append(turn(programs, build, arguments))
    goals.figures["turns"] = turns
    failed = sum(report["requests"] - report["completed"] for reports in turns.values() for of in reports
                 for report in of.values())
    goals.goal("failed requests", failed, failed == 0, "0")
    for level in LEVELS:
        medians = {name: statistics.median(of[level]["end_to_end"]["p50"] for of in reports) * 1e3
                   for name, reports in turns.items()}
        rates = {name: statistics.median(of[level]["requests_per_second"] for of in reports)
                 for name, reports in turns.items()}
        goals.figure(f"a request's median with {level} at once", medians,
                     f"{medians['before']:.1f} → {medians['after']:.1f} ms")
        goals.figure(f"requests a second with {level} at once", rates, f"{rates['before']:.1f} → {rates['after']:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, metavar="BIN", help="folder of the earlier build's programs")
    parser.add_argument("--turns", type=int, default=5, help="of both (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=8, help="seconds a level (default %(default)s)")
    sys.exit(harness.run("against", measure, parser))
