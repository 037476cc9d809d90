"Evaluation that finds nothing where there is nothing, something where there is something, and never looks ahead."

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, free_port, run, small_config

from kronos_nb.config import load_config
from kronos_nb.data.klines import load_klines
from kronos_nb.data.synthetic import synthetic_klines
from kronos_nb.data.tables import BAR_COLS
from kronos_nb.data.windows import BarStore
from kronos_nb.evaluate import evaluate
from kronos_nb.evaluation.rolling import kronos_forecaster, rolling_origins, sees_the_future
from kronos_nb.forecasting.files import load_predictor
from kronos_nb.forecasting.sampling import Sampling
from kronos_nb.train_sequential import train_sequential

TRAINING = dict(
    epochs=4,
    samples_per_epoch=1600,
    batch_size=32,
    tokenizer_learning_rate=3e-3,
    predictor_learning_rate=3e-3,
    log_interval=50,
    teacher_forcing=True,
)


def with_signal(frame, size=.06, period=16):
    "The same bars on a wave that comes back: what is up will be down, and the phase is in the history."
    wave = np.exp(size * np.sin(2 * np.pi * np.arange(len(frame)) / period))
    return frame.assign(**{c: frame[c] * wave for c in ('open', 'high', 'low', 'close', 'amount')})


def judged(folder, planted):
    (folder / 'data').mkdir()
    for i in range(3):
        bars = synthetic_klines(1500, 'B', volatility=0.01, seed=i)
        if planted:
            bars = with_signal(bars)
            bars['high'], bars['low'] = bars[['open', 'high', 'low', 'close']].max(axis=1), bars[
                ['open', 'high', 'low', 'close']
            ].min(axis=1)
        bars.to_csv(folder / f'data/S{i}.csv', index=False)
    path = small_config(
        folder,
        data=dict(data_path=str(folder / 'data'), window_stride=1),
        training=TRAINING,
        forecast=dict(origins=0, pictures=0),
    )
    train_sequential(path)
    return evaluate(path, origins=40, paths=40)


def test_nothing_is_found_in_random_walks(tmp_path):
    result = judged(tmp_path, False)
    t = result.skill.set_index(['baseline', 'measure'])
    assert not t.loc['random walk', 'CRPS'].low > 0 and not t.loc['last value', 'MAE'].low > 0
    assert abs(t.loc['last value', 'MAE'].skill) < 0.2
    assert any('no evidence of skill' in w or 'worse than' in w for w in result.words())


def test_a_planted_signal_is_found(tmp_path):
    result = judged(tmp_path, True)
    t = result.skill.set_index(['baseline', 'measure'])
    for baseline in ('last value', 'random walk', 'AutoETS'):
        assert t.loc[baseline, 'CRPS'].low > 0 and t.loc[baseline, 'CRPS'].verdict == f'better than {baseline}', result
    assert t.loc['last value', 'MAE'].low > 0 and t.loc['last value', 'MAE'].p < 0.01
    covered = result.overall().loc['finetuned', 'calibrated covers, %']
    assert 80 < covered < 98, result


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp('evaluated')
    path = small_config(folder, forecast=dict(origins=0, pictures=0))
    train_sequential(path)
    return folder, path


def command(path, processes=1, *args):
    prefix = (
        []
        if processes == 1
        else [
            '-m',
            'torch.distributed.run',
            '--nnodes=1',
            f'--nproc_per_node={processes}',
            f'--master_port={free_port()}',
        ]
    )
    return [
        sys.executable,
        *prefix,
        '-m',
        'kronos_nb.evaluate',
        '--config',
        str(path),
        '--origins',
        '70',
        '--paths',
        '20',
        *args,
    ]


