"""Tokeniser and training examples: problems as token ids with a judgement of every token."""

import dataclasses
import json

import tokenizers

import problems

PAD, START, END = 0, 1, 2
SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
TEMPLATE = ("{% for m in messages %}{{'<|im_start|>'+m['role']+'\n'+m['content']+'<|im_end|>\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}")
CONFIG = {
    'backend': 'tokenizers', 'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>', 'model_max_length': 512,
    'tokenizer_class': 'TokenizersBackend'}


def train_tokenizer():
    """Trains the byte-level BPE on problems; returns the files of the tokeniser, by name."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=512, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    texts = [f'user\n{p.question}\nassistant\n{problems.solution(p.steps)}\nsystem\n'
             for p in problems.generate(1, 20000)]
    tokenizer.train_from_iterator(texts, trainer)
    return {'tokenizer.json': tokenizer.to_str(pretty=True),
            'tokenizer_config.json': json.dumps(CONFIG, indent=2) + '\n',
            'chat_template.jinja': TEMPLATE}


@dataclasses.dataclass
class Example:
    """An answer to a problem: ids[:prompt] is the prompt, then the answer, then `tail` ids of the template.

    For each id of the answer: `wrong` (is it the start of a mistake), `learn` (may it be imitated), `known` (does
    the judgement hold here). `mistakes` counts them all; `exact` tells whether all of the answer could be judged.
    """

    ids: list
    prompt: int
    wrong: list
    learn: list
    known: list
    mistakes: int
    exact: bool
    problem: int
    tail: int = 2


class Coder:
    """Turns problems and answers into examples."""

    def __init__(self, tokenizer_json):
        self.tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
        alphabet = self.tokenizer.decoder
        self.texts = [alphabet.decode([self.tokenizer.id_to_token(i)]) if i > END else ''
                      for i in range(self.tokenizer.get_vocab_size())]
        self.tail = self.tokenizer.encode('<|im_end|>\n').ids

    def prompts(self, questions):
        """Returns the ids of the chat template around each question."""
        texts = [f'<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n' for q in questions]
        return [e.ids for e in self.tokenizer.encode_batch(texts)]

    def answers(self, texts):
        """Returns the ids of each text."""
        return [e.ids for e in self.tokenizer.encode_batch(texts)]

    def text(self, ids):
        """Returns the text of an answer, special tokens left out."""
        return ''.join(self.texts[i] for i in ids)

    def example(self, problem, prompt, answer, number=0):
        """Judges an answer (ids, END included where it was written)."""
        pieces = [self.texts[i] for i in answer]
        text = ''.join(pieces)
        ended = bool(answer) and answer[-1] == END
        errors, known = problems.find_errors(problem.steps, text, ended)
        wrong, learn, sure = [], [], []
        at, rest, pending = 0, False, list(errors)
        for i, piece in enumerate(pieces):
            end = at + len(piece) if i < len(answer) - 1 or not ended else len(text) + 1
            hit = bool(pending) and pending[0] < end
            while pending and pending[0] < end:
                pending.pop(0)
            rest = hit or rest and piece.isalnum()
            wrong.append(int(hit))
            learn.append(int(not rest and end <= known))
            sure.append(int(end <= known and (hit or not rest)))
            at = end
        complete = text.endswith('.') and 'answer is' in text
        mistakes = len(errors) + (not complete)
        return Example(prompt + answer + self.tail, len(prompt), wrong, learn, sure, mistakes,
                       known > len(text), number)


def right_and_wrong(coder, random, seed, count, wrongs, cut=0, family='words'):
    """Returns lists of examples, one per problem: the right answer and `wrongs` made-up wrong ones.

    One wrong answer in `cut` (0: none) is cut short as well.
    """
    made = list(problems.generate(seed, count, family=family))
    prompts = coder.prompts([p.question for p in made])
    texts = []
    for problem in made:
        texts.append(problems.solution(problem.steps))
        for _ in range(wrongs):
            written = problems.spoil(random, problem.steps, random.pick((1, 1, 1, 2, 2, 3)))
            texts.append(''.join(p.text for p in problems.render(problem.steps, written)))
    answers = coder.answers(texts)
    groups = []
    for k, (problem, prompt) in enumerate(zip(made, prompts)):
        group = []
        for j in range(wrongs + 1):
            answer = answers[k * (wrongs + 1) + j] + [END]
            if j and cut and random.between(1, cut) == 1:
                answer = answer[:random.between(4, len(answer) - 1)]
            group.append(coder.example(problem, prompt, answer, k))
        groups.append(group)
    return groups
