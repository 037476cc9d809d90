"""Do two checkouts give the same bytes? `python tests/same_bytes.py OLD NEW` trains the quickstart in both, kills a run
and resumes it, forecasts files in several ways, and compares digests: some minutes, more where loops must be compiled.

Both run on this machine, with this Python, each with compiled loops of its own, kept beside its modules; `--epochs` and
`--windows` make it shorter or longer. `--expect-rounding` lists what differs by its largest relative difference instead
of failing: for changes that are meant to move numbers in their last digits."""
import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd


def run(checkout, folder, *args, **env):
    "Run a module of a checkout, as a user would; its output if it succeeds."
    ours = dict(PYTHONPATH=str(checkout), OMP_WAIT_POLICY='PASSIVE')
    env = os.environ | ours | env
    result = subprocess.run(
        [sys.executable, '-m', *map(str, args)], cwd=folder, env=env, capture_output=True, text=True
    )
    if result.returncode:
        sys.exit(f'{checkout}: {" ".join(map(str, args))}\n{result.stderr[-3000:]}')
    return result.stdout


def kill_midway(checkout, folder, experiment, *args):
    "Start a training run and kill it once it has a checkpoint of the second stage."
    env = os.environ | dict(PYTHONPATH=str(checkout), OMP_WAIT_POLICY='PASSIVE')
    process = subprocess.Popen(
        [sys.executable, '-m', *map(str, args)],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(experiment.glob('basemodel/checkpoints/step-*')):
        time.sleep(0.02)
    process.kill()
    process.wait()


def make(checkout, folder, epochs, windows):
    "Everything that is compared, from one checkout; files by name."
    config = checkout / 'configs/quickstart_from_scratch.yaml'
    keys = [f'training.{stage}_epochs={epochs}' for stage in ('tokenizer', 'basemodel')]
    keys += [f'training.samples_per_epoch={windows}', 'training.save_every=2']
    keys += ['forecast.origins=12', 'forecast.sample_count=12', 'forecast.pictures=0']
    flags = [f for k in keys for f in ('--set', k)]
    train = ['kronos_nb.train_sequential', '--config', config, *flags]
    where = {name: folder / name for name in ('whole', 'resumed')}
    run(checkout, folder, *train, '--set', f'model_paths.base_save_path={where["whole"]}')
    again = [*train, '--set', f'model_paths.base_save_path={where["resumed"]}']
    kill_midway(checkout, folder, where['resumed'], *again)
    run(checkout, folder, *again)
    files = {}
    for name, root in where.items():
        for f in ('tokenizer/best_model/model.safetensors', 'basemodel/best_model/model.safetensors', 'scores.csv'):
            files[f'{name}/{f}'] = root / f
        files[f'{name}/metrics.csv'] = root / 'logs/metrics.csv'
    ways = {
        'one path': ['--paths', 1],
        'many paths': ['--paths', 12, '--top-p', 0.9],
        'top-k': ['--paths', 3, '--top-k', 5, '--s2', 'reference'],
        'recompute': ['--paths', 2, '--window', 'recompute', '--max-context', 80, '--lookback', 70],
        'roll': ['--paths', 2, '--window', 'roll', '--max-context', 80, '--lookback', 70],
    }
    for name, flags in ways.items():
        table, paths = folder / f'{name}.csv', folder / f'{name}-paths.csv'
        data = ['--data', checkout / 'data/us_daily', '--at', '2012-06-01', '--seed', 3, '--horizon', 20]
        run(checkout, folder, 'kronos_nb.forecast_files', '--model', where['whole'], *data, *flags, '--out', table,
            '--paths-out', paths)  # fmt: skip
        files |= {f'forecast, {name}': table, f'forecast, {name}, paths': paths}
    return files


def difference(a, b):
    "The largest relative difference between two tables or models."
    if a.suffix == '.csv':
        x, y = (pd.read_csv(f).select_dtypes('number').to_numpy() for f in (a, b))
    else:
        from safetensors.numpy import load_file

        x, y = (np.concatenate([t.ravel() for _, t in sorted(load_file(f).items())]) for f in (a, b))
    if x.shape != y.shape:
        return np.inf
    return float(np.nanmax(np.abs(x - y) / np.maximum(np.abs(x) + np.abs(y), 1e-6)))


def main():
    "Compare, print a table, and exit with 1 if anything differs that should not."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('old', type=Path)
    parser.add_argument('new', type=Path)
    parser.add_argument('--epochs', type=int, default=1)
    parser.add_argument('--windows', type=int, default=320)
    parser.add_argument('--expect-rounding', action='store_true')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as d:
        made = []
        for name, checkout in (('old', args.old.resolve()), ('new', args.new.resolve())):
            folder = Path(d) / name
            folder.mkdir()
            made.append(make(checkout, folder, args.epochs, args.windows))
        old, new = made
        failed = False
        for name in old:
            a, b = (hashlib.sha256(f[name].read_bytes()).hexdigest() for f in made)
            failed |= a != b
            told = 'the same' if a == b else f'differ, by {difference(old[name], new[name]):.1e} at most'
            print(f'{name:60} {a[:12]} {b[:12]} {told}')
    sys.exit(failed and not args.expect_rounding)


if __name__ == '__main__':
    main()
