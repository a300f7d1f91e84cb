"""What streams lose where others refine: greedy streams of SmolLM2 alone, and the same beside requests that refine.

A gradient's passes run between the streams' steps, one at a time, and decoding then gets the time that it waited: a stream
is held up by one such pass at the most, and gets half of the engine's time.
"""

import argparse
import pathlib
import signal
import sys

import harness

WANTED_SHARE = 0.4  # half, less what refining requests decode themselves


def measure(programs, goals, arguments):
    models = pathlib.Path(arguments.models)
    server = programs.server(f"--model={models / 'lm'}", f"--reward_model={models / 'rm'}", reward=False)
    limit = arguments.seconds + 2 * harness.PATIENCE_SECONDS

    def streams(name):
        load = programs.bench(server, f"--concurrency={arguments.streams}", "--strategy=greedy", "--max_new_tokens=64",
                              "--warmup=5s", f"--duration={arguments.seconds}s")
        report = load.report(limit)
        gaps = report["inter_token"]
        goals.figure(f"streams {name}", report,
                     f"{report['tokens_per_second']:.1f} tokens/s; between tokens "
                     + ", ".join(f"{gaps[key] * 1e3:.0f} ms ({key})" for key in ("p50", "p99", "max")))
        return report

    def steps():
        return harness.sum_of(server.metrics(), "nabla_gradient_steps_total")

    alone = streams("alone")
    refiners = programs.bench(server, f"--concurrency={arguments.refiners}", "--duration=3600s", "--warmup=0s",
                              "--strategy=nabla", "--max_new_tokens=128", "--max_rollouts=2", "--learning_rate=0.1")
    server.await_metrics("a request has refined", lambda metrics: harness.sum_of(metrics, "nabla_gradient_steps_total") > 0,
                         limit)
    before = steps()
    beside = streams(f"beside {arguments.refiners} that refine")
    made = steps() - before
    refiners.send(signal.SIGINT)
    refiners.wait(limit)
    share = beside["tokens_per_second"] / alone["tokens_per_second"]
    failed = sum(report["requests"] - report["completed"] for report in (alone, beside))
    goals.goal("failed streams", failed, failed == 0, "0")
    goals.goal("streams: tokens/s beside over those alone", round(share, 2), share >= WANTED_SHARE, f"≥ {WANTED_SHARE}")
    goals.goal("gradients computed meanwhile, of requests that ended", int(made), made > 0, "> 0")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=str(harness.ROOT / "build/smollm2"), help="folder of lm and rm")
    parser.add_argument("--streams", type=int, default=4, help="greedy requests at once (default %(default)s)")
    parser.add_argument("--refiners", type=int, default=2, help="refining requests at once (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="of either measurement (default %(default)s)")
    sys.exit(harness.run("stalls", measure, parser))
