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
from kronos_nb.errors import UserError, lock_folder
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


@pytest.mark.heavy
def test_nothing_is_found_in_random_walks(tmp_path):
    result = judged(tmp_path, False)
    t = result.skill.set_index(['baseline', 'measure'])
    assert not t.loc['random walk', 'CRPS'].low > 0 and not t.loc['last value', 'MAE'].low > 0
    assert abs(t.loc['last value', 'MAE'].skill) < 0.2
    assert 'no evidence of skill' in result.words()[0] or 'worse than' in result.words()[0], result
    assert not any('last value (CRPS' in w for w in result.words()), 'a point has no CRPS to compare with'


@pytest.mark.heavy
def test_a_planted_signal_is_found(tmp_path):
    result = judged(tmp_path, True)
    t = result.skill.set_index(['baseline', 'measure'])
    for baseline, measure in (('last value', 'MAE'), ('random walk', 'CRPS'), ('AutoETS', 'CRPS')):
        row = t.loc[baseline, measure]
        assert row.low > 0 and row.p_holm < 0.05 and row.verdict == f'better than {baseline}', result
    assert result.weights['small'].low > 0, result
    covered = result.overall().loc['small', 'calibrated covers, %']
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


@pytest.mark.heavy
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
    assert again.returncode == 0 and 'skill' in again.stdout, again.stderr
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
        z = predictor.sample_paths((whole[:, :lookback] - mean) / std, stamps, paths, Sampling(seed=seed, raw=True))
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


@pytest.mark.heavy
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
    same = result.skill[(result.skill.model == 'small') & (result.skill.baseline == 'second')]
    assert (same.skill == 0).all() and (same.verdict == 'cannot be judged beside second').all()  # by six moments
    for args, words in (
        (('--models', 'nowhere'), 'nowhere'),
        (('--horizon', '100'), 'no room'),
        (('--origins', '0'), 'at least 2'),
    ):
        result = run('-m', 'kronos_nb.evaluate', '--config', path, *args)
        assert result.returncode == 2 and words in result.stderr and 'Traceback' not in result.stderr, result.stderr


PRICES = ['open', 'high', 'low', 'close']
ODD_SYMBOLS = [
    *('all', 'ALL', 'mean', 'overall', 'both', 'none', 'nan', 'NA', 'close', 'finetuned', 'random walk', 'last value'),
    *('..', '.', 'BTC/USDT', 'a\\b', 'x' * 300, 'con', '贵州茅台', 'say "q"', "it's", '<script>', '%s', '{x}', '$a$b$'),
]


def few_forecasts(experiment, data, out, **kwargs):
    "An evaluation of other data that takes seconds."
    return evaluate(experiment[1], origins=4, paths=8, data=str(data), out=str(out), **kwargs)


def numbers(result):
    "All numbers of the tables of an evaluation."
    tables = (result.metrics.drop(columns='step'), result.skill, result.breakdown, result.overall())
    return np.concatenate([t.select_dtypes('number').to_numpy(float).ravel() for t in tables])


def test_what_stands_still_is_left_out_and_said(experiment, tmp_path):
    bars = synthetic_klines(300, 'B', seed=1)
    flat = bars.assign(volume=0, amount=0, **dict.fromkeys(PRICES, 10.0))
    (tmp_path / 'some').mkdir()
    flat.to_csv(tmp_path / 'some/FLAT.csv', index=False)
    bars.assign(amount=0).to_csv(tmp_path / 'some/NOAMOUNT.csv', index=False)
    late = bars.volume.where(np.arange(300) >= 200, 0)
    bars.assign(volume=late).to_csv(tmp_path / 'some/LATE.csv', index=False)
    result = few_forecasts(experiment, tmp_path / 'some', tmp_path / 'out')
    assert not np.isinf(numbers(result)).any()
    assert 'everything of FLAT; amount of NOAMOUNT' in result.notes[0]
    m = result.metrics
    assert 'FLAT' not in set(m.symbol) and not len(m[(m.symbol == 'NOAMOUNT') & (m['column'] == 'amount')])
    assert m[(m.symbol == 'LATE') & (m['column'] == 'amount')].mae.notna().all()
    for file in ('summary.txt', 'report.html'):
        assert 'everything of FLAT' in (tmp_path / 'out' / file).read_text()
    assert 'inf' not in (tmp_path / 'out/metrics.csv').read_text()

    (tmp_path / 'one').mkdir()
    flat.to_csv(tmp_path / 'one/FLAT.csv', index=False)
    with pytest.raises(UserError, match='nothing to judge'):
        few_forecasts(experiment, tmp_path / 'one', tmp_path / 'out2')
    assert not (tmp_path / 'out2').exists()


def test_a_baseline_without_error_gives_no_skill(experiment, tmp_path):
    bars = synthetic_klines(300, 'B', seed=1)
    bars.assign(**{c: 10 + 0.01 * np.arange(300) for c in PRICES}).drop(columns='amount').to_csv(tmp_path / 'L.csv')
    result = few_forecasts(experiment, tmp_path / 'L.csv', tmp_path / 'out')
    drift = result.skill[result.skill.baseline == 'drift']
    assert drift.skill.isna().all() and drift.verdict.str.contains('which makes no error here').all()
    assert np.nanmin(result.skill.skill) > -1e3 and not np.isinf(numbers(result)).any()


