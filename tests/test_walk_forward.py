"Walk-forward: a kill in any fold changes no byte, several processes neither, and no fold sees what is to come."

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, free_port, run, small_config

from kronos_nb.config import load_config
from kronos_nb.evaluate import evaluate
from kronos_nb.evaluation.frames import cross_validation_frame
from kronos_nb.forecasting.files import load_predictor

FOLDS = 3
BEST = ('tokenizer/best_model/model.safetensors', 'basemodel/best_model/model.safetensors')
FITTED = tuple(f'basemodel/best_model/{name}.json' for name in ('forecast', 'calibration', 'blend'))
REPORTS = ('report.html', 'summary.txt', 'metrics.csv', 'skill.csv', 'breakdown.csv', 'folds.csv', 'staleness.csv')


def config(folder, data=None, **sections):
    "Both stages from random weights, a checkpoint every few steps, three symbols of 900 bars."
    data = data or folder / 'data'
    if not data.exists():
        data.mkdir()
        for symbol in ('AAPL', 'IBM', 'MSFT'):
            pd.read_csv(ROOT / f'data/us_daily/{symbol}.csv').tail(900).to_csv(data / f'{symbol}.csv', index=False)
    settings = dict(
        data=dict(data_path=str(data), window_stride=2),
        training=dict(save_every=3, samples_per_epoch=160),
        forecast=dict(origins=40, pictures=0, sample_count=12),
    )
    return small_config(folder, **{k: v | sections.get(k, {}) for k, v in settings.items()})


def command(path, *args, processes=1):
    several = ['-m', 'torch.distributed.run', '--nnodes=1', f'--nproc_per_node={processes}',
               f'--master_port={free_port()}'] * (processes > 1)
    asked = ['--walk-forward', str(FOLDS), '--origins', '30', '--paths', '12', *map(str, args)]
    return [sys.executable, *several, '-m', 'kronos_nb.evaluate', '--config', str(path), *asked]


