"""Draws accuracy against model calls from the JSON files of `nabla eval`, a panel a file, a curve a strategy.

    python3 bench/plot_accuracy.py --output docs/accuracy.svg "words, judge=build/eval/words-judge.json" …
"""

import argparse
import json
import math
import pathlib

import svg
from svg import GAP, LEFT, TOP, WIDTH

HEIGHT, BOTTOM = 300, 40
COLOURS = {"greedy": "#555555", "sample": "#999999", "self_consistency": "#b8860b", "best_of_n": "#1f77b4",
           "best_of_n, weighted": "#7fb2d9", "beam": "#9467bd", "tail_guided": "#8c564b",
           "policy_gradient": "#e377c2", "nabla, as in the paper": "#d62728", "nabla, mirror descent": "#ff7f0e",
           "nabla, screening": "#17becf", "nabla, guarded": "#2ca02c"}
NABLA_CURVES = {"preset=guarded": "guarded", "optimizer=mirror_descent": "mirror descent",
                "screening_candidates=8": "screening"}


def curve_of(strategy):
    """The curve to which a strategy with its settings belongs."""
    name, *settings = strategy.split(":")
    if name == "nabla":
        for setting, curve in NABLA_CURVES.items():
            if setting in settings:
                return f"nabla, {curve}"
        return "nabla, as in the paper"
    return f"{name}, weighted" if "weighted" in settings else name


def panel(title, strategies, left):
    """The lines of SVG of one file."""
    points = [(curve_of(s["strategy"]), s["means"]["model_calls"], s["accuracy"]) for s in strategies if "means" in s]
    least, most = (math.log(f(calls for _, calls, _ in points)) for f in (min, max))
    span = most - least or 1
    low = 10 * math.floor(min(a["low"] for _, _, a in points) * 10)
    high = 10 * math.ceil(max(a["high"] for _, _, a in points) * 10)

    def x(calls):
        return left + LEFT + 12 + (WIDTH - LEFT - 24) * (math.log(calls) - least) / span

    def y(share):
        return TOP + HEIGHT * (high - 100 * share) / (high - low)

    lines = [f'<text x="{left + LEFT}" y="18" font-weight="bold">{title}</text>']
    for value in range(low, high + 1, 10):
        lines.append(f'<line x1="{left + LEFT}" x2="{left + WIDTH}" y1="{y(value / 100):.1f}" y2="{y(value / 100):.1f}" '
                     'stroke="#dddddd"/>')
        lines.append(f'<text x="{left + LEFT - 6}" y="{y(value / 100) + 4:.1f}" text-anchor="end">{value} %</text>')
    for calls in (50, 100, 200, 400, 800):
        if math.exp(least) <= calls <= math.exp(most):
            lines.append(f'<text x="{x(calls):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{calls}</text>')
    lines.append(f'<text x="{left + (LEFT + WIDTH) / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">'
                 'model calls a question</text>')
    for name, colour in COLOURS.items():
        curve = sorted((calls, a) for n, calls, a in points if n == name)
        path = " ".join(f'{x(calls):.1f},{y(a["mean"]):.1f}' for calls, a in curve)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for calls, a in curve:
            lines.append(f'<line x1="{x(calls):.1f}" x2="{x(calls):.1f}" y1="{y(a["low"]):.1f}" '
                         f'y2="{y(a["high"]):.1f}" stroke="{colour}"/>')
            lines.append(f'<circle cx="{x(calls):.1f}" cy="{y(a["mean"]):.1f}" r="3.5" fill="{colour}"/>')
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("panels", nargs="+", metavar="TITLE=FILE")
    arguments = parser.parse_args()
    width = (WIDTH + GAP) * len(arguments.panels)
    height = TOP + HEIGHT + BOTTOM + 46
    lines = []
    for i, text in enumerate(arguments.panels):
        title, _, path = text.rpartition("=")
        title = title.replace(",", ", ")
        strategies = json.loads(pathlib.Path(path).read_text())["strategies"]
        lines += panel(title, strategies, i * (WIDTH + GAP))
    lines += svg.legend(COLOURS.items(), width, height - 32)
    svg.write(arguments.output, width, height, lines)


if __name__ == "__main__":
    main()
