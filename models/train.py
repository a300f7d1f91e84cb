"""Trains the demonstrators from nothing: tokeniser, writer, draft, judge and classifier (by way of a checker).

    python3 models/train.py                  # everything; an interrupted run goes on where it was
    python3 models/train.py --only writer    # one stage
    python3 models/train.py --evaluate       # the table, on fresh test problems

Checkpoints lie under --work; the finished models are exported next to this file.
"""

import argparse
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import data
import evaluate
import net as nets
import problems

HERE = os.path.dirname(os.path.abspath(__file__))
STAGES = ('tokenizer', 'writer', 'draft', 'judge', 'checker', 'classifier', 'finish')
SHAPES = {
    'writer': nets.Shape(layers=4, dim=192, heads=3, inter=512),
    'draft': nets.Shape(layers=2, dim=128, heads=2, inter=384),
    'judge': nets.Shape(layers=4, dim=192, heads=3, inter=512),
    'checker': nets.Shape(layers=6, dim=192, heads=3, inter=512),
    'classifier': nets.Shape(layers=7, dim=192, heads=3, inter=512),
    'finish': nets.Shape(layers=7, dim=192, heads=3, inter=512),
}
STEPS = {'words': {'writer': 1200, 'draft': 1500, 'judge': 1500, 'checker': 2500, 'classifier': 1000, 'finish': 2000},
         'puzzles': {'writer': 1200, 'judge': 1800}}
STOP = {'words': {'writer': 800}, 'puzzles': {'writer': 450}}  # The schedule is cut short: room to gain is left.
# Tokens in a step.
BUDGET = {'writer': 5120, 'draft': 5120, 'judge': 4096, 'checker': 4096, 'classifier': 4096, 'finish': 4096}
RATE = {'writer': 3e-3, 'draft': 5e-3, 'judge': 2e-3, 'checker': 3e-3, 'classifier': 3e-3, 'finish': 1.5e-3}
TRUNK = {'checker': 4, 'classifier': 6, 'finish': 4}  # The first layers are those of the stage before, and stay so.
TOP, GAP, MOST = 3.0, 3.0, 3  # The classifier's score: right, less for a mistake, up to so many mistakes.
SAMPLED_SHARE = {'checker': 1 / 6, 'classifier': 1 / 6, 'finish': 1 / 2}  # Of the groups; the rest are made up.
GROUP = 3  # Answers to a problem side by side: one right, two wrong.
SAMPLED, SAMPLES = 6000, 4  # Problems that the writer answers for the classifier, and how often.
POOL = 3000  # Examples made at a time.
SEEDS = {'writer': 10_000, 'draft': 500_000, 'judge': 1_000_000, 'checker': 2_000_000, 'classifier': 2_500_000,
         'finish': 2_700_000, 'samples': 3_000_000, 'watch': 4_000_000, 'test': 5_000_000}


def batches(groups, budget):
    """Returns (examples, width) of like length, groups kept whole, in random order but always the same."""
    by_width, chunks = {}, []
    for group in groups:
        width = max(map(_width, group))
        rows = budget // width // len(group)
        waiting = by_width.setdefault(width, [])
        waiting.append(group)
        if len(waiting) == rows:
            chunks.append(([e for g in waiting for e in g], width))
            by_width[width] = []
    order = np.random.default_rng(len(chunks)).permutation(len(chunks))
    return [chunks[i] for i in order]


