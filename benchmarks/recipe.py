"""What each part of the fine-tuning recipe is worth: nano fine-tuned on the older part of known and real markets by
recipes that differ in one thing from a control, and judged on the newer part. A line of JSON per run; a line that is
there is not computed again.

    python benchmarks/recipe.py --out recipe.jsonl --seeds 3
"""

import argparse
import copy
import dataclasses
import json
import logging
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from figures import between, forecast, planted, spread_origins

from kronos_nb import load_klines
from kronos_nb.config import FinetuneConfig
from kronos_nb.data.klines import Klines
from kronos_nb.data.synthetic import market_store
from kronos_nb.data.windows import BarStore, gather
from kronos_nb.evaluation.baselines import geometric_random_walk
from kronos_nb.evaluation.metrics import crps
from kronos_nb.forecasting.forecast import KronosPredictor
from kronos_nb.models.kronos import Kronos
from kronos_nb.models.tokenizer import KronosTokenizer
from kronos_nb.training.stages import predictor_stage, tokenizer_stage
from kronos_nb.training.step import freeze, inject_lora, merged

LOOKBACK, HORIZON, BATCH = 128, 24, 32
TRAIN, VAL = 0.6, 0.1  # the newest 30 % judge


@dataclass(frozen=True)
class Recipe:
    "How to fine-tune; the defaults are the control."

    steps: int = 96
    rate: float = 1e-4
    teacher_forcing: bool = True
    loss: str = 'horizon'
    frozen: tuple = ()
    lora: int = 0
    decay: float = 0.1  # of weights
    dropout: float = 0.0
    layer_decay: float = 1.0  # of the rate, from one block down to the next
    averaged: float = 0.0  # decay of the exponential average of weights
    synthetic: float = 0.0  # share of windows from synthetic markets
    mirrored: bool = False  # half of the windows upside down
    ordered: bool = False  # every window in turn of a stride, instead of random ones
    tokenizer: int = 0  # steps of stage 1 before
    blend: float = 1.0  # share of the fine-tuned weights beside the pretrained ones
    chosen: bool = False  # by validation CRPS, among five moments, the beginning one of them
    lookbacks: int | None = None  # the shortest history, if they vary


RECIPES = {
    'control': {},
    'rate 1e-5': dict(rate=1e-5),
    'rate 3e-5': dict(rate=3e-5),
    'rate 3e-4': dict(rate=3e-4),
    'rate 1e-3': dict(rate=1e-3),
    '4 x the steps': dict(steps=384),
    '4 x the steps, rate 3e-5': dict(steps=384, rate=3e-5),
    'sampled s1': dict(teacher_forcing=False),
    'loss of the whole window': dict(loss='window'),
    'the reference': dict(teacher_forcing=False, loss='window', rate=4e-5, chosen=False),
    'embeddings frozen': dict(frozen=('embedding.*', 'time_emb.*')),
    'lower half frozen': dict(frozen=('embedding.*', 'time_emb.*', 'transformer.0.*', 'transformer.1.*')),
    'LoRA, rank 8': dict(lora=8, rate=1e-3),
    'no weight decay': dict(decay=0.0),
    'dropout 0.1': dict(dropout=0.1),
    'layer-wise decay 0.7': dict(layer_decay=0.7, rate=2e-4),
    'average of weights, 0.97': dict(averaged=0.97),
    'a third synthetic': dict(synthetic=1 / 3),
    'mirrored': dict(mirrored=True),
    'tokenizer too': dict(tokenizer=96),
    'half the way': dict(blend=0.5),
    'chosen by CRPS': dict(chosen=True),
    'varied histories': dict(lookbacks=40),
}
QUICKSTART = Recipe(rate=3e-4)  # what configs/quickstart.yaml does
DATA = ('walk', 'ar1', 'wave', 'us_daily')


def settings(recipe, **data):
    "A configuration of a recipe."
    return FinetuneConfig.model_validate(
        dict(
            data=dict(
                data_path='.',
                lookback_window=LOOKBACK,
                predict_window=HORIZON,
                train_ratio=TRAIN,
                val_ratio=VAL,
                test_ratio=round(1 - TRAIN - VAL, 6),
                **data,
            ),
            training=dict(
                teacher_forcing=recipe.teacher_forcing,
                predictor_loss=recipe.loss,
                adam_weight_decay=recipe.decay,
                freeze_predictor=list(recipe.frozen),
                lora_rank=recipe.lora or None,
                predictor_learning_rate=recipe.rate,
                tokenizer_learning_rate=2e-4,
                tokenizer_loss='moves',
            ),
            model_paths=dict(pretrained_tokenizer='nano', pretrained_predictor='nano', finetuned_tokenizer='nano'),
        )
    )


