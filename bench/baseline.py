"""Nabla beside Hugging Face transformers doing the same work the published way (hf_baseline.py), on SmolLM2-135M.

Both run on all cores, by turns, so that a machine's better and worse minutes meet both, in float32 and in bfloat16;
figures are medians. `./dev bench baseline` makes the models (smollm2_to_hf.py): the language model, and a reward model
of the same body with a random head.

`./dev bench --check` looks for regressions: it fails where a ratio is less than 0.8 of what ratios.json holds for this
kind of CPU (`./dev bench baseline --record` puts this run's there). Ratios, not seconds: machines differ, and so does
one from hour to hour.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys

import harness

# What hf_baseline.py calls it, what nabla-engine-benchmark calls it, its unit, and the least ratio wanted by number type.
WORK = (
    ("generate_batch1_tokens_per_s", "answer/tokens:128/draft:1", "tokens/s", {"float32": 4, "bfloat16": 4}),
    ("generate_batch1_tokens_per_s", "answer/tokens:128/draft:0", "tokens/s", {}),
    ("generate_batch8_tokens_per_s", "answer/tokens:128/batch:8", "tokens/s", {}),
    ("gradient_s", "gradient/ahead:200", "s", {}),
    ("refine_s", "refine/ahead:200/iterations:20", "s", {"float32": 6, "bfloat16": 6}),
    ("refine_s", "refine_elsewhere/ahead:200/iterations:20", "s", {}),
    ("request_s", "request/tokens:128/rollouts:8", "s", {"float32": 8, "bfloat16": 6}),
)
WANTED_SHARE = 0.6  # of the machine's limit, of a refinement
COUNTERS = ("gradient_steps", "accepted", "rejected", "gradients", "refine_s", "reward_s")  # that some benchmarks have
RATIOS = harness.ROOT / "bench/ratios.json"
LEAST_OF_STORED = 0.8


def output(command, what):
    """Standard output of a command that takes its time."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise harness.Failure(f"{what} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def run_transformers(arguments, models, dtype, only):
    """One run's figures by name; of a request also its tokens."""
    script = [arguments.python, harness.ROOT / "bench/hf_baseline.py", models / "lm", models / "rm", "--dtype", dtype]
    print(f"  transformers, {dtype}, {only}", file=sys.stderr)
    return json.loads(output([*script, "--only", only], "hf_baseline.py"))


def run_benchmarks(arguments, dtype, names):
    """One run's benchmarks by name: seconds, items a second, share of the limit, label; and the limits."""
    models, wanted = pathlib.Path(arguments.models), "|".join(f"^{name}/real_time$" for name in names)
    print(f"  nabla, {dtype}, {', '.join(names)}", file=sys.stderr)
    report = json.loads(output([pathlib.Path(arguments.bin) / "nabla-engine-benchmark", f"--model={models / 'lm'}",
                                f"--reward_model={models / 'rm'}", f"--dtype={dtype}", f"--benchmark_filter={wanted}",
                                # The first gradient of a process packs the weights.
                                "--benchmark_min_warmup_time=0.01", "--benchmark_format=json"],
                               "nabla-engine-benchmark"))
    figures = {}
    for run in report["benchmarks"]:
        figures[run["name"].removesuffix("/real_time")] = {
            "label": run.get("label"),
            **{key: run[field] * scale for key, field, scale in (("seconds", "real_time", 1e-3),
                                                                 ("rate", "items_per_second", 1),
                                                                 ("share", "limit_share", 1)) if field in run},
            **{counter: run[counter] for counter in COUNTERS if counter in run}}
    return figures, {key: float(report["context"][key]) for key in ("gflops_limit", "gbytes_per_second_limit")}


def medians(runs):
    """Of what several runs give, key by key, in depth; what is no number, as all have it, else None."""
    first = runs[0]
    if isinstance(first, dict):
        return {key: medians([run[key] for run in runs]) for key in first}
    if isinstance(first, (int, float)):
        return statistics.median(runs)
    return first if all(run == first for run in runs) else None


def by_turns(repetitions, theirs, ours):
    """Medians of what they give, and of either part of what we give."""
    return [medians(runs) for runs in zip(*((theirs(), *ours()) for _ in range(repetitions)))]


def run_both(arguments, models, dtype):
    """Figures of transformers, of Nabla, Nabla's limits, and whether a request's tokens are the same in all runs of both
    (None without one). Both take one gradient in a refinement, or it is not the same work."""
    names = [name for _, name, _, _ in WORK]
    only = "generate,gradient,refine" + (",request" if arguments.request else "")
    theirs, ours, limits = by_turns(arguments.repetitions,
                                    lambda: run_transformers(arguments, models, dtype, only),
                                    lambda: run_benchmarks(arguments, dtype,
                                                           names if arguments.request else names[:-1]))
    steps = theirs["refine_gradient_steps"], ours["refine/ahead:200/iterations:20"]["gradient_steps"]
    if steps != (1, 1):
        raise harness.Failure(f"refinements were to take one gradient; they took {steps[0]} and {steps[1]}")
    same_tokens = None
    if arguments.request:
        their_tokens, our_tokens = theirs["request_ids"], ours[names[-1]]["label"]
        same_tokens = their_tokens is not None and ",".join(map(str, their_tokens)) == our_tokens
    return {name: theirs[name] for name, *_ in WORK if name in theirs}, ours, limits, same_tokens