def start(path, *args, processes=1):
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    return subprocess.Popen(command(path, *args, processes=processes), env=env, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def finish(process):
    said, _ = process.communicate(timeout=280)
    return process.returncode, said


def contents(folder):
    "Every file that must be the same whatever happened on the way."
    where = Path(folder) / 'experiments/small/walk_forward'
    files = [where / f for f in REPORTS]
    for fold in sorted(where.glob('fold-*')):
        files += [fold / f for f in (*BEST, *FITTED, 'config.yaml', 'logs/metrics.csv')]
        files += sorted((fold / 'evaluation').glob('*.*'))
    there = {str(f.relative_to(where)): f.read_bytes() for f in files}
    return {k: v.replace(str(folder).encode(), b'') for k, v in there.items()}


@pytest.fixture(scope='module')
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp('alone')
    code, said = finish(start(config(folder)))
    assert code == 0, said
    return folder, said, contents(folder)


def killed_at(folder, pattern, chance):
    "Start, kill a moment after a file of a fold has appeared, and say what was there by then."
    process, where = start(config(folder)), Path(folder) / 'experiments/small/walk_forward'
    while process.poll() is None and not list(where.glob(pattern)):
        time.sleep(0.01)
    time.sleep(chance.random() * 0.3)
    assert process.poll() is None, f'it was over before it could be killed at {pattern}'
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return sorted(str(p.relative_to(where)) for p in where.glob('fold-*/evaluation/fold.json'))


@pytest.mark.heavy
def test_a_kill_in_any_fold_changes_no_byte(left_alone, tmp_path):
    "In training of both stages, while a fold is forecast, and between folds."
    _, _, expected = left_alone
    chance, done = random.Random(0), []
    for pattern in (
        'fold-1/tokenizer/checkpoints/step-*',
        'fold-1/basemodel/checkpoints/step-*',
        'fold-1/evaluation/parts/test-*.parquet',
        'fold-2/basemodel/checkpoints/step-*6',
        'fold-2/evaluation/parts/val-*.parquet',
        'fold-3/basemodel/best_model/forecast.json',
        'fold-3/evaluation/scored-*.parquet',
    ):
        done.append(len(killed_at(tmp_path, pattern, chance)))
    assert done[0] == 0 and done[-1] >= 2, done
    code, said = finish(start(config(tmp_path)))
    assert code == 0, said
    found = contents(tmp_path)
    assert found.keys() == expected.keys()
    different = [f for f, data in expected.items() if found[f] != data]
    assert not different, different
    assert not list((tmp_path / 'experiments').rglob('*.tmp'))


@pytest.mark.heavy
def test_processes_share_the_folds(left_alone, tmp_path):
    _, _, expected = left_alone
    code, said = finish(start(config(tmp_path), processes=2))
    assert code == 0, said
    found = contents(tmp_path)
    different = [f for f, data in expected.items() if found[f] != data]
    assert not different, different


@pytest.mark.heavy
@pytest.mark.parametrize('warm', [False, True], ids=['cold', 'warm'])
def test_folds_see_nothing_of_what_is_to_come(tmp_path, warm):
    """Bars from the second fold's first one on are shuffled and raised by a tenth. What the first fold is and says, and
    all that the second had learnt by then, is the same to the byte; what the second says is not."""
    here, there = tmp_path / 'here', tmp_path / 'there'
    flags = dict(walk_forward=2, origins=20, paths=12, warm_start=warm)
    for folder in (here, there):
        folder.mkdir()
    evaluate(config(here), **flags)
    plan = json.loads((here / 'experiments/small/walk_forward/plan.json').read_text())
    first = pd.Timestamp(plan['folds'][1]['test'][0])
    (there / 'data').mkdir()
    for file in (here / 'data').iterdir():
        bars = pd.read_csv(file)
        late, columns = pd.to_datetime(bars.timestamps) >= first, bars.columns[1:]
        bars = bars.astype(dict.fromkeys(columns, float))
        bars.loc[late, columns] = bars.loc[late, columns].sample(frac=1, random_state=0).to_numpy() * 1.1
        bars.to_csv(there / 'data' / file.name, index=False)
    evaluate(config(there), **flags)
    known = [f'fold-1/evaluation/{f}' for f in ('scored-0.parquet', 'fold.json', 'forecasts.parquet')]
    known += [f'fold-{k}/{f}' for k in (1, 2) for f in (*BEST, *FITTED, 'logs/metrics.csv')]
    where = [folder / 'experiments/small/walk_forward' for folder in (here, there)]
    for file in known:
        assert len({(w / file).read_bytes() for w in where}) == 1, file
    assert len({(w / 'fold-2/evaluation/scored-0.parquet').read_bytes() for w in where}) == 2


@pytest.mark.heavy
def test_the_report_follows_from_the_forecasts(left_alone):
    "Pooled CRPS and skill, computed again from the paths of all folds."
    folder, said, _ = left_alone
    where = folder / 'experiments/small/walk_forward'
    stored = pd.concat([pd.read_parquet(f) for f in sorted(where.glob('fold-*/evaluation/forecasts.parquet'))])
    stored = stored[stored['column'] == 'close']
    mean = {}
    for name in ('small', 'random walk'):
        rows = stored[stored.model == name]
        x, y = np.stack(rows.paths).astype(float), rows.truth.to_numpy(float)
        crps = np.abs(x - y[:, None]).mean(1) - np.abs(x[:, :, None] - x[:, None]).mean((1, 2)) / 2
        mean[name] = (crps / rows['last']).mean()
    skill = pd.read_csv(where / 'skill.csv').set_index(['baseline', 'measure']).loc[('random walk', 'CRPS')]
    assert skill.skill == pytest.approx(1 - mean['small'] / mean['random walk'], abs=1e-4)
    assert skill.error == pytest.approx(100 * mean['small'], rel=1e-4)
    folds = pd.read_csv(where / 'folds.csv')
    assert folds.fold.tolist() == [1, 2, 3] and folds.train_to.is_monotonic_increasing
    assert (folds.test_from > folds.val_to).all() and (folds.val_from > folds.train_to).all()
    n = [len(json.loads(f.read_text())['origins']) for f in sorted(where.glob('fold-*/evaluation/fold.json'))]
    pooled = folds.error.mul(n).sum() / sum(n)
    assert pooled == pytest.approx(100 * mean['small'], rel=1e-4), 'folds and pool are of the same numbers'
    assert 'fold by fold its CRPS skill' in said and 'earns' in said


@pytest.mark.heavy
def test_a_fold_is_an_experiment(left_alone, tmp_path):
    "Its model forecasts, blended as it was found to deserve; its forecasts are a table; its training is resumed."
    folder, _, _ = left_alone
    fold = folder / 'experiments/small/walk_forward/fold-2'
    assert load_predictor(fold)[0].blending is not None
    assert set(cross_validation_frame(fold / 'evaluation').unique_id) == {'AAPL', 'IBM', 'MSFT'}
    asked = ('--data', folder / 'data/IBM.csv', '--paths', '20', '--out', tmp_path / 'a.csv', '--blend', 'auto')
    result = run('-m', 'kronos_nb.forecast_files', '--model', fold, *asked)
    assert result.returncode == 0 and 'blended: ' in result.stdout, result.stderr
    before = (fold / BEST[1]).read_bytes()
    result = run('-m', 'kronos_nb.train_sequential', '--config', fold / 'config.yaml')
    assert result.returncode == 0 and (fold / BEST[1]).read_bytes() == before, result.stderr
    assert load_config(fold / 'config.yaml').data.periods is not None


@pytest.mark.heavy
def test_other_folds_are_not_mixed_in(left_alone):
    folder, _, expected = left_alone
    path = folder / 'small.yaml'
    for args, words in (
        (('--embargo', '0'), 'other: folds'),
        (('--set', 'training.seed=1'), 'other: training.seed'),
        (('--warm-start',), 'other: warm_start'),
    ):
        result = subprocess.run(command(path, *args), env=os.environ | dict(PYTHONPATH=str(ROOT)), text=True,
                                capture_output=True, timeout=280)
        assert result.returncode == 2 and words in result.stderr and 'Traceback' not in result.stderr, result.stderr
    assert contents(folder) == expected