def _width(example):
    return -(-len(example.ids) // 16) * 16


def tensor(chunk, width):
    """Returns the ids of a chunk, padded on the right."""
    ids = np.zeros((len(chunk), width), np.int64)
    for row, example in enumerate(chunk):
        ids[row, :len(example.ids)] = example.ids
    return torch.from_numpy(ids)


def answers(chunk, width, field):
    """Returns a field of the answers' ids as a [rows, width] tensor, 0 outside of the answers."""
    out = np.zeros((len(chunk), width), np.float32)
    for row, example in enumerate(chunk):
        values = getattr(example, field)
        out[row, example.prompt:example.prompt + len(values)] = values
    return torch.from_numpy(out)


def language_loss(net, x, ids, learn):
    """Cross-entropy at the ids that may be imitated."""
    where = learn[:, 1:].bool()
    logits = net.logits(x[:, :-1][where])
    return F.cross_entropy(logits.float(), ids[:, 1:][where])


def causal_loss(net, chunk, width):
    """The loss of writer and judge."""
    ids = tensor(chunk, width)
    return language_loss(net, net(ids), ids, answers(chunk, width, 'learn')), {}


class Trainer:
    """Steps, schedule, checkpoints and progress of one stage."""

    def __init__(self, name, net, loss, args):
        self.name, self.net, self.loss, self.args = name, net, loss, args
        self.path = os.path.join(args.work, name + '.pt')
        matrices = [p for n, p in net.named_parameters() if p.requires_grad and p.ndim == 2 and 'blocks' in n]
        chosen = set(map(id, matrices))
        others = [p for p in net.parameters() if p.requires_grad and id(p) not in chosen]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=RATE[name], weight_decay=0.05, adjust_lr_fn='match_rms_adamw'),
            torch.optim.AdamW(others, lr=RATE[name], betas=(0.9, 0.98), weight_decay=0.0)]
        self.step, self.pool, self.seconds = 0, 0, 0.0
        if os.path.exists(self.path):
            saved = torch.load(self.path)
            net.load_state_dict(saved['net'])
            for optimizer, state in zip(self.optimizers, saved['optimizers']):
                optimizer.load_state_dict(state)
            self.step, self.pool, self.seconds = saved['step'], saved['pool'], saved['seconds']

    def save(self):
        """Writes the checkpoint at once."""
        torch.save({'net': self.net.state_dict(), 'optimizers': [o.state_dict() for o in self.optimizers],
                    'step': self.step, 'pool': self.pool, 'seconds': self.seconds}, self.path + '.new')
        os.replace(self.path + '.new', self.path)

    def run(self, make_pool, watch):
        """Trains to the last step; `make_pool(k)` gives the groups of pool k, `watch()` is called now and then."""
        name, steps = self.name, self.args.steps or STEPS[self.args.family][self.name]
        stop = min(steps, STOP[self.args.family].get(name, steps))
        began, saved, last, sums, count = time.time(), time.time(), time.time(), {}, 0
        before = self.seconds
        while self.step < stop:
            groups = make_pool(self.pool)
            self.pool += 1
            for chunk, width in batches(groups, BUDGET[name]):
                self.net.train()
                done = self.step / steps
                rate = RATE[name] * min((self.step + 1) / 100, 1.0) * (1 - 0.97 * done)
                for optimizer in self.optimizers:
                    for group in optimizer.param_groups:
                        group['lr'] = rate
                with torch.autocast('cpu', torch.bfloat16):
                    loss, parts = self.loss(self.net, chunk, width)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
                for optimizer in self.optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                self.step += 1
                self.seconds = before + time.time() - began
                for key, value in dict(parts, loss=loss.item()).items():
                    sums[key] = sums.get(key, 0.0) + value
                count += 1
                if self.step % 50 == 0:
                    now = time.time()
                    parts = ' '.join(f'{k} {v / count:.4f}' for k, v in sums.items())
                    print(f'{name} {self.step}/{steps} {self.seconds:.0f}s {count / (now - last):.2f}/s {parts}',
                          flush=True)
                    sums, count, last = {}, 0, now
                if self.step % self.args.watch == 0:
                    self.net.eval()
                    watch()
                    last, count, sums = time.time(), 0, {}
                if time.time() - saved > 150:
                    self.save()
                    saved = time.time()
                if self.step >= stop:
                    break
        self.save()
        self.net.eval()
        print(f'{name}: {self.step} steps, {self.seconds:.0f} s', flush=True)


def folder_of(family):
    """Returns where the models of a family are; that of `words` holds the tokeniser of all."""
    return HERE if family == 'words' else os.path.join(HERE, family)


def tokenizer_files():
    """Returns the tokeniser's files; trained by the stage `tokenizer`."""
    files = {}
    for name in ('tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'):
        with open(os.path.join(HERE, 'writer', name), encoding='utf-8') as file:
            files[name] = file.read()
    return files


def train_tokenizer(args):
    """Stage 1: the tokeniser, put where the writer will be."""
    del args
    folder = os.path.join(HERE, 'writer')
    os.makedirs(folder, exist_ok=True)
    for name, text in data.train_tokenizer().items():
        with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
            file.write(text)


