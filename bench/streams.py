"""What a stream costs that waits in the queue: memory and threads of the server, 500 streams behind one long request.

The streams share one connection, as those of one client do. --connections=N divides them among so many, each of a process
of its own, so that the memory of connections counts, too.
"""

import argparse
import signal
import sys

import harness

# Holds its engine for longer than the measurement takes: every position is refined by many steps that change nothing.
LONG_REQUEST = ["--strategy=nabla", "--iterations=1000", "--learning_rate=1e-12", "--max_confidence=1"]
WANTED_BYTES = 100_000


def measure(programs, goals, arguments):
    server = programs.server("--max_running_requests=1", f"--max_queued_requests={2 * arguments.streams}",
                             f"--max_queued_tokens={1 << 30}")
    warm = programs.bench(server, "--concurrency=1", "--requests=4", "--warmup=0s", "--strategy=nabla")
    warm.report()
    server.await_idle()
    before = server.resources()
    # Callers come back when a request of theirs ends, so that the number of those waiting stays.
    wanted = arguments.streams + 1
    shares = [(wanted + i) // arguments.connections for i in range(arguments.connections)]
    loads = [programs.bench(server, f"--concurrency={share}", "--duration=600s", "--warmup=0s", *LONG_REQUEST)
             for share in shares]
    server.await_metrics(f"{arguments.streams} streams wait", lambda metrics: (
        harness.sum_of(metrics, "nabla_num_requests_waiting") >= arguments.streams))
    during = server.resources()
    for load in loads:
        load.send(signal.SIGINT)
    for load in loads:
        load.wait()
    server.await_idle()
    after = server.resources()
    bytes_each = (during["memory_bytes"] - before["memory_bytes"]) / arguments.streams
    threads = during["threads"] - before["threads"]
    goals.figure("waiting streams, connections", [arguments.streams, arguments.connections])
    for name, state in (("before", before), ("during", during), ("after", after)):
        goals.figure(name, state, f"{state['memory_bytes'] / 1e6:.1f} MB, {state['threads']} threads, {state['files']} files")
    goals.goal("memory a waiting stream, kB", round(bytes_each / 1e3, 1), bytes_each < WANTED_BYTES, "< 100")
    goals.goal("threads that the waiting streams added", threads, threads < 16, "< 16, gRPC's own pool")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500, help="waiting streams (default %(default)s)")
    parser.add_argument("--connections", type=int, default=1, help="that they are divided among (default %(default)s)")
    sys.exit(harness.run("streams", measure, parser))
