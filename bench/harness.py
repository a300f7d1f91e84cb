"""What the load, fault and end-to-end scripts share: start Nabla's programs, look into them, judge figures by goals.

    with Programs(bin_dir) as programs:
        server = programs.server("--max_running_requests=4")
        load = programs.bench(server, "--concurrency=16", "--duration=5s")
        report = load.report()

Standard library only. Whatever was started is ended when the `with` block is left. Waits are on events (a line of
output, a metric's value, a process's end) with a limit behind which they fail; nothing sleeps and hopes.
"""

import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 120
POLL_SECONDS = 0.05
# Names of the threads that gRPC starts when it finds it has too few.
GRPC_POOLS = ("default-executo", "resolver-execut", "event_engine", "grpc_global_tim")


class Failure(Exception):
    """Something did not happen that should have; the message says what."""


def machine():
    """The processor and its cores, for whoever reads the figures."""
    model = platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if found:
        model = found[1]
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform()}


def await_that(what, condition, seconds=PATIENCE_SECONDS, alive=()):
    """The first true value of condition(). `alive`: programs whose end is a failure while waiting."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        for program in alive:
            program.check_alive()
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds} s in vain until {what}")
        time.sleep(POLL_SECONDS)


def sum_of(metrics, name, **labels):
    """Sum of a metric's values over all series that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    total = 0.0
    for series, value in metrics.items():
        if series.split("{", 1)[0] == name and all(pair in series for pair in wanted):
            total += value
    return total


class Program:
    """A child process whose standard output and error are kept, line by line."""

    def __init__(self, name, command):
        self.name = name
        self.command = [str(part) for part in command]
        self.out = []
        self.error = []
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            errors="replace")
        self.readers = [threading.Thread(target=self._read, args=(stream, lines), daemon=True)
                        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.error))]
        for reader in self.readers:
            reader.start()

    def _read(self, stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))

    def check_alive(self):
        if self.process.poll() is not None:
            last = "\n".join(self.error[-5:])
            raise Failure(f"{self.name} has ended with {self.process.returncode}: {last}")

    def line(self, prefix):
        """What follows `prefix` on the first line of output that begins so."""
        def find():
            return [line[len(prefix):] for line in list(self.out) if line.startswith(prefix)]
        return await_that(f'{self.name} prints "{prefix}"', find, alive=[self])[0]

    def send(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=PATIENCE_SECONDS):
        """Its exit status, behind the last line of its output."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} has not ended within {seconds} s") from None
        for reader in self.readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.wait()

    def resources(self):
        """Resident memory in bytes, threads, those of them that are not of gRPC's pools, and open files of the process."""
        folder = pathlib.Path(f"/proc/{self.process.pid}")
        names = []
        for task in (folder / "task").iterdir():
            try:
                names.append((task / "comm").read_text().strip())
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has just ended
        status = (folder / "status").read_text()
        return {"memory_bytes": int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024,
                "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
                "own_threads": sum(name not in GRPC_POOLS for name in names),
                "files": len(os.listdir(f"/proc/{self.process.pid}/fd"))}


class Server(Program):
    """nabla-server, up and ready."""

    def __init__(self, programs, arguments):
        super().__init__("nabla-server", [programs.bin / "nabla-server", *arguments])
        self.programs = programs
        self.address = self.line("listening on ")
        self.metrics_url = self.line("metrics on ")

    def metrics(self):
        """{"name{label=\\"value\\"}": value} as /metrics says now."""
        with urllib.request.urlopen(self.metrics_url, timeout=PATIENCE_SECONDS) as response:
            text = response.read().decode()
        values = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                values[series] = float(value)
        return values

    def await_metrics(self, what, condition, seconds=PATIENCE_SECONDS):
        """The first metrics for which the condition holds."""
        def look():
            metrics = self.metrics()
            return metrics if condition(metrics) else None
        return await_that(what, look, seconds, alive=[self])

    def await_idle(self):
        """Metrics once nothing runs, nothing waits, and every admitted request has ended in exactly one code."""
        return self.await_metrics("no request runs or waits and the counters add up", lambda metrics: (
            sum_of(metrics, "nabla_num_requests_running") == 0
            and sum_of(metrics, "nabla_num_requests_waiting") == 0
            and sum_of(metrics, "nabla_requests_total") == sum_of(metrics, "nabla_requests_admitted_total")))

    def ended_requests(self):
        """{(event, code): count} of the log's lines about requests."""
        counts = {}
        for line in list(self.error):
            found = re.search(r"event=(request_\w+) .*?\bcode=(\w+)", line)
            if found:
                counts[found.groups()] = counts.get(found.groups(), 0) + 1
        return counts