def train_causal(name, args):
    """Stages 2 to 4. Writer and draft see right solutions; the judge is the writer, shown what follows mistakes too."""
    torch.manual_seed(SEEDS[name])
    files = tokenizer_files()
    coder = data.Coder(files['tokenizer.json'])
    net = nets.Net(SHAPES[name])
    folder = folder_of(args.family)
    before = os.path.join(folder, 'writer') if name == 'judge' else os.path.join(HERE, 'judge')
    if name != 'draft' and (name == 'judge' or args.family != 'words'):  # the judge of `words` has learnt to calculate
        net.load_state_dict(nets.load(before).state_dict())
    watched = list(problems.generate(SEEDS['watch'], 100, family=args.family))

    def pool(k):
        seed = SEEDS[name] + k
        wrongs = 1 if name == 'judge' else 0
        groups = data.right_and_wrong(coder, problems.Random(seed), seed, POOL // (1 + wrongs), wrongs,
                                      family=args.family)
        for group in groups:
            for example in group:
                del example.ids[-example.tail:]
        return [[e] for g in groups for e in g]

    def watch():
        print(f'{name}: greedy {evaluate.greedy_accuracy(net, coder, watched):.3f}', flush=True)
        nets.export(net, os.path.join(folder, name), files)

    trainer = Trainer(name, net, causal_loss, args)
    trainer.run(pool, watch)
    watch()


def classifier_loss(net, chunk, width):
    """Mistakes so far at every id, the order of the answers to a problem, and the verdict on each token.

    The score is regressed on TOP less GAP for each mistake: no saturation, so that one mended mistake always pays.
    """
    ids = tensor(chunk, width)
    x = net(ids, frozen=net.frozen)
    known, wrong = (answers(chunk, width, f) for f in ('known', 'wrong'))
    score = net.scores(x).float()
    target = TOP - GAP * wrong.cumsum(1).clamp(max=MOST)
    each = (F.smooth_l1_loss(score, target, reduction='none') * known).sum() / known.sum()
    logit = F.linear(nets.rms_norm(x, net.norm, net.shape.eps), net.wrong.weight, net.wrong.bias)[..., 0].float()
    verdict = F.binary_cross_entropy_with_logits(logit, wrong, reduction='none', pos_weight=torch.tensor(5.0))
    verdict = (verdict * known).sum() / known.sum()
    last = score[torch.arange(len(chunk)), torch.tensor([len(e.ids) - 1 for e in chunk])]
    mistakes = torch.tensor([float(e.mistakes) for e in chunk])
    exact = torch.tensor([e.exact for e in chunk])
    ending = F.smooth_l1_loss(last, TOP - GAP * mistakes.clamp(max=MOST), reduction='none')
    ending = torch.where(exact | (last > TOP - GAP * mistakes), ending, torch.zeros(())).mean()
    grouped, bad = last.view(-1, GROUP), (mistakes > 0).view(-1, GROUP)[:, 1:]
    margin = grouped[:, :1] - grouped[:, 1:]
    pairs = F.softplus(-margin)[bad].mean()
    ranked = (margin[bad] > 0).float().mean().item()
    loss = 0.5 * each + verdict + 0.3 * ending + 2 * pairs
    return loss, {'each': each.item(), 'verdict': verdict.item(),
                  'ending': ending.item(), 'pairs': pairs.item(), 'ranked': ranked}


def writer_samples(coder, args):
    """Returns (problems, replies) of the writer; sampled once, then read from the checkpoints."""
    path = os.path.join(args.work, 'samples.json')
    count = SAMPLED
    made = list(problems.generate(SEEDS['samples'], count))
    if not os.path.exists(path):
        began = time.time()
        writer = nets.load(os.path.join(HERE, 'writer'))
        replies = evaluate.sample(writer, coder, made, SAMPLES, 0.8, SEEDS['samples'])
        with open(path + '.new', 'w', encoding='utf-8') as file:
            json.dump(replies, file)
        os.replace(path + '.new', path)
        print(f'{count * SAMPLES} samples of the writer: {time.time() - began:.0f} s', flush=True)
    with open(path, encoding='utf-8') as file:
        return made, json.load(file)


def sampled_groups(coder, made, replies):
    """Returns the groups of a right answer and GROUP - 1 different wrong samples of the writer."""
    prompts = coder.prompts([p.question for p in made])
    truths = coder.answers([problems.solution(p.steps) for p in made])
    groups = []
    for problem, prompt, truth, group in zip(made, prompts, truths, replies):
        truth = truth + [data.END]
        wrong = sorted({tuple(r) for r in group if r != truth})
        for at in range(0, len(wrong) - GROUP + 2, GROUP - 1):
            groups.append([coder.example(problem, prompt, list(r)) for r in [truth, *wrong[at:at + GROUP - 1]]])
    return groups