@pytest.mark.heavy
def test_a_symbol_may_be_called_like_anything(experiment, tmp_path):
    names = [f'S{i:02}' for i in range(len(ODD_SYMBOLS))]
    frames = {name: synthetic_klines(200, 'B', seed=i) for i, name in enumerate(names)}
    odd_name = dict(zip(names, sorted(ODD_SYMBOLS)))  # in the same order, so that nothing else differs
    for file, called in (('plain.csv', dict(zip(names, names))), ('odd.csv', odd_name)):
        table = pd.concat([bars.assign(symbol=called[name]) for name, bars in frames.items()])
        table.to_csv(tmp_path / file, index=False)
    plain = few_forecasts(experiment, tmp_path / 'plain.csv', tmp_path / 'plain')
    odd = few_forecasts(experiment, tmp_path / 'odd.csv', tmp_path / 'odd')
    pd.testing.assert_frame_equal(odd.overall(), plain.overall())
    pd.testing.assert_frame_equal(odd.skill, plain.skill)
    called = plain.metrics.symbol.map(odd_name).where(plain.metrics.symbol.notna(), None)
    pd.testing.assert_frame_equal(odd.metrics, plain.metrics.assign(symbol=called))
    page = (tmp_path / 'odd/report.html').read_text()
    assert '<script>' not in page and '&lt;script&gt;' in page
    saved = pd.read_csv(tmp_path / 'odd/metrics.csv', keep_default_na=False)
    assert set(saved[saved.over == 'steps'].symbol) == set(ODD_SYMBOLS)


def test_a_file_called_all(experiment, tmp_path):
    synthetic_klines(200, 'B', seed=1).to_csv(tmp_path / 'all.csv', index=False)
    result = few_forecasts(experiment, tmp_path / 'all.csv', tmp_path / 'out')
    close = result.metrics.query("model == 'small' and space == 'return' and column == 'close'").set_index('over')
    assert close.loc['steps'].symbol == 'all' and close.loc['steps'].mae == pytest.approx(close.loc['both'].mae)


@pytest.mark.heavy
def test_pictures_of_any_symbol_lie_where_they_should(experiment, tmp_path):
    bars = synthetic_klines(80, 'B', seed=1)
    pd.concat([bars.assign(symbol=s) for s in ODD_SYMBOLS]).to_csv(tmp_path / 'odd.csv', index=False)
    pictures = tmp_path / 'deep/pictures'
    model = ('--model', experiment[0] / 'experiments/small', '--data', tmp_path / 'odd.csv', '--paths', '2')
    result = run('-m', 'kronos_nb.forecast_files', *model, '--plot', pictures / 'fan.png')
    assert result.returncode == 0, result.stderr
    names = [f.name for f in pictures.iterdir()]
    assert len({name.casefold() for name in names}) == len(ODD_SYMBOLS)
    assert all(name.startswith('fan_') and len(name.encode()) < 100 for name in names)
    assert [f.name for f in pictures.parent.iterdir()] == ['pictures'], 'a symbol led out of the folder'
    assert sorted(f.name for f in tmp_path.iterdir()) == ['deep', 'odd.csv']


def test_nothing_that_is_not_ours_is_deleted(experiment, tmp_path):
    data = ROOT / 'data/us_daily/AAPL.csv'
    parts = tmp_path / 'out/parts'
    parts.mkdir(parents=True)
    (parts / 'test-0-0000000.parquet').write_text('mine')
    (parts / 'thesis.tex').write_text('years of work')
    with pytest.raises(UserError, match='not made by kronos_evaluate.*choose another --out'):
        few_forecasts(experiment, data, tmp_path / 'out')
    assert {f.name: f.read_text() for f in parts.iterdir()} == {
        'test-0-0000000.parquet': 'mine',
        'thesis.tex': 'years of work',
    }
    (tmp_path / 'file').mkdir()
    (tmp_path / 'file/parts').write_text('a file')
    with pytest.raises(UserError, match='choose another --out'):
        few_forecasts(experiment, data, tmp_path / 'file')
    few_forecasts(experiment, data, tmp_path / 'fresh')
    assert not (tmp_path / 'fresh/parts').exists()


def test_one_evaluation_at_a_time_writes_to_a_folder(experiment, tmp_path):
    lock = lock_folder(tmp_path / 'out')
    with pytest.raises(UserError, match='another run is writing here: wait for it or end it, or choose another --out'):
        few_forecasts(experiment, ROOT / 'data/us_daily/AAPL.csv', tmp_path / 'out')
    lock.release()
    few_forecasts(experiment, ROOT / 'data/us_daily/AAPL.csv', tmp_path / 'out')
    few_forecasts(experiment, ROOT / 'data/us_daily/AAPL.csv', tmp_path / 'out')


def test_chinese_names_are_drawn_where_a_font_has_them(tmp_path):
    from kronos_nb.display.plot import _fonts_for, plot_candles

    if len(_fonts_for(frozenset('贵州茅台'))) == 1:
        pytest.skip('no font here has Chinese letters')
    bars = synthetic_klines(20)
    for i, name in enumerate(('贵州', '茅台')):
        plot_candles(bars, title=name, path=tmp_path / f'{i}.png')
    assert (tmp_path / '0.png').read_bytes() != (tmp_path / '1.png').read_bytes(), 'boxes are all alike'
