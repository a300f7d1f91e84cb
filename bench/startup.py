"""Seconds from the start of nabla-server on SmolLM2, as language and reward model, until it is ready, and what memory it
takes then and once it has refined, with the copies of weights that it keeps and without; files are cached."""

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

    def start(dtype, *flags):
        """A server that is ready, and after how many seconds."""
        begin = time.monotonic()
        server = programs.server(f"--model={models / 'lm'}", f"--reward_model={models / 'rm'}", f"--dtype={dtype}",
                                 f"--reward_dtype={dtype}", *flags, reward=False, wait=False)
        harness.await_that("nabla-server is ready", lambda: "ready" in server.out, alive=[server])
        return server, time.monotonic() - begin

    def stop(server):
        server.send(signal.SIGTERM)
        server.wait()

    def seconds_to_ready(dtype):
        server, seconds = start(dtype)
        stop(server)
        return seconds

    def gigabytes(dtype, *flags):
        """Resident memory when ready, and once a request has refined and weights are prepared for more."""
        server, _ = start(dtype, *flags)
        ready = server.resources()["memory_bytes"]
        asked = programs.nabla("reason", "Why is the sky blue?", f"--server={server.address}", "--max_new_tokens=64",
                               "--max_rollouts=2", "--learning_rate=0.3")
        if asked.returncode != 0:
            raise harness.Failure(f"a request failed: {asked.stderr.strip()}")
        time.sleep(5)
        refined = server.resources()["memory_bytes"]
        stop(server)
        return ready / 1e9, refined / 1e9

    for dtype in ("float32", "bfloat16"):
        memory = {name: gigabytes(dtype, *flags) for name, flags in
                  (("with copies", ()), ("without", ("--gradient_weights=model", "--draft_weights=none")))}
        for name, (ready, refined) in memory.items():
            goals.figure(f"{dtype}, memory {name}", {"ready": ready, "refined": refined},
                         f"{ready:.2f} GB when ready, {refined:.2f} GB once it has refined")
        all_seconds = sorted(seconds_to_ready(dtype) for _ in range(arguments.repetitions))
        median = statistics.median(all_seconds)
        goals.figures[dtype] = {"seconds": all_seconds}
        goals.goal(f"{dtype}: ready after, s (median of {arguments.repetitions}, {all_seconds[0]:.2f} to {all_seconds[-1]:.2f})",
                   round(median, 2), median < WANTED_SECONDS, f"< {WANTED_SECONDS:g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=str(harness.ROOT / "build/smollm2"), help="folder of lm and rm (default %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="starts with each number type (default %(default)s)")
    sys.exit(harness.run("startup", measure, parser))
