"""A small Llama written for fast training on a CPU, and its exact Hugging Face form.

Fused projections, bfloat16 autocast and compiled blocks; `export` unfuses the weights into the layout of
LlamaForCausalLM or LlamaForSequenceClassification.
"""

import dataclasses
import json
import os
import shutil

import torch
from torch import nn
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Shape:
    """The size of a model."""

    layers: int
    dim: int
    heads: int
    inter: int
    vocab: int = 512
    max_len: int = 512
    theta: float = 10000.0
    eps: float = 1e-6


def rope_table(shape, length):
    """Returns (cos, sin), each [length, head_dim], in the rotate-half convention."""
    head_dim = shape.dim // shape.heads
    freq = shape.theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.outer(torch.arange(length).float(), freq)
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Applies rotary positions to x [batch, heads, time, head_dim]."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return (x * cos + turned * sin).to(x.dtype)


def rms_norm(x, weight, eps):
    """RMSNorm in float32, returned in the type of x."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


def attend(q, k, v, mask):
    """Attention by plain products: its backward pass in bfloat16 is several times that of the fused kernel on a CPU."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
    return scores.softmax(-1) @ v


class Block(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, shape, depth):
        super().__init__()
        self.heads, self.eps = shape.heads, shape.eps
        self.norm1 = nn.Parameter(torch.ones(shape.dim))
        self.norm2 = nn.Parameter(torch.ones(shape.dim))
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=False)
        self.out = nn.Linear(shape.dim, shape.dim, bias=False)
        self.gate_up = nn.Linear(shape.dim, 2 * shape.inter, bias=False)
        self.down = nn.Linear(shape.inter, shape.dim, bias=False)
        for linear in (self.qkv, self.gate_up):
            nn.init.normal_(linear.weight, std=shape.dim ** -0.5)
        nn.init.normal_(self.out.weight, std=(2 * depth * shape.dim) ** -0.5)
        nn.init.normal_(self.down.weight, std=(2 * depth * shape.inter) ** -0.5)

    def forward(self, x, cos, sin, causal=None, cache=None):
        """Returns the layer's output; `cache` is (keys, values, start), written in place."""
        b, t, d = x.shape
        qkv = self.qkv(rms_norm(x, self.norm1, self.eps))
        q, k, v = qkv.view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is None:
            y = attend(q, k, v, causal)
        else:
            keys, values, start = cache
            keys[:, :, start:start + t] = k
            values[:, :, start:start + t] = v
            y = F.scaled_dot_product_attention(q, keys[:, :, :start + t], values[:, :, :start + t], causal)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        gate, up = self.gate_up(rms_norm(x, self.norm2, self.eps)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


torch._dynamo.config.recompile_limit = 64  # pylint: disable=protected-access
fast_block = torch.compile(Block.forward, dynamic=False)


class Net(nn.Module):
    """A Llama with tied embeddings; `score` and `wrong` are the heads of the classifier."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.dim)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(shape, shape.layers) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.dim))
        cos, sin = rope_table(shape, shape.max_len)
        self.register_buffer('cos', cos, persistent=False)
        self.register_buffer('sin', sin, persistent=False)

    def add_heads(self):
        """Adds the classifier's heads: the score, and for training alone the verdict on each token."""
        self.score = nn.Linear(self.shape.dim, 1, bias=False)
        self.wrong = nn.Linear(self.shape.dim, 1)
        return self

    def forward(self, ids, frozen=0, embeds=None):
        """Returns the last residual stream; no gradient reaches the first `frozen` layers."""
        x = self.embed(ids) if embeds is None else embeds
        if torch.is_autocast_enabled('cpu'):
            x = x.to(torch.bfloat16)
        t = x.shape[1]
        cos, sin = self.cos[:t].to(x.dtype), self.sin[:t].to(x.dtype)
        causal = torch.full((t, t), float('-inf'), dtype=x.dtype).triu(1)
        run = fast_block if self.training else Block.forward
        for i, block in enumerate(self.blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= frozen):
                x = run(block, x, cos, sin, causal)
        return x

    def scores(self, x):
        """The classifier's score at each position of a residual stream."""
        return self.score(rms_norm(x, self.norm, self.shape.eps))[..., 0]

    @torch.no_grad()
    def generate(self, prompts, max_new, temperature=0.0, generator=None, stop=2):
        """Samples an answer to each prompt (lists of ids); returns lists of ids, `stop` included where written."""
        shape, batch = self.shape, len(prompts)
        longest = max(map(len, prompts))
        ids = torch.zeros(batch, longest, dtype=torch.long)
        mask = torch.full((batch, 1, 1, longest + max_new), float('-inf'))
        for row, prompt in enumerate(prompts):  # Padded on the left: rotary positions are relative.
            ids[row, longest - len(prompt):] = torch.tensor(prompt)
            mask[row, :, :, longest - len(prompt):] = 0
        room = (batch, shape.heads, longest + max_new, shape.dim // shape.heads)
        caches = [(torch.zeros(room), torch.zeros(room)) for _ in self.blocks]
        triangle = torch.full((longest, longest), -1e9).triu(1)
        here, start, rows = ids, 0, torch.arange(batch)
        replies = [[] for _ in prompts]
        for _ in range(max_new):
            t = here.shape[1]
            visible = mask[..., :start + t].clamp(min=-1e9) + (triangle if start == 0 else 0)
            x = self.embed(here)
            cos, sin = self.cos[start:start + t], self.sin[start:start + t]
            for block, (keys, values) in zip(self.blocks, caches):
                x = block(x, cos, sin, visible, (keys, values, start))
            logits = self.logits(x[:, -1]).float()
            if temperature:
                probs = (logits / temperature).softmax(-1)
                token = torch.multinomial(probs, 1, generator=generator)[:, 0]
            else:
                token = logits.argmax(-1)
            for row, value in zip(rows.tolist(), token.tolist()):
                if not replies[row] or replies[row][-1] != stop:
                    replies[row].append(value)
            here, start = token[:, None], start + t
            going = torch.tensor([replies[row][-1] != stop for row in rows.tolist()])
            if not going.any():
                break
            if going.sum() < 0.7 * len(rows):
                here, mask, rows = here[going], mask[going], rows[going]
                caches = [(keys[going], values[going]) for keys, values in caches]
        return replies

    def logits(self, x):
        """The language-model head on a residual stream."""
        return F.linear(rms_norm(x, self.norm, self.shape.eps), self.embed.weight)


def export(net, folder, tokenizer_files, classifier=False):
    """Writes the model as a Hugging Face folder in bfloat16; replaces the folder at once."""
    from safetensors.torch import save_file  # pylint: disable=import-outside-toplevel
    shape = net.shape
    tensors = {'model.embed_tokens.weight': net.embed.weight, 'model.norm.weight': net.norm}
    for i, block in enumerate(net.blocks):
        at = f'model.layers.{i}.'
        q, k, v = block.qkv.weight.chunk(3)
        gate, up = block.gate_up.weight.chunk(2)
        tensors.update({
            at + 'self_attn.q_proj.weight': q, at + 'self_attn.k_proj.weight': k, at + 'self_attn.v_proj.weight': v,
            at + 'self_attn.o_proj.weight': block.out.weight, at + 'mlp.gate_proj.weight': gate,
            at + 'mlp.up_proj.weight': up, at + 'mlp.down_proj.weight': block.down.weight,
            at + 'input_layernorm.weight': block.norm1, at + 'post_attention_layernorm.weight': block.norm2})
    if classifier:
        tensors['score.weight'] = net.score.weight
    config = {
        'architectures': ['LlamaForSequenceClassification' if classifier else 'LlamaForCausalLM'],
        'attention_bias': False, 'attention_dropout': 0.0, 'bos_token_id': None, 'dtype': 'bfloat16',
        'eos_token_id': 2, 'head_dim': shape.dim // shape.heads, 'hidden_act': 'silu', 'hidden_size': shape.dim,
        'initializer_range': 0.02, 'intermediate_size': shape.inter, 'max_position_embeddings': shape.max_len,
        'mlp_bias': False, 'model_type': 'llama', 'num_attention_heads': shape.heads,
        'num_hidden_layers': shape.layers, 'num_key_value_heads': shape.heads, 'pad_token_id': 0,
        'pretraining_tp': 1, 'rms_norm_eps': shape.eps,
        'rope_parameters': {'rope_theta': shape.theta, 'rope_type': 'default'}, 'tie_word_embeddings': True,
        'use_cache': True, 'vocab_size': shape.vocab}
    if classifier:
        config.update(id2label={'0': 'LABEL_0'}, label2id={'LABEL_0': 0})
    new = folder + '.new'
    shutil.rmtree(new, ignore_errors=True)
    os.makedirs(new)
    save_file({k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in tensors.items()},
              os.path.join(new, 'model.safetensors'), metadata={'format': 'pt'})
    _write_json(os.path.join(new, 'config.json'), config)
    if not classifier:
        _write_json(os.path.join(new, 'generation_config.json'), {'eos_token_id': 2, 'pad_token_id': 0})
    for name, text in tokenizer_files.items():
        with open(os.path.join(new, name), 'w', encoding='utf-8') as file:
            file.write(text)
    os.chmod(os.path.join(new, 'model.safetensors'), 0o644)
    old = folder + '.old'
    shutil.rmtree(old, ignore_errors=True)
    if os.path.exists(folder):
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder):
    """Reads an exported folder back, in float32."""
    from safetensors.torch import load_file  # pylint: disable=import-outside-toplevel
    with open(os.path.join(folder, 'config.json'), encoding='utf-8') as file:
        config = json.load(file)
    net = Net(Shape(config['num_hidden_layers'], config['hidden_size'], config['num_attention_heads'],
                    config['intermediate_size'], config['vocab_size']))
    tensors = {k: v.float() for k, v in load_file(os.path.join(folder, 'model.safetensors')).items()}
    state = {'embed.weight': tensors['model.embed_tokens.weight'], 'norm': tensors['model.norm.weight']}
    for i in range(config['num_hidden_layers']):
        get = lambda name, at=f'model.layers.{i}.': tensors[f'{at}{name}.weight']
        state.update({
            f'blocks.{i}.qkv.weight': torch.cat([get(f'self_attn.{x}_proj') for x in 'qkv']),
            f'blocks.{i}.out.weight': get('self_attn.o_proj'),
            f'blocks.{i}.gate_up.weight': torch.cat([get('mlp.gate_proj'), get('mlp.up_proj')]),
            f'blocks.{i}.down.weight': get('mlp.down_proj'),
            f'blocks.{i}.norm1': get('input_layernorm'), f'blocks.{i}.norm2': get('post_attention_layernorm')})
    if 'score.weight' in tensors:
        net.score = nn.Linear(config['hidden_size'], 1, bias=False)
        state['score.weight'] = tensors['score.weight']
    net.load_state_dict(state)
    return net.eval()


def _write_json(path, value):
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.write('\n')
