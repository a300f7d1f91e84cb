"""What the service adds to a request on the engine, and to each of its events: in process against gRPC on loopback."""

import argparse
import json
import pathlib
import sys

import harness

WANTED_OVERHEAD = 0.03
WANTED_EVENT_SECONDS = 0.001


def measure(programs, goals, arguments):
    embedded, real = harness.ROOT / "models", pathlib.Path(arguments.models)
    measure_pair(programs, goals, "embedded pair", embedded / "writer", embedded / "judge", arguments.repetitions,
                 {"nabla": ["--learning_rate=0.5"], "greedy": []})
    measure_pair(programs, goals, "SmolLM2-135M", real / "lm", real / "rm", arguments.long_repetitions,
                 {"nabla": ["--learning_rate=0.1", "--max_rollouts=2", "--max_new_tokens=64"],
                  "greedy": ["--max_new_tokens=64"]})


def measure_pair(programs, goals, name, model, reward_model, repetitions, strategies):
    for strategy, flags in strategies.items():
        print(f"{name}, {strategy}, {repetitions} requests each way")
        program = programs.start("nabla-service-overhead", programs.bin / "nabla-service-overhead", f"--model={model}",
                                 f"--reward_model={reward_model}", f"--strategy={strategy}",
                                 f"--repetitions={repetitions}", *flags)
        if program.wait(3600) != 0:
            raise harness.Failure("\n".join(program.error[-5:]))
        result = json.loads("\n".join(program.out))
        goals.figures[f"{name}, {strategy}"] = result
        events = result["event_seconds"]
        for way in ("direct", "served", "empty_call"):
            seconds = result[f"{way}_seconds"]
            what = "a call without a request" if way == "empty_call" else f"request, {way}"
            print(f"  {what:<45} {seconds['p50'] * 1e3:.2f} ms (p50), {seconds['p99'] * 1e3:.2f} ms (p99)")
        print(f"  event, engine to client, of {events['count']:<17} {events['p50'] * 1e3:.3f} ms (p50), "
              f"{events['p99'] * 1e3:.3f} ms (p99), {events['max'] * 1e3:.3f} ms (max)")
        overhead = result["overhead_of_pairs"]["p50"]  # of neighbours in time: the machine's speed drifts
        goals.goal(f"{name}, {strategy}: request time added", f"{overhead * 100:.2f} %", overhead < WANTED_OVERHEAD, "< 3 %")
        goals.goal(f"{name}, {strategy}: event latency, ms (p99)", round(events["p99"] * 1e3, 3),
                   events["p99"] < WANTED_EVENT_SECONDS, "< 1")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=200, help="requests of the embedded pair each way (default %(default)s)")
    parser.add_argument("--long_repetitions", type=int, default=40, help="requests of SmolLM2 each way (default %(default)s)")
    parser.add_argument("--models", default=str(harness.ROOT / "build/smollm2"), help="folder of SmolLM2, lm and rm (default %(default)s)")
    sys.exit(harness.run("overhead", measure, parser))
