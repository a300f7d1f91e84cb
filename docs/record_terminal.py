"""Records a command's terminal output as an animated SVG, the picture in the README.

    pip install pyte
    python docs/record_terminal.py docs/terminal.svg --slower 8 -- build/release/bin/nabla reason "…" --learning_rate=0.5

The command runs in a pseudo-terminal of its own; every screen it shows becomes a frame, `--slower` times as long as it stood.
"""

import argparse
import html
import os
import pty
import select
import struct
import fcntl
import sys
import termios
import time

import pyte

CHARACTER_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 12
BACKGROUND, FOREGROUND = '#1e1e2e', '#cdd6f4'
COLOURS = {'green': '#a6e3a1', 'red': '#f38ba8', 'yellow': '#f9e2af', 'brown': '#f9e2af', 'cyan': '#94e2d5',
           'blue': '#89b4fa', 'magenta': '#cba6f7', 'black': '#7f849c'}
LAST_FRAME_SECONDS = 4.0


class DimScreen(pyte.Screen):
    """A screen that keeps faint text, which pyte drops, as the colour black."""

    def select_graphic_rendition(self, *attributes, **kwargs):
        super().select_graphic_rendition(*[30 if a == 2 else a for a in attributes], **kwargs)


def record(command, columns, lines):
    """Runs the command; returns [(seconds, screen)], a screen being lines of (text, colour, bold, struck)."""
    screen = DimScreen(columns, lines)
    stream = pyte.ByteStream(screen)
    process, terminal = pty.fork()
    if process == 0:
        os.environ['TERM'] = 'xterm-256color'
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', lines, columns, 0, 0))
    start, frames = time.monotonic(), []
    while True:
        select.select([terminal], [], [])
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the command has closed its side
            break
        if not data:
            break
        stream.feed(data)
        frames.append((time.monotonic() - start, snapshot(screen)))
    if os.waitpid(process, 0)[1] != 0:
        sys.exit('the command failed:\n' + '\n'.join(line.rstrip() for line in screen.display))
    return frames


def snapshot(screen):
    """The screen as lines of runs of equal style."""
    result = []
    for y in range(screen.lines):
        runs = []
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            style = (cell.fg, cell.bold, cell.strikethrough)
            if runs and runs[-1][1] == style:
                runs[-1][0] += cell.data
            else:
                runs.append([cell.data, style])
        result.append([(text, style) for text, style in runs])
    return result


def draw(screen):
    """One frame's SVG text elements."""
    parts = []
    for y, runs in enumerate(screen):
        column = 0
        for text, (colour, bold, struck) in runs:
            if text.strip():
                fill = COLOURS.get(colour.removeprefix('bright'), FOREGROUND)
                style = ' font-weight="bold"' * bold + ' text-decoration="line-through"' * struck
                x, baseline = MARGIN + column * CHARACTER_WIDTH, MARGIN + (y + 1) * LINE_HEIGHT - 5
                length = len(text) * CHARACTER_WIDTH
                parts.append(f'<text x="{x:.1f}" y="{baseline}" fill="{fill}" textLength="{length:.1f}"{style}>'
                             f'{html.escape(text)}</text>')
            column += len(text)
    return ''.join(parts)


def write_svg(path, frames, slower, columns, lines):
    """Frames follow each other by CSS; the last one stays a while, then all begins again."""
    shown = [frame for frame, after in zip(frames, frames[1:] + [None]) if after is None or frame[1] != after[1]]
    starts = [(seconds - shown[0][0]) * slower for seconds, _ in shown]
    total = starts[-1] + LAST_FRAME_SECONDS
    width, height = columns * CHARACTER_WIDTH + 2 * MARGIN, lines * LINE_HEIGHT + 2 * MARGIN
    styles, groups = [], []
    for i, (start, (_, screen)) in enumerate(zip(starts, shown)):
        begin, end = 100 * start / total, 100 * (starts[i + 1] if i + 1 < len(starts) else total) / total
        styles.append(f'@keyframes k{i}{{0%{{opacity:0}}{begin:.3f}%{{opacity:1}}{end:.3f}%{{opacity:0}}100%{{opacity:0}}}}'
                      f'#f{i}{{opacity:0;animation:k{i} {total:.2f}s step-end infinite}}')
        groups.append(f'<g id="f{i}">{draw(screen)}</g>')
    with open(path, 'w', encoding='utf-8') as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">'
                   f'<style>text{{font:14px monospace;white-space:pre}}{"".join(styles)}</style>'
                   f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>{"".join(groups)}</svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('output')
    parser.add_argument('--slower', type=float, default=1.0)
    parser.add_argument('--columns', type=int, default=92)
    parser.add_argument('--lines', type=int, default=8)
    parser.add_argument('command', nargs='+')
    arguments = parser.parse_args()
    frames = record(arguments.command, arguments.columns, arguments.lines)
    write_svg(arguments.output, frames, arguments.slower, arguments.columns, arguments.lines)


if __name__ == '__main__':
    main()
