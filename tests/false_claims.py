"""Data sets in which there is nothing to find, and some with a signal, made of arrays: how often is a verdict wrong?

`python tests/false_claims.py` prints the tables of the page on false claims."""

import sys

import numpy as np
import pandas as pd

from kronos_nb.evaluation.metrics import crps
from kronos_nb.evaluation.skill import skill_table, strongest

SYMBOLS, BARS, LOOKBACK, HORIZON, EVERY, PATHS = 4, 480, 90, 8, 4, 40  # targets overlap: a new one every fourth bar
WORLDS = ('calm', 'volatility in clusters', 'symbols that move together', 'both')


def log_prices(world, rng):
    "(SYMBOLS, LOOKBACK + BARS) log closes without a drift: nothing in them can be forecast but how much they move."
    n = LOOKBACK + BARS
    common = 0.8 if world in ('symbols that move together', 'both') else 0.0
    shocks = np.sqrt(common) * rng.standard_normal((1, n)) + np.sqrt(1 - common) * rng.standard_normal((SYMBOLS, n))
    sigma = np.full(n, 0.01)
    if world in ('volatility in clusters', 'both'):
        calm = np.zeros(n)
        for t in range(1, n):
            calm[t] = 0.97 * calm[t - 1] + 0.15 * rng.standard_normal()
        sigma = 0.01 * np.exp(calm)
    return (sigma * shocks).cumsum(1)


def fans(logs, at, rng, lookback=LOOKBACK, wider=1.0, knows=0.0):
    "(N, PATHS, HORIZON) closes of a walk with the volatility of the history; it may know a share of what comes."
    history = np.stack([logs[:, t - lookback : t] for t in at], 1).reshape(-1, lookback)
    future = np.stack([logs[:, t : t + HORIZON] for t in at], 1).reshape(-1, HORIZON)
    sigma = wider * np.diff(history, axis=1).std(1)
    noise = rng.standard_normal((len(history), PATHS, HORIZON)).cumsum(2) * np.sqrt(1 - knows)
    known = knows * (future - history[:, -1:])
    return np.exp(known[:, None] + sigma[:, None, None] * noise)  # relative to the last close


def verdicts(world, seed, wider=1.0, knows=0.0):
    "The leading verdicts, by CRPS and by MAE, on one data set: a model that is a walk beside walks and points."
    rng = np.random.default_rng((seed, WORLDS.index(world)))
    logs = log_prices(world, rng)
    at = np.arange(LOOKBACK, LOOKBACK + BARS - HORIZON + 1, EVERY)
    last = np.stack([logs[:, t - 1] for t in at], 1).reshape(-1, 1)
    truth = np.exp(np.stack([logs[:, t : t + HORIZON] for t in at], 1).reshape(-1, HORIZON) - last)
    slope = (last[:, 0] - np.stack([logs[:, t - LOOKBACK] for t in at], 1).ravel()) / (LOOKBACK - 1)
    season = np.stack([logs[:, t - 5 + np.arange(HORIZON) % 5] for t in at], 1).reshape(-1, HORIZON)
    forecasts = {
        'model': fans(logs, at, rng, wider=wider, knows=knows),
        'random walk': fans(logs, at, rng),
        'historical volatility': fans(logs, at, rng, lookback=21),
        'last value': np.ones((len(truth), 1, HORIZON)),
        'drift': np.exp(slope[:, None] * np.arange(1, HORIZON + 1))[:, None],
        'seasonal naive': np.exp(season - last)[:, None],
    }
    errors = {}
    for name, paths in forecasts.items():
        fan = crps(truth, paths).mean(1) if paths.shape[1] > 1 else np.full(len(truth), np.nan)
        ae = np.abs(np.median(paths, 1) - truth).mean(1)
        of_moment = dict(crps=fan.reshape(SYMBOLS, -1).mean(0), ae=ae.reshape(SYMBOLS, -1).mean(0))
        errors[name] = pd.DataFrame(of_moment, index=at)
    table = skill_table(errors, ['model'], overlap=-(-HORIZON // EVERY), targets=BARS // HORIZON)
    return {m: strongest(table, 'model', m, ['model']).verdict for m in ('CRPS', 'MAE')}


def share(world, runs, **how):
    "How many of the data sets a claim `better than` is made on: (by CRPS, by MAE)."
    found = [verdicts(world, seed, **how) for seed in range(runs)]
    return tuple(sum(v[m].startswith('better than') for v in found) for m in ('CRPS', 'MAE'))


def binomial_interval(hits, runs):
    "Clopper and Pearson's 95 % interval of a share."
    from scipy.stats import binomtest

    found = binomtest(hits, runs).proportion_ci(0.95)
    return found.low, found.high


NULLS = [(world, wider) for world in WORLDS for wider in (1.0, 1.1)]  # equal in law, and a little too wide
STRENGTHS = (0.0, 0.02, 0.04, 0.06, 0.1, 0.15)  # of what comes, the share that the model knows


def false_claims(runs=25):
    "A row per world and width: how often `better than` was claimed in `runs` data sets."
    rows = []
    for world, wider in NULLS:
        by_crps, by_mae = share(world, runs, wider=wider)
        rows.append(dict(world=world, wider=wider, runs=runs, CRPS=by_crps, MAE=by_mae))
    return pd.DataFrame(rows)


def power(runs=25):
    "A row per strength of a planted signal: how often it is found, in the least tidy of the worlds."
    rows = []
    for knows in STRENGTHS:
        by_crps, by_mae = share('both', runs, knows=knows)
        rows.append(dict(knows=knows, runs=runs, CRPS=by_crps, MAE=by_mae))
    return pd.DataFrame(rows)


def print_tables(runs):
    "Both tables, and the share of all false claims with its interval."
    table = false_claims(runs)
    print(table.to_string(index=False))
    for measure in ('CRPS', 'MAE'):
        hits, n = int(table[measure].sum()), int(table.runs.sum())
        low, high = binomial_interval(hits, n)
        print(f'better than, by {measure}: {hits} of {n}, {hits / n:.1%} (95 % interval {low:.1%} to {high:.1%})')
    print(power(runs).to_string(index=False))


if __name__ == '__main__':
    print_tables(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
