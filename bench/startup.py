"""Seconds from the start of nabla-server on SmolLM2, as language and reward model, until it is ready, and what memory it
takes then; files are cached."""

import argparse
import pathlib
import signal
import statistics
import sys
import time

import harness

WANTED_SECONDS = 1.0


def measure(programs, goals, arguments):
    models = pathlib.Path(arguments.models)

    settled = {}  # bytes of memory by number type, once weights are prepared for gradients

    def seconds_to_ready(dtype, settle=0.0):
        start = time.monotonic()
        server = programs.server(f"--model={models / 'lm'}", f"--reward_model={models / 'rm'}", f"--dtype={dtype}",
                                 f"--reward_dtype={dtype}", reward=False, wait=False)
        harness.await_that("nabla-server is ready", lambda: "ready" in server.out, alive=[server])
        seconds = time.monotonic() - start
        if settle:
            ready_bytes = server.resources()["memory_bytes"]
            time.sleep(settle)
            settled[dtype] = ready_bytes, server.resources()["memory_bytes"]
        server.send(signal.SIGTERM)
        server.wait()
        return seconds

    for dtype in ("float32", "bfloat16"):
        seconds_to_ready(dtype, settle=10)  # reads the files
        all_seconds = sorted(seconds_to_ready(dtype) for _ in range(arguments.repetitions))
        median = statistics.median(all_seconds)
        ready_bytes, settled_bytes = settled[dtype]
        goals.figures[dtype] = {"seconds": all_seconds, "ready_bytes": ready_bytes, "settled_bytes": settled_bytes}
        print(f"  {dtype}: resident memory {ready_bytes / 1e9:.2f} GB when ready, {settled_bytes / 1e9:.2f} GB once weights are "
              "prepared for gradients")
        goals.goal(f"{dtype}: ready after, s (median of {arguments.repetitions}, {all_seconds[0]:.2f} to {all_seconds[-1]:.2f})",
                   round(median, 2), median < WANTED_SECONDS, f"< {WANTED_SECONDS:g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=str(harness.ROOT / "build/smollm2"), help="folder of lm and rm (default %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="starts with each number type (default %(default)s)")
    sys.exit(harness.run("startup", measure, parser))
