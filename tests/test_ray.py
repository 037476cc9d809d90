"On a Ray cluster of three local nodes the same work is done with the same bytes, also when a node dies in the middle."

import os
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import ROOT, run, small_config
from test_several_processes import assert_same_course, config, losses
from test_streaming import visible

from kronos_nb.data.synthetic import synthetic_klines

pytestmark = pytest.mark.heavy
cluster_utils = pytest.importorskip('ray.cluster_utils')
SYMBOLS, PARTS = 640, 10  # 64 symbols a part
NODE = dict(num_cpus=1, object_store_memory=100 * 2**20)


@pytest.fixture
def nodes():
    "Three nodes of one CPU each; the first holds the cluster together."
    quiet = dict(RAY_USAGE_STATS_ENABLED='0', PYTHONPATH=str(ROOT), DIST_BACKEND='gloo')
    before = {k: os.environ.get(k) for k in quiet}
    os.environ.update(quiet)  # what nodes start has it
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE | dict(include_dashboard=False))
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
        for k, v in before.items():
            os.environ.update({k: v}) if v is not None else os.environ.pop(k)


def command(module, *flags, cluster=None, cwd=None):
    "A command that runs, on a cluster or alone."
    ray = ['--engine', 'ray', '--address', cluster.address] if cluster else []
    argv = [sys.executable, '-m', f'kronos_nb.{module}', *map(str, flags), *ray]
    alone = dict(OMP_NUM_THREADS='1')
    return subprocess.Popen(argv, cwd=cwd, env=os.environ | alone, stdout=-1, stderr=subprocess.STDOUT, text=True)


def ended(process, status=0, seconds=400):
    "What a command said, which ended as expected."
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == status, said
    assert 'Traceback' not in said, said
    return said


def wait_until(process, done, seconds=300):
    "Wait for something that a running command brings about."
    last = time.time() + seconds
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.time() < last
        time.sleep(0.05)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "A Parquet file of many symbols, one of which has a single bar."
    frames = [synthetic_klines(60, 'B', volatility=0.01, seed=i).assign(symbol=f'S{i:03}') for i in range(SYMBOLS - 1)]
    file = tmp_path_factory.mktemp('data') / 'all.parquet'
    pd.concat([*frames, frames[0].head(1).assign(symbol='ONE')]).to_parquet(file)
    return file


def flags(data, out):
    "A forecast of some seconds into a folder."
    ask = dict(model='nano', data=data, out=f'{out}/', horizon=8, paths=30, lookback=48, device='cpu')
    return [x for k, v in ask.items() for x in (f'--{k}', v)]


@pytest.fixture(scope='module')
def expected(data, tmp_path_factory):
    "What one process leaves."
    folder = tmp_path_factory.mktemp('alone')
    ended(command('forecast_files', *flags(data, folder / 'out')), 2)  # one symbol is not forecast
    made = visible(folder / 'out')
    assert len([f for f in made if f.startswith('forecasts/')]) == PARTS
    return made


def parts(folder):
    "How many there are."
    return len(list(folder.glob('forecasts/part-*')))


def test_a_node_and_then_the_command_die(nodes, data, expected, tmp_path):
    "A dead node's parts go to others; what a dead command left is gone on with, on a cluster or without."
    out = tmp_path / 'out'
    first = command('forecast_files', *flags(data, out), cluster=nodes)
    wait_until(first, lambda: parts(out) >= 2)
    nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
    said = ended(first, 2)
    assert visible(out) == expected, said
    assert '3 workers on 3 machines' in said and 'ONE' in said

    again = tmp_path / 'again'
    second = command('forecast_files', *flags(data, again), cluster=nodes)
    wait_until(second, lambda: parts(again) >= 2)
    second.kill()
    second.wait()
    assert parts(again) < PARTS
    said = ended(command('forecast_files', *flags(data, again), cluster=nodes), 2)
    assert visible(again) == expected, said


def test_mistakes(nodes, data, tmp_path):
    "Of the command's flags, of the cluster, and of a worker."
    ask = flags(data, tmp_path / 'out')
    assert 'gpus' in ended(command('forecast_files', *ask, '--gpus', 1, cluster=nodes), 2)
    result = run('-m', 'kronos_nb.forecast_files', *ask, '--engine', 'ray', '--address', 'localhost:1')
    assert result.returncode == 2 and 'no Ray cluster answers there' in result.stderr, result.stderr
    path = small_config(tmp_path, data=dict(data_path='nowhere'))
    said = ended(command('train_sequential', '--config', path, '--workers', 2, cluster=nodes), 2)
    assert 'nowhere' in said, said


def test_training_and_evaluation(nodes, tmp_path):
    "Two ranks on two nodes learn what two processes of torchrun learn, and evaluate what one evaluates."
    for name in ('ray', 'torchrun'):
        (tmp_path / name).mkdir()
    here, there = tmp_path / 'ray', tmp_path / 'torchrun'
    said = ended(command('train_sequential', '--config', small_config(here), '--workers', 2, cluster=nodes, cwd=here))
    assert 'random walk' in said, said
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m', 'kronos_nb.train_sequential']
    result = run(*launcher, '--config', small_config(there), cwd=there, OMP_NUM_THREADS='1', DIST_BACKEND='gloo')
    assert result.returncode == 0, result.stderr
    assert_same_course(losses(here), losses(there))

    evaluate = ['--config', here / 'small.yaml', '--origins', 10, '--paths', 8]
    ended(command('evaluate', *evaluate, '--out', 'shared', '--workers', 2, cluster=nodes, cwd=here))
    ended(command('evaluate', *evaluate, '--out', 'alone', cwd=here))
    found, alone = (pd.read_csv(next((here / name).glob('metrics.csv'))) for name in ('shared', 'alone'))
    pd.testing.assert_frame_equal(found, alone, rtol=1e-6)


def test_training_loses_a_node(nodes, tmp_path):
    "Three ranks, of which one's machine dies: two go on from the newest checkpoint, to the same end."
    alone, lost = tmp_path / 'alone', tmp_path / 'lost'
    for folder in (alone, lost):
        folder.mkdir()
    stage_1 = ['train_sequential', '--skip_basemodel', '--config']
    ended(command(*stage_1, config(alone), cluster=nodes, cwd=alone))
    training = command(*stage_1, config(lost), cluster=nodes, cwd=lost)
    wait_until(training, lambda: list(lost.glob('experiments/small/tokenizer/checkpoints/step-*06')))
    nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
    said = ended(training)
    assert 'a rank was lost' in said and '2 ranks on 2 machines' in said, said
    assert_same_course(losses(lost), losses(alone), ['tokenizer'])
