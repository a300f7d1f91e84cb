"""Fresh word problems with one canonical worked solution each, from a seed.

    python3 models/problems.py --seed 7 --count 200 --split test
    python3 models/problems.py --family puzzles

prints one JSON object per line: question, answer (the number as a string) and solution. There are two families:
`words`, stories to calculate along, and `puzzles`, which tell what came out of a number and ask for the number:
to check an answer is to calculate along, to find it is to calculate back. A problem is a small
program: two to five steps, each `label left op right`, whose operands are numbers of the question or results of
earlier steps. The solution is written from the program alone, so each question has exactly one solution, every
token of an answer can be judged right or wrong, and the consequences of a mistake can be computed (`render`,
`find_errors`).

Splits are disjoint by construction: SHA-256 of the solution's text decides (one part in eight is `test`), so
neither a test question nor its calculation occurs in training. The random numbers are SplitMix64, hence the same
on every platform and Python version.
"""

import argparse
import collections
import hashlib
import json
import re

WOMEN = ('Mia', 'Ana', 'Zoe', 'Eva', 'Ida', 'Lin')
MEN = ('Tom', 'Ben', 'Sam', 'Leo', 'Max', 'Raj')
NAMES = WOMEN + MEN
THINGS = ('apples', 'pens', 'books', 'coins', 'cards', 'shells', 'stamps', 'beads', 'nuts', 'eggs')
BOXES = ('bags', 'boxes', 'packs', 'trays')
MAX_VALUE = 999
OPS = '+-*/'
LABELS = ('Total', 'Left', 'New', 'Given', 'Now', 'Part', 'First', 'Second', 'Cost', 'Back', 'More', 'Both')

# left and right are numbers of the question, or '#k' for the result of step k.
Step = collections.namedtuple('Step', 'label left op right')
Problem = collections.namedtuple('Problem', 'question steps')
# A piece of a solution: its text and its slot, None for fixed text.
Piece = collections.namedtuple('Piece', 'text slot')


