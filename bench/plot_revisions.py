"""Draws where revisions help, from a JSON file of `nabla eval`: acceptance and reward gain by position, acceptance by the
norm of the gradient, a line a strategy. Prints the same numbers as a table.

    python3 bench/plot_revisions.py --output docs/revisions.svg build/eval/words-judge.json nabla:learning_rate=0.5 …
"""

import argparse
import json
import pathlib

import svg
from svg import GAP, LEFT, TOP, WIDTH

HEIGHT, BOTTOM, BINS = 240, 40, 8
COLOURS = ["#d62728", "#2ca02c", "#1f77b4", "#b8860b"]


def revisions_of(path, names):
    """By strategy: the revisions of all its answers."""
    strategies = {s["strategy"]: s for s in json.loads(path.read_text())["strategies"]}
    missing = [name for name in names if name not in strategies]
    if missing:
        raise SystemExit(f"{path} has no strategy {missing[0]}; it has {', '.join(strategies)}")
    return {name: [r for o in strategies[name]["outcomes"] for r in o.get("revisions", []) if "reward_after" in r]
            for name in names}


def bins_of(revisions, key, value):
    """[(mean of key, mean of value)] of bins with about equally many revisions, by key."""
    ordered = sorted(revisions, key=key)
    bins = []
    for i in range(BINS):
        part = ordered[len(ordered) * i // BINS:len(ordered) * (i + 1) // BINS]
        if part:
            bins.append(tuple(sum(f(r) for r in part) / len(part) for f in (key, value)))
    return bins


def panel(title, unit, curves, left):
    """The lines of SVG of {strategy: bins}."""
    points = [p for bins in curves.values() for p in bins] or [(0, 0)]
    most_x = max(p[0] for p in points) or 1
    low, high = min(0, *(p[1] for p in points)), max(p[1] for p in points) or 1

    def x(value):
        return left + LEFT + (WIDTH - LEFT - 12) * value / most_x

    def y(value):
        return TOP + HEIGHT * (high - value) / (high - low)

    lines = [f'<text x="{left + LEFT}" y="18" font-weight="bold">{title}</text>']
    for i in range(5):
        value = low + (high - low) * i / 4
        lines.append(f'<line x1="{left + LEFT}" x2="{left + WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
                     'stroke="#dddddd"/>')
        lines.append(f'<text x="{left + LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
        at = most_x * i / 4
        lines.append(f'<text x="{x(at):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{at:.3g}</text>')
    lines.append(f'<text x="{left + (LEFT + WIDTH) / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">{unit}</text>')
    for (_, bins), colour in zip(curves.items(), COLOURS):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in bins)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" fill="{colour}"/>' for a, b in bins]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("strategies", nargs="+")
    arguments = parser.parse_args()
    revisions = revisions_of(arguments.data, arguments.strategies)

    def accepted(r):
        return float(r["accepted"])

    def gain(r):
        return r["reward_after"] - r["reward_before"] if r["accepted"] else 0

    position, norm = (lambda r: r["position"]), (lambda r: r["gradient_norm"])
    panels = [("Share accepted by position", "token of the answer", position, accepted),
              ("Reward gained a proposal, by position", "token of the answer", position, gain),
              ("Share accepted by the gradient's norm", "norm of G", norm, accepted)]
    width, height = (WIDTH + GAP) * len(panels), TOP + HEIGHT + BOTTOM + 26
    lines = []
    for i, (title, unit, key, value) in enumerate(panels):
        curves = {name: bins_of(rs, key, value) for name, rs in revisions.items()}
        lines += panel(title, unit, curves, i * (WIDTH + GAP))
        print(f"\n{title}: mean at {unit}, a bin an eighth of the revisions")
        for name, bins in curves.items():
            print(f"  {name}: " + ", ".join(f"{b:.2f} at {a:.3g}" for a, b in bins))
    labels = [f"{name} ({len(rs)} proposals)" for name, rs in revisions.items()]
    lines += svg.legend(zip(labels, COLOURS), width, height - 12)
    svg.write(arguments.output, width, height, lines)


if __name__ == "__main__":
    main()