class Bench(Program):
    """`nabla bench` on a server, running in the background."""

    def __init__(self, programs, server, arguments):
        file, self.path = tempfile.mkstemp(suffix=".json", dir=programs.scratch)
        os.close(file)
        super().__init__("nabla bench", [programs.bin / "nabla", "bench", f"--server={server.address}",
                                         f"--json={self.path}", *arguments])

    def reports(self, seconds=PATIENCE_SECONDS):
        """One report a level. A level whose requests all fail is a report like any other."""
        status = self.wait(seconds)
        text = pathlib.Path(self.path).read_text()
        if status not in (0, 1, 130) or not text:
            raise Failure("nabla bench: " + "\n".join(self.error[-5:]))
        return json.loads(text)

    def report(self, seconds=PATIENCE_SECONDS):
        return self.reports(seconds)[0]


class Programs:
    """Starts programs of one build folder, and ends them."""

    def __init__(self, bin_dir):
        self.bin = pathlib.Path(bin_dir).resolve()
        self.started = []
        self.scratch_folder = tempfile.TemporaryDirectory(prefix="nabla-")
        self.scratch = self.scratch_folder.name
        for name in ("nabla", "nabla-server"):
            if not (self.bin / name).exists():
                raise Failure(f"{self.bin} holds no {name}; build it with ./dev build")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in reversed(self.started):
            program.stop()
        self.scratch_folder.cleanup()

    def keep(self, program):
        self.started.append(program)
        return program

    def start(self, name, *command):
        return self.keep(Program(name, command))

    def server(self, *arguments, reward=True, wait=True):
        """nabla-server on the embedded writer, with the embedded judge unless told otherwise; ready if `wait`."""
        given = [f"--model={ROOT / 'models/writer'}", "--port=0", "--metrics_port=0", *arguments]
        if reward:
            given.append(f"--reward_model={ROOT / 'models/judge'}")
        server = self.keep(Server(self, given))
        if wait:
            self.await_ready(server)
        return server

    def reward_server(self, *arguments, port=0):
        """nabla-reward-server on the embedded judge; its address is in .address."""
        program = self.keep(Program("nabla-reward-server", [
            self.bin / "nabla-reward-server", f"--model={ROOT / 'models/judge'}", "--kind=likelihood",
            f"--port={port}", "--metrics_port=0", *arguments]))
        program.address = program.line("listening on ")
        await_that("nabla-reward-server is ready", lambda: self.nabla(
            "health", f"--server={program.address}", "--service=nabla.v1.RewardModel").returncode == 0, alive=[program])
        return program

    def await_ready(self, server):
        asked = self.nabla("info", f"--server={server.address}", f"--wait={PATIENCE_SECONDS}s")
        if asked.returncode != 0:
            raise Failure(f"the server is not ready: {asked.stderr.strip()}")
        await_that("nabla.v1.Reasoner is SERVING", lambda: self.nabla(
            "health", f"--server={server.address}").returncode == 0, alive=[server])

    def nabla(self, *arguments, seconds=PATIENCE_SECONDS):
        """Runs the command line to its end."""
        try:
            return subprocess.run([self.bin / "nabla", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, errors="replace", timeout=seconds + 10)
        except subprocess.TimeoutExpired:
            raise Failure(f"nabla {' '.join(arguments)} has not ended within {seconds + 10} s") from None

    def bench(self, server, *arguments):
        return self.keep(Bench(self, server, arguments))


class Goals:
    """Collects figures and goals; prints them, writes them to build/bench/NAME.json, says by exit code if one is missed."""

    def __init__(self, name):
        self.name = name
        self.machine = machine()
        self.figures = {}
        self.goals = []

    def figure(self, name, value, text=None):
        self.figures[name] = value
        print(f"  {name:<44} {text if text is not None else value}", flush=True)

    def goal(self, name, value, met, wanted):
        self.goals.append({"name": name, "value": value, "wanted": wanted, "met": bool(met)})
        print(f"  {'met   ' if met else 'MISSED'} {name}: {value} (wanted: {wanted})", flush=True)

    def include(self, part):
        """Takes over what a part of the measurement, with Goals of its own, has printed."""
        self.figures[part.name] = part.figures
        self.goals += [{**goal, "name": f"{part.name}: {goal['name']}"} for goal in part.goals]

    def write(self):
        folder = ROOT / "build" / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps({"machine": self.machine, "figures": self.figures, "goals": self.goals}, indent=2) + "\n")
        print(f"on {self.machine['cores']} cores of {self.machine['cpu']}; all figures in {path.relative_to(ROOT)}")
        return 0 if all(goal["met"] for goal in self.goals) else 1


def run(name, measure, parser):
    """The main of a script: measure(programs, goals, arguments), with --bin added to its arguments."""
    parser.add_argument("--bin", default=str(ROOT / "build/release/bin"), help="folder of the built programs")
    arguments = parser.parse_args()
    goals = Goals(name)
    try:
        with Programs(arguments.bin) as programs:
            measure(programs, goals, arguments)
    except Failure as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        return 1
    return goals.write()
