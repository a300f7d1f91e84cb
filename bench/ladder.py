"""Throughput and latency of greedy requests at 1, 4, 16 and 64 at once, on the embedded writer."""

import argparse
import sys

import harness

WANTED_GAIN = 5.0


def row(report):
    def milliseconds(name):
        return " / ".join(f"{report[name][percentile] * 1e3:.3g}" for percentile in ("p50", "p90", "p99"))
    return (f"| {report['load'].split()[-1]} | {report['requests_per_second']:.1f} | {report['tokens_per_second']:.0f} "
            f"| {milliseconds('queue')} | {milliseconds('queue_to_first_token')} | {milliseconds('inter_token')} "
            f"| {milliseconds('end_to_end')} |")


def measure(programs, goals, arguments):
    server = programs.server(*arguments.server_flags)
    load = programs.bench(server, f"--concurrency={arguments.levels}", "--strategy=greedy", f"--warmup={arguments.warmup}s",
                          f"--duration={arguments.seconds}s")
    levels = arguments.levels.split(",")
    reports = load.reports(len(levels) * (arguments.warmup + arguments.seconds) + harness.PATIENCE_SECONDS)
    print("| at once | requests/s | tokens/s | queue | queue to first token | inter-token | end to end |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for report in reports:
        print(row(report))
    print("Times in milliseconds, p50 / p90 / p99.")
    by_level = dict(zip(levels, reports))
    goals.figures["levels"] = by_level
    failed = sum(report["requests"] - report["completed"] for report in reports)
    goals.goal("failed requests", failed, failed == 0, "0")
    if "1" in by_level and "16" in by_level:
        gain = by_level["16"]["tokens_per_second"] / max(by_level["1"]["tokens_per_second"], 1e-9)
        goals.goal("tokens/s at 16 at once over those at 1", round(gain, 2), gain >= WANTED_GAIN, f"≥ {WANTED_GAIN:g}")
    server.await_idle()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", default="1,4,16,64", help="requests at once (default %(default)s)")
    parser.add_argument("--warmup", type=float, default=2, help="seconds ahead of each level (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="seconds a level (default %(default)s)")
    parser.add_argument("server_flags", nargs="*", help="flags of nabla-server, behind --")
    sys.exit(harness.run("ladder", measure, parser))