def frames_of(name, series=20, seed=0):
    "Frames of a data set."
    if name in ('walk', 'garch', 'ar1', 'wave'):
        return {f'{name}{i}': planted(name, 1000 * seed + i)[0] for i in range(series)}
    path = Path(__file__).parent.parent / 'data/us_daily' if name == 'us_daily' else name
    return load_klines(path).frames


def upside_down(store):
    "The same market with every price turned over: up is down."
    bars = store.bars.copy()
    for first, end in store.spans.values():
        level = np.float64(store.bars[first:end, 3]).mean() ** 2
        o, h, low, c = (level / store.bars[first:end, i].astype(float) for i in range(4))
        bars[first:end, :4] = np.stack([o, low, h, c], 1)
        bars[first:end, 5] = bars[first:end, 4] * bars[first:end, :4].mean(1)
    return dataclasses.replace(store, bars=bars)


class Sources:
    "Training windows of a recipe."

    def __init__(self, recipe, store, seed):
        self.recipe, self.store, self.rng = recipe, store, np.random.default_rng(seed)
        self.starts = store.starts('train')
        self.mirror = upside_down(store) if recipe.mirrored else None
        self.synthetic = market_store(2_000_000, seed + 7, store.cfg) if recipe.synthetic else None

    def batch(self):
        "A batch of windows."
        lookback = LOOKBACK
        if self.recipe.lookbacks:
            lookback = round(self.recipe.lookbacks * (LOOKBACK / self.recipe.lookbacks) ** self.rng.random())
        own = round(BATCH * (1 - self.recipe.synthetic))
        parts = [(self.store, self.rng.choice(self.starts, own))]
        if self.mirror:
            parts = [(self.store, parts[0][1][::2]), (self.mirror, parts[0][1][1::2])]
        if own < BATCH:
            others = self.synthetic.starts('train', stride=16)
            parts.append((self.synthetic, self.rng.choice(others, BATCH - own)))
        made = [gather(store, starts + LOOKBACK - lookback, lookback) for store, starts in parts]
        first = made[0]
        return dataclasses.replace(
            first, x=torch.cat([b.x for b in made]), stamp=torch.cat([b.stamp for b in made]), starts=None
        )


def depth_below_head(name, layers):
    "How many blocks lie between a parameter and the head."
    if block := re.match(r'transformer\.(\d+)', name):
        return layers - int(block[1])
    return layers + 1 if re.match('embedding|time_emb', name) else 0


def groups_of(model, recipe):
    "Parameter groups with a rate that falls from block to block."
    groups = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            groups.setdefault(depth_below_head(name, model.n_layers), []).append(p)
    return [dict(params=ps, lr=recipe.rate * recipe.layer_decay**below) for below, ps in groups.items()]


def schedule(step, steps):
    "One cycle: 3 % up, then a cosine down."
    up = max(1, 0.03 * steps)
    return (step + 1) / up if step < up else 0.5 * (1 + math.cos(math.pi * (step - up) / max(1, steps - up)))


def train(stage, sources, recipe, steps, seed, moments=()):
    "Train a stage's model; its weights at some moments."
    torch.manual_seed(seed)
    model = stage.model.train()
    groups = groups_of(model, recipe) if recipe.layer_decay < 1 else [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(groups, stage.learning_rate, (0.9, 0.95), weight_decay=recipe.decay, fused=True)
    peaks = [g['lr'] for g in opt.param_groups]
    average = copy.deepcopy(model.state_dict()) if recipe.averaged else None
    kept = []
    for step in range(steps):
        for g, peak in zip(opt.param_groups, peaks):
            g['lr'] = peak * schedule(step, steps)
        loss = stage.loss(model, sources.batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), stage.max_norm)
        opt.step()
        opt.zero_grad(set_to_none=True)
        if average:
            for k, v in model.state_dict().items():
                if v.is_floating_point():
                    average[k].lerp_(v, 1 - min(recipe.averaged, (step + 1) / (step + 10)))
        if step + 1 in moments:
            kept.append(copy.deepcopy(model.state_dict()))
    if average:
        model.load_state_dict(average)
    model.eval()
    return kept


def relative_crps(predictor, frames, origins, paths, seed=0):
    "(N, horizon) CRPS of closes in shares of the last close, ours and the walk's, insides and direction."
    history, truth, made = forecast(predictor, frames, origins, LOOKBACK, HORIZON, paths, seed)
    close, real, last = (x[..., 3].astype(float) for x in (made, truth, history[:, -1]))
    walk = geometric_random_walk(history[..., 3].astype(float)[..., None], HORIZON, paths, 0)[..., 0]
    low, high = np.quantile(close, [0.05, 0.95], axis=1)
    return dict(
        ours=crps(real, close) / last[:, None],
        walk=crps(real, walk) / last[:, None],
        inside=(low <= real) & (real <= high),
        right=(np.median(close[:, :, 0], 1) > last) == (real[:, 0] > last),
    )


