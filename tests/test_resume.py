"Runs that are killed, stopped or find their disk full, beside runs that are left alone."

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, free_port, run, small_config

FILES = ('tokenizer/best_model/model.safetensors', 'basemodel/best_model/model.safetensors', 'logs/metrics.csv')
DROPOUT = dict(ffn_dropout_p=0.1, attn_dropout_p=0.1, resid_dropout_p=0.1)


def config(folder, **training):
    "Dropout on, sampled coarse tokens, a checkpoint every few steps."
    shape = dict(d_model=32, n_heads=2, ff_dim=48, s1_bits=6, s2_bits=6) | DROPOUT
    return small_config(
        folder,
        training=dict(epochs=2, save_every=3, samples_per_epoch=320) | training,
        forecast=dict(origins=0, pictures=0),
        data=dict(window_stride=32),
        architecture=dict(
            tokenizer=shape | dict(n_enc_layers=2, n_dec_layers=2),
            predictor=shape | dict(n_layers=2, token_dropout_p=0.1),
        ),
    )


def start(path, processes=1, *args):
    "Start the sequential command, which can then be killed."
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
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', DIST_BACKEND='gloo')
    return subprocess.Popen(
        [sys.executable, *prefix, '-m', 'kronos_nb.train_sequential', '--config', str(path), *args],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=280)
    return process.returncode, out + err


def wait_for(process, folder, pattern):
    "Wait until a checkpoint whose path matches exists."
    while process.poll() is None and not [p for p in (Path(folder) / 'experiments/small').glob(pattern)]:
        time.sleep(0.01)


def contents(folder):
    return {f: (Path(folder) / 'experiments/small' / f).read_bytes() for f in FILES}


@pytest.fixture(scope='module', params=[1, 2], ids=['one process', 'two processes'])
def left_alone(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('alone')
    code, said = finish(start(config(folder), request.param))
    assert code == 0, said
    return request.param, contents(folder)


@pytest.mark.heavy
def test_killed_again_and_again(left_alone, tmp_path):
    "SIGKILL at random moments of both stages; what comes out in the end is the same, byte for byte."
    processes, expected = left_alone
    path, chance = config(tmp_path), random.Random(0)
    for pattern in (
        'tokenizer/checkpoints/step-*',
        'tokenizer/checkpoints/step-*[1-9][0-9]',
        'basemodel/checkpoints/step-*',
        'basemodel/checkpoints/step-*[1-9][0-9]',
    ):
        process = start(path, processes)
        wait_for(process, tmp_path, pattern)
        time.sleep(chance.random() * 0.3)
        process.kill()  # of two processes the launcher; its workers must follow
        process.communicate()
        time.sleep(0.3)
        for p in (tmp_path / 'experiments/small').glob('*/checkpoints/step-*'):  # none is half
            assert sorted(f.name for f in p.iterdir()) == ['checkpoint.json', 'model.safetensors', 'state.pt']
    code, said = finish(start(path, processes))
    assert code == 0 and 'going on from' in said, said
    for f, data in contents(tmp_path).items():
        assert data == expected[f], f


@pytest.mark.heavy
@pytest.mark.parametrize(
    'number, status',
    [(signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=['SIGTERM', 'Ctrl-C'],
)
def test_stopped_in_good_order(tmp_path, number, status):
    path = config(tmp_path, save_every=1000)
    process = start(path)
    log = tmp_path / 'experiments/small/logs/training.log'
    while process.poll() is None and not (log.exists() and 'epoch 1/2 step 5' in log.read_text()):
        time.sleep(0.01)
    process.send_signal(number)
    code, said = finish(process)
    assert code == status and 'run the same command again' in said and 'Traceback' not in said, said
    assert list((tmp_path / 'experiments/small').glob('*/checkpoints/step-*'))
    other = tmp_path / 'other'
    other.mkdir()
    assert finish(start(config(other)))[0] == 0 and finish(start(path))[0] == 0
    assert contents(tmp_path) == contents(other)


@pytest.mark.heavy
def test_damaged_and_foreign_checkpoints(tmp_path):
    path = config(tmp_path)
    assert finish(start(path, 1, '--skip-basemodel'))[0] == 0
    saved = sorted((tmp_path / 'experiments/small/tokenizer/checkpoints').glob('step-*'))
    assert len(saved) == 2
    whole = (saved[-1] / 'state.pt').read_bytes()
    (saved[-1] / 'state.pt').write_bytes(whole[:1000])
    code, said = finish(start(path, 1, '--skip-basemodel'))
    assert (
        code == 0
        and re.search(rf'{saved[-1].name}: this checkpoint is damaged.*trying the one before', said)
        and f'going on from {saved[0]}' in said
    ), said
    assert (saved[-1] / 'state.pt').stat().st_size > len(whole) - 1000, 'it was written anew'
    assert (saved[-1].parent / f'{saved[-1].name}.damaged').is_dir()
    code, said = finish(
        start(path, 1, '--skip-basemodel', '--set', 'training.batch_size=8', '--set', 'training.adam_beta2=.9')
    )
    assert (
        code == 2
        and 'training.batch_size was 16 and is 8; training.adam_beta2 was 0.95 and is 0.9' in said
        and 'Traceback' not in said
    ), said
    assert finish(start(path, 1, '--skip-basemodel', '--resume', str(saved[0])))[0] == 0
    assert finish(start(path, 1, '--skip-basemodel', '--set', 'training.batch_size=8', '--resume', 'never'))[0] == 0
    code, said = finish(start(path, 1, '--resume', str(tmp_path)))
    assert code == 2 and 'nor the folder of a checkpoint' in said
    for p in saved[0].parent.glob('step-????????'):
        (p / 'checkpoint.json').write_text('{}')
    for _ in range(2):  # not even the second time does it begin anew
        code, said = finish(start(path, 1, '--skip-basemodel'))
        assert code == 2 and 'no checkpoint is left' in said and 'Traceback' not in said, said


@pytest.mark.heavy
def test_a_disk_that_fills(tmp_path):
    "A limit on file sizes stands in for the disk: an optimiser's state does not fit, and the last checkpoint stays."
    path = config(tmp_path)
    process = start(path)
    wait_for(process, tmp_path, 'tokenizer/checkpoints/step-*')
    process.kill()
    process.communicate()
    before = sorted((tmp_path / 'experiments/small/tokenizer/checkpoints').glob('step-*'))
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); from kronos_nb.train_sequential import main;"
        f" main(['--config', {str(path)!r}])"
    )
    result = run('-c', limited)
    assert (
        result.returncode == 2
        and 'could not be written' in result.stderr
        and 'is whole' in result.stderr
        and 'Traceback' not in result.stderr
    ), result.stderr
    assert sorted((tmp_path / 'experiments/small/tokenizer/checkpoints').glob('step-*')) == before
    code, said = finish(start(path))
    assert code == 0 and 'going on from' in said, said


def test_a_dry_run_writes_nothing(tmp_path):
    result = run('-m', 'kronos_nb.train_sequential', '--config', config(tmp_path), '--dry-run')
    assert (
        result.returncode == 0 and 'memory per process' in result.stdout and 'basemodel' in result.stdout
    ), result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['small.yaml']
    assert result.stdout.count('time: about') == 2, result.stdout
    (tmp_path / 'file').touch()
    blocked = f'model_paths.base_path={tmp_path / "file"}'
    result = run('-m', 'kronos_nb.train_sequential', '--config', config(tmp_path), '--dry-run', '--set', blocked)
    assert result.returncode == 2 and 'this is a file' in result.stderr, result.stderr
