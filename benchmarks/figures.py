"""What forecasts are worth where the truth is known, and on real bars: a table for every data set.

    python benchmarks/figures.py                                     # nano as it is
    python benchmarks/figures.py --finetune --out figures.jsonl      # and fine-tuned on the older part of each data set
    python benchmarks/figures.py --model EXPERIMENT --data a.csv b.csv

Skill is 1 - CRPS / CRPS of the geometric random walk with the history's volatility, on the newest 30 % of each series.
Fine-tuning sees the oldest 60 %; drift and spread of its paths are fitted on the tenth between. A row that stands in
--out already is not computed again.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from kronos_nb import load_klines, load_predictor
from kronos_nb.data.timestamps import time_features
from kronos_nb.evaluation.baselines import geometric_random_walk
from kronos_nb.evaluation.metrics import crps
from kronos_nb.forecasting.postprocessing import PostProcessing
from kronos_nb.forecasting.sampling import Sampling

BARS, VOLATILITY = 1500, 0.01
PLANTED = ('walk', 'garch', 'ar1', 'wave')


def returns(kind, n, rng, past=None):
    "Log returns and volatilities, each (paths, n), of a process; `past` = (return, volatility) of the last bar."
    paths = n[0]
    r, s = np.zeros((paths, n[1])), np.full((paths, n[1]), VOLATILITY)
    last, vol = (np.broadcast_to(x, paths) for x in (past or (0.0, VOLATILITY)))
    for t in range(n[1]):
        if kind == 'garch':
            vol = np.sqrt(0.02 * VOLATILITY**2 + 0.1 * last**2 + 0.88 * vol**2)
        s[:, t] = vol
        r[:, t] = last = vol * rng.standard_normal(paths) + (0.5 * last if kind == 'ar1' else 0)
    return r, s


def wave(index):
    "The drift of the weekly wave at bars of these numbers."
    return VOLATILITY * np.sin(2 * np.pi * index / 5)


def planted(kind, seed):
    "A frame of bars with a known secret; its returns and volatilities."
    rng = np.random.default_rng((seed, PLANTED.index(kind)))
    r, s = (x[0] for x in returns(kind, (1, BARS), rng))
    if kind == 'wave':
        r = r + wave(np.arange(BARS))
    steps = rng.standard_normal((BARS, 24))
    bridge = (steps - steps.mean(1, keepdims=True)).cumsum(1) / np.sqrt(24) * s[:, None]
    path = bridge + r[:, None] * np.arange(1, 25) / 24
    close = 100 * np.exp(np.cumsum(r))
    open_ = np.append(100, close[:-1])
    high = np.maximum(open_ * np.exp(np.maximum(path.max(1), 0)), close)
    low = np.minimum(open_ * np.exp(np.minimum(path.min(1), 0)), close)
    volume = np.rint(1e6 * np.exp(0.4 * rng.standard_normal(BARS)) * s / VOLATILITY)
    times = pd.bdate_range('2012-01-02', periods=BARS)
    amount = volume * (open_ + high + low + close) / 4
    frame = dict(timestamps=times, open=open_, high=high, low=low, close=close, volume=volume, amount=amount)
    return pd.DataFrame(frame), r, s


def oracle(kind, frame, r, s, origin, horizon, paths, rng):
    "Closes (paths, horizon) that the process itself would draw."
    new, _ = returns(kind, (paths, horizon), rng, (r[origin - 1], s[origin - 1]))
    if kind == 'wave':
        new = new + wave(origin + np.arange(horizon))
    return frame.close[origin - 1] * np.exp(new.cumsum(1))


def forecast(predictor, frames, origins, lookback, horizon, paths, seed=0, **choices):
    "Histories (N, lookback, 6), truth (N, horizon, 6), paths (N, paths, horizon, 6) of all frames and origins."
    columns = ['open', 'high', 'low', 'close', 'volume', 'amount']
    bars, stamps, truth = [], [], []
    for frame in frames:
        values, features = frame[columns].to_numpy(np.float32), time_features(frame.timestamps)
        for o in origins(len(frame)):
            bars.append(values[o - lookback : o])
            truth.append(values[o : o + horizon])
            stamps.append(features[o - lookback : o + horizon])
    out = predictor.sample_paths(bars, stamps, paths, Sampling(seed=seed, **choices))
    return np.stack(bars), np.stack(truth), out


def score(history, truth, paths, seed=0):
    "Skill, its error over the forecasts' series, first bar's skill, coverage, direction, against the random walk."
    close = lambda x: x[..., 3].astype(float)  # noqa: E731
    walk = geometric_random_walk(close(history)[..., None], truth.shape[1], paths.shape[1], seed)[..., 0]
    return compare(close(truth), close(paths), walk, close(history)[:, -1])


def compare(truth, paths, walk, last):
    "The figures of paths (N, paths, horizon) beside the walk's."
    ours, theirs = crps(truth, paths) / last[:, None], crps(truth, walk) / last[:, None]
    low, high = np.quantile(paths, [0.05, 0.95], axis=1)
    inside = (low <= truth) & (truth <= high)
    up, real = np.median(paths[:, :, 0], 1) > last, truth[:, 0] > last
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(ours), (1000, len(ours)))
    boot = 1 - ours.mean(1)[draws].mean(1) / theirs.mean(1)[draws].mean(1)
    return {
        'skill %': 100 * (1 - ours.mean() / theirs.mean()),
        '± %': 100 * boot.std(),
        'first bar %': 100 * (1 - ours[:, 0].mean() / theirs[:, 0].mean()),
        'last bar %': 100 * (1 - ours[:, -1].mean() / theirs[:, -1].mean()),
        'covers %': 100 * inside.mean(),
        'covers first %': 100 * inside[:, 0].mean(),
        'direction %': 100 * (up == real)[truth[:, 0] != last].mean(),
    }


def spread_origins(lookback, horizon, share=0.3, most=12):
    "Origins in the newest share of a frame."

    def origins(n):
        first = max(lookback, int(n * (1 - share)))
        return np.unique(np.linspace(first, n - horizon, most).astype(int))

    return origins


def planted_data(series, seed):
    "Name -> (frames, the closes the process itself would draw at some origins)."
    data = {}
    for kind in PLANTED:
        made = [planted(kind, 1000 * seed + i) for i in range(series)]

        def truth(origins, horizon, paths, kind=kind, made=made):
            rng = np.random.default_rng(seed)
            drawn = [oracle(kind, f, r, s, o, horizon, paths, rng) for f, r, s in made for o in origins(len(f))]
            return np.stack(drawn)

        data[kind] = [f for f, *_ in made], truth
    return data


def between(first, last, lookback, horizon, most):
    "Origins whose targets lie between two shares of a frame."

    def origins(n):
        start, end = max(lookback, int(n * first)), int(n * last) - horizon
        return np.unique(np.linspace(start, end, most).astype(int)) if end > start else np.empty(0, int)

    return origins


def correct(predictor, frames, a):
    "Fit drift and spread of a predictor's paths to the bars before those it is judged on."
    predictor.postprocessing = None
    origins = between(0.6, 0.7, a.lookback, a.horizon, max(4, 160 // len(frames)))
    history, truth, paths = forecast(predictor, frames, origins, a.lookback, a.horizon, a.paths, seed=1)
    predictor.postprocessing = PostProcessing.fit(paths, truth, history[:, -1, 3])
    return predictor


def row(predictor, frames, truth, a):
    "The figures of a predictor on a data set, and the oracle's skill where there is one."
    origins = spread_origins(a.lookback, a.horizon, most=12 if len(frames) > 4 else 60 // len(frames) + 20)
    history, real, ours = forecast(predictor, frames, origins, a.lookback, a.horizon, a.paths)
    found = score(history, real, ours)
    if truth:
        closes = history[..., 3].astype(float)
        walk = geometric_random_walk(closes[..., None], a.horizon, a.paths, 0)[..., 0]
        best = truth(origins, a.horizon, a.paths)
        found['oracle %'] = compare(real[..., 3].astype(float), best, walk, closes[:, -1])['skill %']
    if (p := predictor.postprocessing) is not None:
        found |= {'drift x': p.drift, 'spread x': p.spread}
    return found


def predictors(name, frames, a):
    "(what it is, a function that makes it) of every predictor to judge on a data set."
    yield 'as it is', lambda: load_predictor(a.model)[0]
    if not a.finetune:
        return
    from recipe import QUICKSTART, RECIPES, Recipe, finetune  # it imports this file

    named = {f'{name}{i}': f for i, f in enumerate(frames)}
    yield 'fine-tuned', lambda: correct(finetune(QUICKSTART, named, a.seed), frames, a)
    if a.reference:
        theirs = Recipe(**RECIPES['the reference'])
        yield "the reference's recipe", lambda: finetune(theirs, named, a.seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', nargs='+', default=['nano'])
    parser.add_argument('--data', nargs='*', default=[str(Path(__file__).parent.parent / 'data/us_daily')])
    parser.add_argument('--finetune', action='store_true', help='nano fine-tuned on the older part, too')
    parser.add_argument('--reference', action='store_true', help="and fine-tuned by the reference's recipe")
    parser.add_argument('--lookback', type=int, default=128)
    parser.add_argument('--horizon', type=int, default=24)
    parser.add_argument('--paths', type=int, default=100)
    parser.add_argument('--series', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', default=None, help='JSON lines, a row each; what stands there is not computed again')
    a = parser.parse_args()
    logging.disable(logging.INFO)
    out, rows, began = Path(a.out) if a.out else None, {}, time.time()
    if out and out.exists():
        rows = {tuple(r.pop('of')): r for r in map(json.loads, out.read_text().splitlines())}
    data = planted_data(a.series, a.seed)
    data |= {Path(source).stem: (list(load_klines(source).frames.values()), None) for source in a.data}
    for name, (frames, truth) in data.items():
        for kind, make in predictors(name, frames, a):
            if (name, kind) in rows:
                continue
            rows[name, kind] = row(make(), frames, truth, a)
            if out:
                with out.open('a') as f:
                    f.write(json.dumps(dict(of=[name, kind]) | rows[name, kind]) + '\n')
    print(pd.DataFrame(rows).T.round(1).to_string())
    print(f'{time.time() - began:.0f} s', file=sys.stderr)


if __name__ == '__main__':
    main()