class Random:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed % 2**64
        self.state = self.next()  # Hashed, for the streams of near seeds must not overlap.

    def next(self):
        """Returns 64 random bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    def between(self, low, high):
        """Returns an integer in [low, high]."""
        return low + self.next() % (high - low + 1)

    def pick(self, items):
        """Returns one of the items."""
        return items[self.next() % len(items)]


def calculate(left, op, right):
    """Returns left op right, or None where it is no natural number up to MAX_VALUE."""
    if op == '/':
        result = left // right if right and left % right == 0 else -1
    else:
        result = {'+': left + right, '-': left - right, '*': left * right}[op]
    return result if 0 <= result <= MAX_VALUE else None


def render(steps, written=None):
    """Returns the pieces of the solution, or None where it cannot be calculated.

    `written` maps a slot (step, 'label' | 'left' | 'op' | 'right' | 'result') or ('answer',) to what is written
    there instead; what follows from it is calculated with it.
    """
    written = written or {}
    pieces, results = [], []

    def put(slot, right_value):
        value = written.get(slot, right_value)
        pieces.append(Piece(str(value), slot))
        return value

    for k, step in enumerate(steps):
        put((k, 'label'), step.label)
        pieces.append(Piece(': ', None))
        left, right = (results[int(x[1:])] if isinstance(x, str) else x for x in (step.left, step.right))
        left = put((k, 'left'), left)
        op = put((k, 'op'), step.op)
        right = put((k, 'right'), right)
        pieces.append(Piece('=', None))
        result = calculate(left, op, right)
        if result is None and (k, 'result') not in written:
            return None
        results.append(put((k, 'result'), result))
        pieces.append(Piece('. ', None))
    pieces.append(Piece('The answer is ', None))
    put(('answer',), results[-1])
    pieces.append(Piece('.', None))
    return pieces


def spoil(random, steps, mistakes):
    """Returns a `written` of `render` with up to so many made-up mistakes, their consequences calculated."""
    written = {}
    for _ in range(mistakes):
        slots = [p for p in render(steps, written) if p.slot and p.slot not in written]
        for _ in range(8):
            piece = random.pick(slots)
            kind = piece.slot[-1]
            if kind != 'result' and random.between(0, 5):
                continue
            if kind == 'label':
                value = random.pick(LABELS)
            elif kind == 'op':
                value = random.pick(OPS)
            else:
                value = _other_number(random, int(piece.text), [int(p.text) for p in slots if p.text.isdigit()])
            if str(value) == piece.text or render(steps, written | {piece.slot: value}) is None:
                continue
            written[piece.slot] = value
            break
    return written


def _other_number(random, value, others):
    """Returns a number that might be written by mistake."""
    kind = random.between(0, 5)
    if kind == 0:
        return random.pick(others)
    if kind == 1:
        return abs(value + random.pick((-1, 1, -2, 2)))
    if kind == 2:
        return abs(value + random.pick((-10, 10, -20, 20, 100, -100)))
    digits = list(str(value))
    if kind == 3 and len(digits) > 1:
        digits[-1], digits[-2] = digits[-2], digits[-1]
    else:
        digits[random.between(0, len(digits) - 1)] = str(random.between(0, 9))
    return int(''.join(digits))


def solution(steps):
    """Returns the text of the canonical solution, or None."""
    pieces = render(steps)
    return pieces and ''.join(p.text for p in pieces)


def final_answer(text):
    """Returns the number that a text gives as its answer, or None."""
    found = re.search(r'The answer is (\d+)\.', text)
    return found and found.group(1)


def find_errors(steps, text, ended):
    """Judges an answer token by token: consequences of a mistake are no mistakes.

    Returns (errors, known): where each mistake starts (character offsets; len(text) is the end itself), and the
    offset up to which the judgement holds (len(text) + 1: all of it). `ended` tells whether the text is complete.
    """
    written, errors = {}, []
    while True:
        pieces = render(steps, written)
        at = 0
        for piece in pieces:
            if not text.startswith(piece.text, at) or _longer_number(text, at, piece):
                break
            at += len(piece.text)
        else:
            if at < len(text) or not ended:
                return errors + ([at] if at < len(text) else []), (at + 1 if at < len(text) else len(text) + 1)
            return errors, len(text) + 1
        if piece.text.startswith(text[at:]) and len(text) - at <= len(piece.text):
            return errors + ([len(text)] if ended else []), len(text) + 1
        wrong = at
        while text[wrong:wrong + 1] == piece.text[wrong - at:wrong - at + 1]:
            wrong += 1
        errors.append(wrong)
        slot = piece.slot
        kind = slot and slot[-1]
        pattern = r'[A-Z][a-z]*' if kind == 'label' else r'[-+*/]' if kind == 'op' else r'\d{1,4}(?!\d)'
        found = slot and re.compile(pattern).match(text, at)
        if not found:
            return errors, wrong + 1
        end = found.end()
        written[slot] = found.group() if kind in ('label', 'op') else int(found.group())
        if str(written[slot]) != found.group() or render(steps, written) is None:
            return errors, end


def _longer_number(text, at, piece):
    """Whether the text goes on with digits where the piece's number ends."""
    end = at + len(piece.text)
    return bool(piece.slot) and piece.slot[-1] not in ('label', 'op') and text[end:end + 1].isdigit()


