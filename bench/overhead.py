"""What the service adds to a request on the engine, and to each of its events: in process against gRPC on loopback."""

import argparse
import json
import sys

import harness

WANTED_OVERHEAD = 0.03
WANTED_EVENT_SECONDS = 0.001


def measure(programs, goals, arguments):
    for strategy in arguments.strategies.split(","):
        print(f"{strategy}, {arguments.repetitions} requests each way")
        flags = ["--learning_rate=0.5"] if strategy == "nabla" else []
        program = programs.start("nabla-service-overhead", programs.bin / "nabla-service-overhead",
                                 f"--model={harness.ROOT / 'models/writer'}",
                                 f"--reward_model={harness.ROOT / 'models/judge'}", f"--strategy={strategy}",
                                 f"--repetitions={arguments.repetitions}", *flags)
        if program.wait(3600) != 0:
            raise harness.Failure("\n".join(program.error[-5:]))
        result = json.loads("\n".join(program.out))
        goals.figures[strategy] = result
        events = result["event_seconds"]
        for way in ("direct", "served"):
            seconds = result[f"{way}_seconds"]
            print(f"  request, {way:<36} {seconds['p50'] * 1e3:.2f} ms (p50), {seconds['p99'] * 1e3:.2f} ms (p99)")
        print(f"  event, engine to client, of {events['count']:<15} {events['p50'] * 1e3:.3f} ms (p50), "
              f"{events['p99'] * 1e3:.3f} ms (p99), {events['max'] * 1e3:.3f} ms (max)")
        overhead = result["overhead_of_medians"]
        goals.goal(f"{strategy}: request time added", f"{overhead * 100:.2f} %", overhead < WANTED_OVERHEAD, "< 3 %")
        goals.goal(f"{strategy}: event latency, ms (p99)", round(events["p99"] * 1e3, 3),
                   events["p99"] < WANTED_EVENT_SECONDS, "< 1")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=200, help="requests each way (default %(default)s)")
    parser.add_argument("--strategies", default="greedy,nabla", help="which (default %(default)s)")
    sys.exit(harness.run("overhead", measure, parser))
