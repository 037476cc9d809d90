"On a Ray cluster of three local nodes the same work is done with the same bytes, also when a node dies in the middle."

import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT, run, small_config
from test_several_processes import assert_same_course, config, losses
from test_streaming import forecast_flags, many_symbols, visible

pytestmark = pytest.mark.heavy
cluster_utils = pytest.importorskip('ray.cluster_utils')
PARTS = 10  # of 64 symbols
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


def command_dies(process, done):
    "Kill a command that has brought something about."
    wait_until(process, done)
    process.kill()
    process.wait()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return many_symbols(tmp_path_factory.mktemp('data'), 64 * PARTS)


def flags(data, out):
    "A forecast of some seconds into a folder."
    return forecast_flags(data, out, horizon=8, paths=30)


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
    for there in (2, 4):
        command_dies(command('forecast_files', *flags(data, again), cluster=nodes), lambda n=there: parts(again) >= n)
    assert parts(again) < PARTS
    said = ended(command('forecast_files', *flags(data, again)), 2)
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


def test_training(nodes, tmp_path):
    "Two ranks on two nodes learn what two processes of torchrun learn."
    here, there = folders(tmp_path, 'ray', 'torchrun')
    said = ended(command('train_sequential', '--config', small_config(here), '--workers', 2, cluster=nodes, cwd=here))
    assert 'random walk' in said, said
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m', 'kronos_nb.train_sequential']
    result = run(*launcher, '--config', small_config(there), cwd=there, OMP_NUM_THREADS='1', DIST_BACKEND='gloo')
    assert result.returncode == 0, result.stderr
    assert_same_course(losses(here), losses(there))


def test_evaluation_loses_a_node(nodes, tmp_path):
    "What a dead node had not forecast goes to others; the figures are those of one process."
    path = small_config(tmp_path)
    ended(command('train_sequential', '--config', path, '--set', 'forecast.origins=0', cwd=tmp_path))
    evaluate = ['evaluate', '--config', path, '--origins', 400, '--paths', 100]
    shared, alone = tmp_path / 'shared', tmp_path / 'alone'
    judging = command(*evaluate, '--out', shared, cluster=nodes, cwd=tmp_path)
    wait_until(judging, lambda: len(list(shared.glob('parts/*.parquet'))) >= 2)
    nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
    said = ended(judging)
    assert 'parts for 3 workers on 3 machines' in said, said
    ended(command(*evaluate, '--out', alone, cwd=tmp_path))
    found, expected = ((folder / 'metrics.csv').read_bytes() for folder in (shared, alone))
    assert found == expected


@pytest.fixture(scope='module')
def course(tmp_path_factory):
    "What stage 1 learns in one process that does what three share, and the flags of the command."
    folder = tmp_path_factory.mktemp('course')
    stage_1 = ['train_sequential', '--skip_basemodel', '--config']
    ended(command(*stage_1, config(folder, accumulation_steps=3), cwd=folder))
    return losses(folder), stage_1


def folders(folder, *names):
    "Empty ones."
    for name in names:
        (folder / name).mkdir()
    return [folder / name for name in names]


def in_the_middle(folder):
    "Has a training come to its sixth step?"
    return lambda: list(folder.glob('experiments/small/tokenizer/checkpoints/step-*06'))


def test_training_loses_a_node(nodes, course, tmp_path):
    "Three ranks, of which one's machine dies: two go on from the newest checkpoint, to the same end."
    expected, stage_1 = course
    training = command(*stage_1, config(tmp_path), cluster=nodes, cwd=tmp_path)
    wait_until(training, in_the_middle(tmp_path))
    nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
    said = ended(training)
    assert 'a rank was lost' in said and '2 ranks on 2 machines' in said, said
    assert_same_course(losses(tmp_path), expected, ['tokenizer'])


def test_training_command_dies(nodes, course, tmp_path):
    "The same command goes on, on the same cluster, to the same end."
    expected, stage_1 = course
    stage_1 = [*stage_1, config(tmp_path)]
    command_dies(command(*stage_1, cluster=nodes, cwd=tmp_path), in_the_middle(tmp_path))
    ended(command(*stage_1, cluster=nodes, cwd=tmp_path))
    assert_same_course(losses(tmp_path), expected, ['tokenizer'])