def dropout_everywhere(model, p):
    "Switch dropout on in a model that was trained without."
    for m in model.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = p
        for key in ('resid_dropout_p', 'ffn_dropout_p'):
            if hasattr(m, key):
                setattr(m, key, p)


def mixed(start, end, share):
    "Weights on the way from `start` to `end`."
    return {k: torch.lerp(start[k], v, share) if v.is_floating_point() else v for k, v in end.items()}


def best_by_crps(model, tokenizer, states, frames):
    "The weights whose forecasts of the validation bars have the lowest CRPS."
    origins, scores = between(TRAIN, TRAIN + VAL, LOOKBACK, HORIZON, 6), []
    for state in states:
        model.load_state_dict(state)
        scored = relative_crps(KronosPredictor(model, tokenizer, 'cpu'), list(frames.values()), origins, 32)
        scores.append(scored['ours'].mean())
    return states[int(np.argmin(scores))]


def finetune(recipe, frames, seed):
    "nano, fine-tuned by a recipe on the older part of some frames."
    cfg = settings(recipe)
    store = BarStore.from_klines(Klines(frames, [], {}), cfg.data)
    tokenizer, model = KronosTokenizer.from_pretrained('nano'), Kronos.from_pretrained('nano')
    if recipe.tokenizer:
        plain = dataclasses.replace(recipe, averaged=0, layer_decay=1)
        train(tokenizer_stage(cfg, tokenizer), Sources(recipe, store, seed), plain, recipe.tokenizer, seed)
    tokenizer = tokenizer.eval().requires_grad_(False)
    dropout_everywhere(model, recipe.dropout)
    start = copy.deepcopy(model.state_dict())
    stage = predictor_stage(cfg, model, tokenizer)
    freeze(stage)
    inject_lora(stage)
    quarters = [recipe.steps * i // 4 for i in range(1, 5)] if recipe.chosen else ()
    kept = train(stage, Sources(recipe, store, seed), recipe, recipe.steps, seed, quarters)
    model = merged(stage.model)
    if recipe.blend < 1:
        model.load_state_dict(mixed(start, model.state_dict(), recipe.blend))
    if recipe.chosen:
        model.load_state_dict(best_by_crps(model, tokenizer, [start, *kept], frames))
    return KronosPredictor(model.eval(), tokenizer, 'cpu')


def row(name, recipe, data, seed, paths):
    "The figures of one run, in shares; sums that a table can pool."
    frames, began = frames_of(data), time.time()
    predictor = (
        KronosPredictor(Kronos.from_pretrained('nano'), KronosTokenizer.from_pretrained('nano'), 'cpu')
        if recipe is None
        else finetune(recipe, frames, seed)
    )
    trained = time.time() - began
    origins = spread_origins(LOOKBACK, HORIZON, most=120 // len(frames))
    r = relative_crps(predictor, list(frames.values()), origins, paths)
    return dict(
        recipe=name,
        data=data,
        seed=seed,
        ours=r['ours'].mean(1).round(6).tolist(),
        walk=r['walk'].mean(1).round(6).tolist(),
        first=[float(r['ours'][:, 0].mean()), float(r['walk'][:, 0].mean())],
        covers=float(r['inside'].mean()),
        direction=float(r['right'].mean()),
        seconds=[round(trained), round(time.time() - began - trained)],
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', required=True)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--paths', type=int, default=50)
    parser.add_argument('--data', nargs='*', default=DATA)
    parser.add_argument('--recipes', nargs='*')
    a = parser.parse_args()
    logging.disable(logging.INFO)
    out = Path(a.out)
    there = set()
    if out.exists():
        there = {(r['recipe'], r['data'], r['seed']) for r in map(json.loads, out.read_text().splitlines())}
    todo = [('zero-shot', None, d, 0) for d in a.data]
    names = a.recipes or RECIPES
    todo += [(n, Recipe(**RECIPES[n]), d, s) for s in range(a.seeds) for n in names for d in a.data]
    for name, recipe, data, seed in todo:
        if (name, data, seed) in there:
            continue
        r = row(name, recipe, data, seed, a.paths)
        with out.open('a') as f:
            f.write(json.dumps(r) + '\n')
        print(name, data, seed, f"skill {100 * (1 - np.mean(r['ours']) / np.mean(r['walk'])):.2f} %",
              f"direction {r['direction']:.3f}", f"covers {r['covers']:.3f}", r['seconds'], flush=True)


if __name__ == '__main__':
    main()