def _events(random, steps, start, thing, count, he):
    """Appends steps for `count` operations on a running number; returns (sentences, last reference, value)."""
    sentences, reference, value = [], start, start
    left_over = count

    def step(label, left, op, right):
        steps.append(Step(label, left, op, right))
        return f'#{len(steps) - 1}'

    while left_over > 0:
        kind = random.between(0, 5)
        if left_over == 1 and kind in (2, 3):
            kind -= 2
        if kind == 0:
            n = random.between(3, 59)
            sentences.append(he + random.pick((f' buys {n} more.', f' finds {n} more.', f' gets {n} {thing}.')))
            reference, value = step('Total', reference, '+', n), value + n
        elif kind == 1 and value > 12:
            n = random.between(3, min(value - 2, 59))
            sentences.append(he + random.pick((f' loses {n}.', f' sells {n} {thing}.', f' gives away {n}.')))
            reference, value = step('Left', reference, '-', n), value - n
        elif kind == 2:
            k, m, box = random.between(2, 9), random.between(3, 19), random.pick(BOXES)
            sentences.append(f'{he} buys {k} {box} of {m} {thing}.')
            new = step('New', k, '*', m)
            reference, value, left_over = step('Total', reference, '+', new), value + k * m, left_over - 1
        elif kind == 3 and value > 24:
            k = random.between(2, min(9, value // 4))
            m = random.between(2, min(19, value // k))
            sentences.append(f'{he} gives {k} friends {m} {thing} each.')
            given = step('Given', k, '*', m)
            reference, value, left_over = step('Left', reference, '-', given), value - k * m, left_over - 1
        elif kind == 4 and value <= 150:
            k = random.between(2, 5)
            sentences.append(f'Then {he.lower()} makes it {k} times as many.')
            reference, value = step('Now', reference, '*', k), value * k
        elif kind == 5:
            divisors = [d for d in range(2, 10) if value % d == 0 and value > 2 * d]
            if not divisors:
                continue
            d = random.pick(divisors)
            sentences.append(f'{he} keeps one part of {d} equal parts.')
            reference, value = step('Part', reference, '/', d), value // d
        else:
            continue
        left_over -= 1
    return sentences, reference, value


def _collect(random):
    """A running number of things."""
    name, thing = random.pick(NAMES), random.pick(THINGS)
    he = 'She' if name in WOMEN else 'He'
    start, steps = random.between(5, 99), []
    sentences, _, _ = _events(random, steps, start, thing, random.between(2, 5), he)
    end = random.pick((f'How many {thing} are there now?', f'How many {thing} does {name} have?'))
    return ' '.join([f'{name} has {start} {thing}.'] + sentences + [end]), steps


def _shop(random):
    """Two prices, a sum and the change."""
    name, (one, two) = random.pick(NAMES), _two(random, THINGS)
    a, p, b, q = (random.between(2, 9), random.between(2, 19), random.between(2, 9), random.between(2, 19))
    steps = [Step('First', a, '*', p), Step('Second', b, '*', q), Step('Cost', '#0', '+', '#1')]
    question = f'{name} buys {a} {one} for {p} dollars each and {b} {two} for {q} dollars each.'
    kind = random.between(0, 2)
    if kind == 0:
        return question + ' How many dollars is that?', steps
    if kind == 1:
        off = random.between(3, 29)
        return f'{question} {off} dollars are taken off. How many dollars is that?', steps + [
            Step('Left', '#2', '-', off)]
    paid = 10 * ((a * p + b * q) // 10 + random.between(1, 9))
    return f'{question} {name} pays {paid} dollars. How many dollars come back?', steps + [
        Step('Back', paid, '-', '#2')]


def _compare(random):
    """One has a multiple of the other's."""
    (a, b), thing = _two(random, NAMES), random.pick(THINGS)
    n, k = random.between(4, 39), random.between(2, 7)
    steps = [Step('More', n, '*', k)]
    question = f'{a} has {n} {thing}. {b} has {k} times as many.'
    reference = '#0'
    if random.between(0, 1):
        m = random.between(3, 29)
        up = random.between(0, 1)
        question += f' {b} ' + (f'buys {m} more.' if up else f'loses {m}.')
        steps.append(Step('Total', '#0', '+', m) if up else Step('Left', '#0', '-', m))
        reference = '#1'
    if random.between(0, 1):
        return f'{question} How many {thing} do they have together?', steps + [Step('Both', n, '+', reference)]
    return f'{question} How many more {thing} does {b} have?', steps + [Step('More', reference, '-', n)]


def _trip(random):
    """Hours at a speed, and a rest."""
    name = random.pick(NAMES)
    h, v, w, u = random.between(2, 6), random.between(8, 49), random.between(2, 6), random.between(8, 49)
    steps = [Step('First', h, '*', v)]
    question = f'{name} drives {h} hours at {v} miles an hour'
    reference = '#0'
    if random.between(0, 1):
        steps += [Step('Second', w, '*', u), Step('Total', '#0', '+', '#1')]
        question += f', then {w} hours at {u} miles an hour'
        reference = '#2'
    done = h * v + (w * u if len(steps) > 1 else 0)
    whole = done + random.between(5, 150)
    return f'{question}. The trip is {whole} miles. How many miles are left?', steps + [
        Step('Left', whole, '-', reference)]


def _undo(random):
    """A number behind several operations."""
    number, parts, back = random.between(2, 60), [], []
    value = number
    for _ in range(random.between(2, 4)):
        kind = random.between(0, 3)
        if kind == 0 and value <= 150:
            k = random.between(2, 9)
            parts.append(random.pick((f'multiplied by {k}', f'made {k} times as large')))
            back.append(('Part', '/', k))
            value *= k
        elif kind == 1:
            n = random.between(3, 99)
            parts.append(random.pick((f'{n} is added', f'it grows by {n}')))
            back.append(('Left', '-', n))
            value += n
        elif kind == 2 and value > 8:
            n = random.between(2, min(value - 3, 59))
            parts.append(random.pick((f'{n} is taken away', f'it shrinks by {n}')))
            back.append(('Total', '+', n))
            value -= n
        else:
            divisors = [d for d in range(2, 10) if value % d == 0 and value > 2 * d]
            if not divisors:
                continue
            d = random.pick(divisors)
            parts.append(f'divided by {d}')
            back.append(('Now', '*', d))
            value //= d
    steps, reference = [], value
    for label, op, right in reversed(back):
        steps.append(Step(label, reference, op, right))
        reference = f'#{len(steps) - 1}'
    said = ', then '.join(parts)
    question = random.pick(('What is the number?', 'Which number is it?', 'Find the number.'))
    return f'A number: {said}. That gives {value}. {question}', steps


def _sum_and_difference(random):
    """Two numbers by their sum and their difference."""
    small, apart = random.between(3, 190), random.between(2, 150)
    total = 2 * small + apart
    larger = random.between(0, 1)
    (a, b) = _two(random, NAMES)
    thing = random.pick(THINGS)
    question = random.pick((
        f'Two numbers add up to {total}. One is {apart} more than the other. What is the '
        f'{"larger" if larger else "smaller"} one?',
        f'{a} and {b} have {total} {thing} together. {a} has {apart} more than {b}. How many does '
        f'{a if larger else b} have?'))
    if larger:
        return question, [Step('Both', total, '+', apart), Step('Part', '#0', '/', 2)]
    return question, [Step('Both', total, '-', apart), Step('Part', '#0', '/', 2)]


def _shares(random):
    """A whole in unequal shares."""
    share, k, n = random.between(4, 80), random.between(2, 7), random.between(3, 49)
    (a, b), thing = _two(random, NAMES), random.pick(THINGS)
    up = random.between(0, 1)
    if not up and n >= k * share - 1:
        n = random.between(2, k)
    total = (k + 1) * share + (n if up else -n)
    question = (f'{a} and {b} have {total} {thing} together. {b} has {n} {"more" if up else "fewer"} than {k} times '
                f'as many as {a}.')
    steps = [Step('Left', total, '-', n) if up else Step('Total', total, '+', n), Step('More', k, '+', 1),
             Step('Part', '#0', '/', '#1')]
    if random.between(0, 1):
        return f'{question} How many does {a} have?', steps
    return f'{question} How many does {b} have?', steps + [Step('Back', total, '-', '#2')]


def _two(random, items):
    """Returns two different items."""
    a = random.pick(items)
    while True:
        b = random.pick(items)
        if b != a:
            return a, b


FAMILIES = {'words': (_collect, _collect, _collect, _shop, _compare, _trip),
            'puzzles': (_undo, _undo, _undo, _sum_and_difference, _shares, _shares)}


def generate(seed, count, split='train', family='words'):
    """Yields `count` problems of a split."""
    random = Random(seed)
    made = 0
    while made < count:
        template = random.pick(FAMILIES[family])
        question, steps = template(random)
        if not 2 <= len(steps) <= 5:
            continue
        text = solution(steps)
        if text is None or split_of(text) != split:
            continue
        made += 1
        yield Problem(question, steps)


def split_of(text):
    """Returns the split to which a solution belongs."""
    return 'train' if hashlib.sha256(text.encode()).digest()[0] % 8 else 'test'


def main():
    """Prints problems as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--count', type=int, default=10)
    parser.add_argument('--family', choices=tuple(FAMILIES), default='words')
    parser.add_argument('--split', choices=('train', 'test'), default='train')
    args = parser.parse_args()
    for problem in generate(args.seed, args.count, args.split, args.family):
        text = solution(problem.steps)
        print(json.dumps({'question': problem.question, 'answer': final_answer(text), 'solution': text}))


if __name__ == '__main__':
    main()