def test_processes_and_interruptions_change_nothing(experiment):
    folder, path = experiment
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', DIST_BACKEND='gloo')
    results = folder / 'experiments/small/evaluation'

    def go(n):
        return subprocess.run(command(path, n), env=env, capture_output=True, text=True, timeout=280)

    assert go(1).returncode == 0
    one = {f: (results / f).read_bytes() for f in ('metrics.csv', 'skill.csv', 'forecasts.parquet')}
    shutil.rmtree(results)
    two = go(2)
    assert two.returncode == 0, two.stderr
    for f, data in one.items():
        assert (results / f).read_bytes() == data, f
    shutil.rmtree(results)
    process = subprocess.Popen(command(path), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and len(list(results.glob('parts/test-*.parquet'))) < 3:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = {p: p.stat().st_mtime_ns for p in results.glob('parts/*.parquet')}
    assert there, 'it was over before it could be killed'
    again = go(1)
    assert again.returncode == 0 and 'CRPS skill' in again.stdout, again.stderr
    for f, data in one.items():
        assert (results / f).read_bytes() == data, f


def test_models_do_not_look_ahead(experiment):
    folder, path = experiment
    cfg = load_config(path)
    store = BarStore.from_klines(load_klines(cfg.data.data_path), cfg.data)
    predictor, lookback, horizon = load_predictor(folder / 'experiments/small')
    honest = kronos_forecaster(predictor, lookback)

    # normalised by the whole window, as the public reference does in training
    def leaking(store, origins, horizon, paths, seed):
        whole = store.bars[origins[:, None] + np.arange(-lookback, horizon)]
        mean, std = whole.mean(1, keepdims=True), whole.std(1, keepdims=True) + 1e-5
        stamps = store.stamps[origins[:, None] + np.arange(-lookback, horizon)]
        z = predictor.sample_paths((whole[:, :lookback] - mean) / std, stamps, paths, Sampling(seed=seed), raw=True)
        return z * std[:, None] + mean[:, None]

    for origin in rolling_origins(store, 'test', 2, lookback, horizon):
        assert not sees_the_future(honest, store, int(origin), horizon)
        assert sees_the_future(leaking, store, int(origin), horizon)


def test_calibrated_forecasts(experiment, tmp_path):
    folder, path = experiment
    copy = tmp_path / 'copy'
    shutil.copytree(folder / 'experiments/small', copy)
    (copy / 'basemodel/best_model/calibration.json').unlink(missing_ok=True)
    ask = (
        '-m',
        'kronos_nb.forecast_files',
        '--model',
        copy,
        '--data',
        ROOT / 'data/us_daily/IBM.csv',
        '--paths',
        '20',
        '--out',
        tmp_path / 'a.csv',
    )
    refused = run(*ask, '--calibrated')
    assert refused.returncode == 2 and 'run kronos_evaluate' in refused.stderr and 'Traceback' not in refused.stderr
    evaluate(path, origins=20, paths=20)
    shutil.copy(folder / 'experiments/small/basemodel/best_model/calibration.json', copy / 'basemodel/best_model')
    assert run(*ask).returncode == 0
    raw = pd.read_csv(tmp_path / 'a.csv')
    assert run(*ask, '--calibrated').returncode == 0
    calibrated = pd.read_csv(tmp_path / 'a.csv')
    assert (
        (raw[BAR_COLS] == calibrated[BAR_COLS]).all().all()
        and (raw.close_q95 != calibrated.close_q95).any()
        and (calibrated.close_q05 <= calibrated.close_q95).all()
    )


def test_comparing_experiments_and_other_data(experiment, tmp_path):
    folder, path = experiment
    shutil.copytree(folder / 'experiments/small', tmp_path / 'second')
    result = evaluate(
        path,
        f'finetuned,{tmp_path/"second"}',
        origins=6,
        paths=10,
        data=str(ROOT / 'data/us_daily/AAPL.csv'),
        out=str(tmp_path / 'out'),
    )
    same = result.skill[(result.skill.model == 'finetuned') & (result.skill.baseline == 'second')]
    assert (same.skill == 0).all() and (same.verdict == 'no evidence of skill over second').all()
    for args, words in (
        (('--models', 'nowhere'), 'nowhere'),
        (('--horizon', '100'), 'no room'),
        (('--origins', '0'), 'at least 2'),
    ):
        result = run('-m', 'kronos_nb.evaluate', '--config', path, *args)
        assert result.returncode == 2 and words in result.stderr and 'Traceback' not in result.stderr, result.stderr