def train_classifier(name, args):
    """Stages 5 to 7, on made-up mistakes and those of the writer.

    The checker is the judge with two fresh layers, which learn the verdict on each token; the classifier has a third
    one, which learns to sum the verdicts up; to finish, the three learn together, mostly from the writer's mistakes.
    """
    torch.manual_seed(SEEDS[name])
    files = tokenizer_files()
    coder = data.Coder(files['tokenizer.json'])
    net = nets.Net(SHAPES[name]).add_heads()
    if name == 'checker':
        before = nets.load(os.path.join(HERE, 'judge')).state_dict()
    else:
        before = torch.load(os.path.join(args.work, STAGES[STAGES.index(name) - 1] + '.pt'))['net']
    net.load_state_dict(before, strict=False)
    net.frozen = TRUNK[name]
    for part in (net.embed, *net.blocks[:net.frozen]):
        part.requires_grad_(False)
    made, replies = writer_samples(coder, args)
    groups = sampled_groups(coder, made, replies)
    print(f'{len(groups)} groups of samples', flush=True)
    watched = list(problems.generate(SEEDS['watch'], 100))
    writer = nets.load(os.path.join(HERE, 'writer'))
    heard = evaluate.sample(writer, coder, watched, 8, 0.7, 1)
    right = np.array([[evaluate.is_right(coder, p, r) for r in g] for p, g in zip(watched, heard)])
    sampled = int(POOL // GROUP * SAMPLED_SHARE[name])

    def pool(k):
        seed = SEEDS[name] + k
        random = problems.Random(seed)
        new = data.right_and_wrong(coder, random, seed, POOL // GROUP - sampled, GROUP - 1, cut=20)
        return new + [random.pick(groups) for _ in range(sampled)]

    def watch():
        scores = evaluate.rewards(evaluate.classifier_reward, net, coder, watched, heard)
        best = right[np.arange(len(watched)), scores.argmax(1)].mean()
        hits = evaluate.gradient_hits(evaluate.classifier_reward, net, coder, watched, heard, 40)
        print(f'{name}: best-of-8 {best:.3f} of {right.any(1).mean():.3f}, sample {right.mean():.3f}, '
              f'ranking {evaluate.ranking(scores, right):.3f}, gradient {hits[0]:.2f} {hits[1]:.2f}', flush=True)
        net.zero_grad()
        nets.export(net, os.path.join(HERE, 'classifier'), files, classifier=True)

    trainer = Trainer(name, net, classifier_loss, args)
    trainer.run(pool, watch)
    watch()


def evaluate_all(family):
    """Prints the table of what is exported."""
    coder = data.Coder(tokenizer_files()['tokenizer.json'])
    folders = [os.path.join(folder_of(family), name) for name in ('writer', 'judge', 'classifier')]
    models = [nets.load(folder) if os.path.exists(os.path.join(folder, 'config.json')) else None for folder in folders]
    evaluate.table(*models, coder, list(problems.generate(SEEDS['test'], 200, 'test', family)))


def main():
    """Runs the stages."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--only', choices=STAGES)
    parser.add_argument('--family', choices=tuple(problems.FAMILIES), default='words',
                        help='of problems; puzzles have a writer and a judge')
    parser.add_argument('--evaluate', action='store_true')
    parser.add_argument('--work', default=os.path.join(HERE, '.work'), help='where checkpoints go')
    parser.add_argument('--steps', type=int, default=0, help='steps instead of the usual number')
    parser.add_argument('--watch', type=int, default=500, help='steps between looks at the accuracy')
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate_all(args.family)
        return
    if args.family != 'words':
        args.work = os.path.join(args.work, args.family)
    os.makedirs(args.work, exist_ok=True)
    stages = STAGES if args.family == 'words' else ('writer', 'judge')
    if args.only and args.only not in stages:
        parser.error(f'--only: the family {args.family} has the stages {", ".join(stages)}')
    for stage in [args.only] if args.only else stages:
        if stage == 'tokenizer':
            train_tokenizer(args)
        elif stage in ('checker', 'classifier', 'finish'):
            train_classifier(stage, args)
        else:
            train_causal(stage, args)
    if not args.only:
        evaluate_all(args.family)


if __name__ == '__main__':
    main()
