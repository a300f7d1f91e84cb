"""What the plots of the benchmarks share: the page that panels and a legend stand on."""

WIDTH, LEFT, TOP, GAP = 330, 46, 34, 24  # of a panel, its axis' labels, its title, and between two


def legend(entries, width, row):
    """The lines of [(label, colour)] from y = row on, in as many rows as `width` asks for."""
    lines, at = [], LEFT
    for label, colour in entries:
        if at + 8 + 6.2 * len(label) > width:
            at, row = LEFT, row + 20
        lines.append(f'<circle cx="{at}" cy="{row}" r="4" fill="{colour}"/>')
        lines.append(f'<text x="{at + 8}" y="{row + 4}">{label}</text>')
        at += 30 + 6.2 * len(label)
    return lines


def write(path, width, height, lines):
    """A white page with the lines on it."""
    page = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="11">', f'<rect width="{width}" height="{height}" fill="white"/>']
    path.write_text("\n".join([*page, *lines, "</svg>", ""]))
    print(f"plot: {path}")