def kind_of_cpu():
    """What decides which products are taken, so that ratios of one kind can be compared."""
    found = re.search(r"^flags\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = found[1].split() if found else []
    kind = next((kind for kind in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if kind in flags), "other")
    # Of CPUs with bfloat16, but no tiles, AMD Zen 5 alone has this: a server's has units twice as wide as Zen 4's.
    wide = "avx512_vp2intersect"
    return wide if kind == "avx512_bf16" and wide in flags else kind


def stored_ratios():
    """By kind of CPU and name."""
    return json.loads(RATIOS.read_text()) if RATIOS.exists() else {}


def record(ratios):
    stored = stored_ratios()
    stored.setdefault(kind_of_cpu(), {}).update((name, round(ratio, 2)) for name, ratio in ratios.items())
    RATIOS.write_text(json.dumps(stored, indent=2) + "\n")


def check(goals, ratios, arguments):
    kind = kind_of_cpu()
    stored = stored_ratios().get(kind)
    if stored is None:
        raise harness.Failure(f"{RATIOS.name} holds nothing for CPUs with {kind}; run a version known to be good with "
                              "`./dev bench baseline --record` first")
    for name, before in stored.items():
        if name.startswith("request/") and not arguments.request:
            continue  # takes minutes; --request adds it
        if name.split(", ")[1] not in arguments.dtypes.split(","):
            continue
        if name not in ratios:
            raise harness.Failure(f"{name} was not measured; {RATIOS.name} holds a ratio of it")
        least = LEAST_OF_STORED * before
        goals.goal(f"{name}: times as fast", round(ratios[name], 2), ratios[name] >= least,
                   f"≥ {least:.2f}, {LEAST_OF_STORED} of {before}")


def draw(rows, path):
    """Ratios as bars, one a row."""
    widest = max(ratio for _, ratio, _ in rows)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{40 + 26 * len(rows)}" '
             'font-family="sans-serif" font-size="13">',
             '<text x="10" y="20" font-weight="bold">Nabla: times as fast as Hugging Face transformers</text>']
    for i, (name, ratio, goal) in enumerate(rows):
        y = 36 + 26 * i
        lines.append(f'<text x="10" y="{y + 14}">{name}</text>'
                     f'<rect x="330" y="{y}" width="{340 * ratio / widest:.0f}" height="18" fill="#3a6ea5"/>'
                     f'<text x="{336 + 340 * ratio / widest:.0f}" y="{y + 14}">{ratio:.1f}</text>')
        if goal and goal <= widest:
            x = 330 + 340 * goal / widest
            lines.append(f'<line x1="{x:.0f}" y1="{y - 2}" x2="{x:.0f}" y2="{y + 20}" stroke="#c22" stroke-width="2"/>')
    path.write_text("\n".join([*lines, "</svg>", ""]))


def measure(_, goals, arguments):
    models = pathlib.Path(arguments.models)
    table, bars, ratios = [], [], {}
    for dtype in arguments.dtypes.split(","):
        theirs, ours, limits, same_tokens = run_both(arguments, models, dtype)
        goals.figures[dtype] = {"transformers": theirs, "nabla": ours, "limits": limits}
        for name, benchmark, unit, wanted in WORK:
            if name not in theirs or benchmark not in ours:
                continue
            rate = unit == "tokens/s"
            value = ours[benchmark]["rate" if rate else "seconds"]
            ratio = value / theirs[name] if rate else theirs[name] / value
            share = ours[benchmark].get("share")
            table.append(f"| {benchmark}, {dtype} | {theirs[name]:.4g} {unit} | {value:.4g} {unit} | {ratio:.1f} | "
                         f"{f'{share:.0%}' if share else '–'} |")
            bars.append((f"{benchmark}, {dtype}", ratio, wanted.get(dtype)))
            ratios[f"{benchmark}, {dtype}"] = ratio
            if arguments.check:
                continue
            if dtype in wanted:
                goals.goal(f"{benchmark}, {dtype}: times as fast", round(ratio, 2), ratio >= wanted[dtype],
                           f"≥ {wanted[dtype]}")
            if name == "refine_s" and dtype in wanted:
                goals.goal(f"{benchmark}, {dtype}: share of the limit", round(share, 2), share >= WANTED_SHARE,
                           f"≥ {WANTED_SHARE}")
        if same_tokens is not None and dtype == "float32" and not arguments.check:
            goals.goal("a request's tokens, float32", "the same" if same_tokens else "others", same_tokens, "the same")
    print("\n| work | transformers | Nabla | times as fast | of the machine's limit |\n| --- | --- | --- | --- | --- |")
    print("\n".join(table))
    if arguments.record:
        record(ratios)
    if arguments.check:
        check(goals, ratios, arguments)
    plot = harness.ROOT / "build/bench/baseline.svg"
    plot.parent.mkdir(parents=True, exist_ok=True)
    draw(bars, plot)
    print(f"plot: {plot.relative_to(harness.ROOT)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=str(harness.ROOT / "build/smollm2"), help="folder of both (default %(default)s)")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="number types (default %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="of which the median is taken (default %(default)s)")
    parser.add_argument("--request", action="store_true", help="a whole ∇ request too (minutes each)")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", action="store_true", help="compare with ratios.json instead of with the goals")
    either.add_argument("--record", action="store_true", help="write ratios.json")
    parser.add_argument("--python", default=sys.executable, help="one that has torch and transformers (default %(default)s)")
    sys.exit(harness.run("baseline", measure, parser))
