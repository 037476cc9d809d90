"""What correcting the drift and the spread of paths is worth, and in which form: forecasts of nano as it is, corrected
by what fits the tenth of the bars before, judged on the newest 30 %. A row per data set; a file of forecasts that lies
in --keep already is not made again.

    python benchmarks/correction.py --keep /tmp/forecasts --data us_daily a.csv
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from figures import PLANTED, between, forecast, spread_origins
from recipe import HORIZON, LOOKBACK, TRAIN, VAL, Recipe, frames_of, settings

from kronos_nb import load_predictor
from kronos_nb.data.columns import BAR_COLS
from kronos_nb.data.synthetic import market_store
from kronos_nb.evaluation.baselines import geometric_random_walk
from kronos_nb.evaluation.metrics import crps
from kronos_nb.forecasting.postprocessing import SPREADS, PostProcessing, adjust_closes


def frames_named(name):
    "Frames of a data set; `synthetic` are markets that nano has not seen."
    if name != 'synthetic':
        return list(frames_of(name).values())
    store = market_store(400_000, 4242, settings(Recipe()).data)
    rows = [slice(a, b) for a, b in store.spans.values()]
    return [pd.DataFrame(store.bars[r], columns=BAR_COLS).assign(timestamps=store.timestamps[r]) for r in rows][:128]


def closes(predictor, frames, origins, paths):
    "Closes of histories (N, lookback), of what came (N, horizon) and of paths (N, paths, horizon)."
    made = forecast(predictor, frames, origins, LOOKBACK, HORIZON, paths, postprocess=False)
    return [x[..., BAR_COLS.index('close')].astype(float) for x in made]


def forecasts(name, keep, paths):
    "Forecasts of the tenth before, and of the newest bars."
    file = Path(keep) / f'{Path(name).stem}.npz'
    if not file.exists():
        frames, predictor = frames_named(name), load_predictor('nano')[0]
        each = max(6, 120 // len(frames)) if name != 'synthetic' else 2
        early = closes(predictor, frames, between(TRAIN, TRAIN + VAL, LOOKBACK, HORIZON, each), paths)
        late = closes(predictor, frames, spread_origins(LOOKBACK, HORIZON, most=each), paths)
        np.savez(file, **{f'early{i}': x for i, x in enumerate(early)}, **{f'late{i}': x for i, x in enumerate(late)})
    z = np.load(file)
    return [[z[f'{when}{i}'].astype(float) for i in range(3)] for when in ('early', 'late')]


def covered(paths, truth):
    "The share of the truth in the 90 % intervals."
    low, high = np.quantile(paths, [0.05, 0.95], axis=1)
    return ((low <= truth) & (truth <= high)).mean()


def fit(paths, truth, last):
    "Drift and spread, as the package fits them to bars, of closes alone."
    bars = [np.repeat(x[..., None], len(BAR_COLS), -1) for x in (paths, truth)]
    fitted = PostProcessing.fit(*bars, last)
    return fitted.drift, fitted.spread


def row(early, late):
    "Skill and coverage on late bars, as the model has them and corrected in some ways fitted to early ones."
    history, truth, paths = early
    last = history[:, -1]
    loss = lambda p: float((crps(truth, p) / last[:, None]).mean())  # noqa: E731
    drift, by_coverage = fit(paths, truth, last)
    by_crps = min(SPREADS, key=lambda s: loss(adjust_closes(paths, last, drift, s)))

    history, truth, paths = late
    last = history[:, -1]
    walk = geometric_random_walk(history[..., None], HORIZON, paths.shape[1], 0)[..., 0]
    base = (crps(truth, walk) / last[:, None]).mean()
    ways = {
        'as it is': (1.0, 1.0),
        'drift': (drift, 1.0),
        'drift, spread by CRPS': (drift, by_crps),
        'drift, spread by coverage': (drift, by_coverage),
        'drift 0.1 everywhere': (0.1, 1.0),
    }
    found = {('fitted', 'drift'): drift, ('fitted', 'spread'): by_coverage}
    for name, (d, s) in ways.items():
        p = adjust_closes(paths, last, d, s)
        found['skill %', name] = 100 * (1 - (crps(truth, p) / last[:, None]).mean() / base)
        found['covers %', name] = 100 * covered(p, truth)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--keep', required=True, help='folder for the forecasts')
    parser.add_argument('--data', nargs='*', default=['us_daily'])
    parser.add_argument('--paths', type=int, default=64)
    a = parser.parse_args()
    logging.disable(logging.INFO)
    Path(a.keep).mkdir(parents=True, exist_ok=True)
    names = [*PLANTED, 'synthetic', *a.data]
    table = pd.DataFrame({Path(n).stem: row(*forecasts(n, a.keep, a.paths)) for n in names}).T
    table = table[sorted(table.columns, key=lambda c: ('skill %', 'covers %', 'fitted').index(c[0]))]
    table.loc['mean'] = table.mean()
    miss = (table['covers %'].iloc[:-1] - 90).abs().mean()
    print(table.round(2).to_string())
    print('mean distance of the coverage from 90 %:', miss.round(2).to_dict())


if __name__ == '__main__':
    main()
