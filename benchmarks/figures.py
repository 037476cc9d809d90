"""What forecasts are worth where the truth is known, and on real bars: a table for every data set.

    python benchmarks/figures.py --model nano                       # zero-shot
    python benchmarks/figures.py --model nano --finetune configs/quickstart.yaml

Skill is 1 - CRPS / CRPS of the geometric random walk with the history's volatility.
"""

import argparse
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
    out = predictor.sample_paths(bars, stamps, paths, Sampling(seed=seed), **choices)
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


def planted_rows(predictor, lookback, horizon, paths, series, seed, **choices):
    "A row for each process: ours, and the oracle's skill."
    rows = {}
    for kind in PLANTED:
        made = [planted(kind, 1000 * seed + i) for i in range(series)]
        origins = spread_origins(lookback, horizon)
        history, truth, ours = forecast(predictor, [f for f, *_ in made], origins, lookback, horizon, paths, **choices)
        rng = np.random.default_rng(seed)
        best = [oracle(kind, f, r, s, o, horizon, paths, rng) for f, r, s in made for o in origins(len(f))]
        rows[kind] = score(history, truth, ours)
        closes = history[..., 3].astype(float)
        walk = geometric_random_walk(closes[..., None], horizon, paths, 0)[..., 0]
        rows[kind]['oracle %'] = compare(truth[..., 3].astype(float), np.stack(best), walk, closes[:, -1])['skill %']
    return rows


def real_rows(predictor, sources, lookback, horizon, paths, **choices):
    "A row for each file or folder of K-lines."
    rows = {}
    for source in sources:
        frames = list(load_klines(source).frames.values())
        origins = spread_origins(lookback, horizon, most=60 // len(frames) + 20)
        history, truth, ours = forecast(predictor, frames, origins, lookback, horizon, paths, **choices)
        rows[Path(source).stem] = score(history, truth, ours)
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--model', nargs='+', required=True)
    parser.add_argument('--data', nargs='*', default=[str(Path(__file__).parent.parent / 'data/us_daily')])
    parser.add_argument('--lookback', type=int, default=128)
    parser.add_argument('--horizon', type=int, default=24)
    parser.add_argument('--paths', type=int, default=100)
    parser.add_argument('--series', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    a = parser.parse_args()
    logging.disable(logging.INFO)
    predictor = load_predictor(a.model)[0]
    began = time.time()
    rows = planted_rows(predictor, a.lookback, a.horizon, a.paths, a.series, a.seed)
    rows |= real_rows(predictor, a.data, a.lookback, a.horizon, a.paths)
    print(pd.DataFrame(rows).T.round(1).to_string())
    print(f'{time.time() - began:.0f} s', file=sys.stderr)


if __name__ == '__main__':
    main()
