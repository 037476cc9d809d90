"The first run after installing, which compiles, and every later one, which finds its loops on disk: the same bytes."

import pytest
from conftest import ROOT, run
from running import contents
from test_stop import config

TRAINING = dict(epochs=1, samples_per_epoch=48, log_interval=1)


def train(folder, cache, threads):
    "The bytes of a short training."
    folder.mkdir()
    path = config(folder, **TRAINING)
    env = dict(NUMBA_CACHE_DIR=str(cache), OMP_NUM_THREADS=str(threads))
    result = run('-m', 'kronos_nb.train_sequential', '--config', path, **env)
    assert result.returncode == 0, result.stderr
    return contents(folder)


def forecast(experiment, out, cache, threads):
    "The bytes of every path of a forecast."
    known = ['--model', experiment / 'experiments/small', '--data', ROOT / 'data/us_daily', '--paths', 8]
    env = dict(NUMBA_CACHE_DIR=str(cache), OMP_NUM_THREADS=str(threads))
    result = run('-m', 'kronos_nb.forecast_files', *known, '--paths_out', out, **env)
    assert result.returncode == 0, result.stderr
    return out.read_bytes()


def entries(cache):
    "How many compiled loops are kept there."
    return len(list(cache.rglob('*.nbc')))


@pytest.mark.heavy
@pytest.mark.parametrize('threads', [1, 2])
def test_a_cold_cache_and_a_warm_one(tmp_path, threads):
    cold = tmp_path / 'cache'
    trained = train(tmp_path / 'cold', cold, threads)
    loops = entries(cold)
    assert loops > 10, 'the loops are not kept where this test looks'
    assert train(tmp_path / 'warm', cold, threads) == trained
    assert entries(cold) == loops, 'the second run has found all of them'
    other = tmp_path / 'another cache'
    first = forecast(tmp_path / 'cold', tmp_path / 'a.parquet', other, threads)
    assert entries(other) > 5
    assert forecast(tmp_path / 'cold', tmp_path / 'b.parquet', other, threads) == first
    assert forecast(tmp_path / 'cold', tmp_path / 'c.parquet', cold, threads) == first, 'partly compiled, partly found'
    assert train(tmp_path / 'part', other, threads) == trained, 'partly compiled, partly found'
