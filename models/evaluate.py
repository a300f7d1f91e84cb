"""Rewards of finished models and the table of `train.py --evaluate`."""

import numpy as np
import torch

import data
import problems

MAX_NEW = 96
BATCH = 128


def is_right(coder, problem, reply):
    """Whether the reply's answer is the problem's."""
    return problems.final_answer(coder.text(reply)) == problems.final_answer(problems.solution(problem.steps))


def greedy_accuracy(net, coder, made):
    """The share of problems answered rightly without sampling."""
    replies = net.generate(coder.prompts([p.question for p in made]), MAX_NEW)
    return float(np.mean([is_right(coder, p, r) for p, r in zip(made, replies)]))


def sample(net, coder, made, count, temperature, seed):
    """Returns `count` replies to each problem."""
    prompts = [p for p in coder.prompts([p.question for p in made]) for _ in range(count)]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    generator = torch.Generator().manual_seed(seed)
    replies = [None] * len(prompts)
    for at in range(0, len(order), 800):
        rows = order[at:at + 800]
        for i, reply in zip(rows, net.generate([prompts[i] for i in rows], MAX_NEW, temperature, generator)):
            replies[i] = reply
    return [replies[i:i + count] for i in range(0, len(replies), count)]


def _embedded(net, rows):
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = torch.tensor(row)
    return ids, net.embed(ids)


def judge_reward(net, coder, prompts, replies, grad=False):
    """Summed log-probabilities of the replies; with `grad` also the log-probabilities and the inputs."""
    del coder
    ids, embeds = _embedded(net, [p + r for p, r in zip(prompts, replies)])
    if grad:
        embeds = embeds.detach().requires_grad_()
    logp = net.logits(net(ids, embeds=embeds)).log_softmax(-1)
    each = logp[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    at = torch.arange(ids.shape[1] - 1)[None]
    first = torch.tensor([len(p) for p in prompts])[:, None] - 1
    last = first + torch.tensor([len(r) for r in replies])[:, None]
    reward = (each * ((at >= first) & (at < last))).sum(1)
    return (reward, logp, embeds) if grad else reward


def classifier_reward(net, coder, prompts, replies, grad=False):
    """The score behind the template's tail; with `grad` also the inputs."""
    rows = [p + r + coder.tail for p, r in zip(prompts, replies)]
    ids, embeds = _embedded(net, rows)
    if grad:
        embeds = embeds.detach().requires_grad_()
    score = net.scores(net(ids, embeds=embeds))
    reward = score[torch.arange(len(rows)), torch.tensor([len(r) - 1 for r in rows])]
    return (reward, None, embeds) if grad else reward


@torch.no_grad()
def rewards(reward, net, coder, made, replies):
    """Returns the rewards [problems, replies]."""
    prompts = coder.prompts([p.question for p in made])
    flat = [(prompt, r) for prompt, group in zip(prompts, replies) for r in group]
    order = sorted(range(len(flat)), key=lambda i: len(flat[i][0]) + len(flat[i][1]))
    out = np.zeros(len(flat))
    for at in range(0, len(order), BATCH):
        rows = order[at:at + BATCH]
        values = reward(net, coder, [flat[i][0] for i in rows], [flat[i][1] for i in rows])
        out[rows] = values.numpy()
    return out.reshape(len(made), -1)


def gradient_hits(reward, net, coder, made, replies, limit=200):
    """At the first wrong digit of wrong answers: how often the gradient prefers the right token.

    Returns (over the written token, over all tokens): the share of answers where the reward's first-order change is
    positive for the right token, and where the right token is the best of the vocabulary.
    """
    prompts = coder.prompts([p.question for p in made])
    truths = coder.answers([problems.solution(p.steps) for p in made])
    better, best = [], []
    for prompt, truth, group in zip(prompts, truths, replies):
        for reply in group:
            truth_end = truth + [data.END]
            at = next((i for i, (a, b) in enumerate(zip(reply, truth_end)) if a != b), None)
            if at is None or not coder.texts[truth_end[at]].isdigit():
                continue
            value, logp, embeds = reward(net, coder, [prompt], [reply], grad=True)
            value.sum().backward()
            here = len(prompt) + at
            row = (net.embed.weight @ embeds.grad[0, here]).detach()
            if logp is not None:
                row = row + logp[0, here - 1].detach()
            better.append(float(row[truth_end[at]] > row[reply[at]]))
            best.append(float(row.argmax() == truth_end[at]))
            break
        if len(better) >= limit:
            break
    return float(np.mean(better)), float(np.mean(best))


def ranking(scores, right):
    """P[score(right) > score(wrong)] over pairs of answers to the same problem."""
    wins = pairs = 0
    for s, r in zip(scores, right):
        difference = s[r][:, None] - s[~r][None]
        wins += (difference > 0).sum() + 0.5 * (difference == 0).sum()
        pairs += difference.size
    return wins / max(pairs, 1)


def table(writer, judge, classifier, coder, made, count=8, temperature=0.7, seed=1):
    """Prints the evaluation of the three models on problems."""
    print(f'{len(made)} problems, {count} samples at temperature {temperature}')
    print(f'writer greedy        {100 * greedy_accuracy(writer, coder, made):.1f} %')
    if judge:
        print(f'judge greedy         {100 * greedy_accuracy(judge, coder, made):.1f} %')
    replies = sample(writer, coder, made, count, temperature, seed)
    right = np.array([[is_right(coder, p, r) for r in group] for p, group in zip(made, replies)])
    print(f'writer sample        {100 * right.mean():.1f} %')
    print(f'writer any-of-{count}      {100 * right.any(1).mean():.1f} %')
    for name, net, reward in (('judge', judge, judge_reward), ('classifier', classifier, classifier_reward)):
        if not net:
            continue
        scores = rewards(reward, net, coder, made, replies)
        best = right[np.arange(len(made)), scores.argmax(1)].mean()
        print(f'{name} best-of-{count}: {100 * best:.1f} %  ranking within a problem: '
              f'{100 * ranking(scores, right):.1f} %', end='')
        hits = gradient_hits(reward, net, coder, made, replies)
        print(f'  gradient at the first wrong digit: right token over the written one {100 * hits[0]:.1f} %, '
              f'best of the vocabulary {100 * hits[1]:.1f} %', flush=True)
