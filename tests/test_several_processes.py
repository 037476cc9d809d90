"A run goes on on another number of processes."

import shutil
import time

import pandas as pd
import pytest
from conftest import small_config
from test_resume import DROPOUT, finish, start, wait_for


def config(folder, **training):
    "Dropout and sampled coarse tokens, histories of random length, a checkpoint every few steps."
    shape = dict(d_model=32, n_heads=2, ff_dim=48, s1_bits=6, s2_bits=6) | DROPOUT
    return small_config(
        folder,
        training=dict(epochs=2, batch_size=8, save_every=2, keep_checkpoints=99, samples_per_epoch=640)
        | dict(tokenizer_learning_rate=2e-4, predictor_learning_rate=2e-4)
        | training,
        forecast=dict(origins=0, pictures=0),
        data=dict(window_stride=16, shortest_lookback=20),
        architecture=dict(
            tokenizer=shape | dict(n_enc_layers=2, n_dec_layers=2),
            predictor=shape | dict(n_layers=2, token_dropout_p=0.1),
        ),
    )


def losses(folder):
    "Stage, epoch, step, and both losses of every row of the record."
    table = pd.read_csv(folder / 'experiments/small/logs/metrics.csv')
    return table[['stage', 'epoch', 'step', 'train_loss', 'val_loss']]


def assert_same_course(found, expected, stages=('tokenizer', 'basemodel')):
    "The same steps and epochs, with losses that differ by rounding alone, and by samples that fall otherwise for it."
    found, expected = (t[t.stage.isin(stages)].reset_index(drop=True) for t in (found, expected))
    assert found[['stage', 'epoch', 'step']].equals(expected[['stage', 'epoch', 'step']]), found
    for column, tolerance in (('val_loss', 1e-4), ('train_loss', 1e-3)):
        apart = (found[column] - expected[column]).abs()
        assert (found[column].isna() == expected[column].isna()).all() and apart.max() < tolerance, apart


def killed_on(path, folder, moments):
    "Start the command on so many processes, and kill it when a checkpoint of the pattern is there."
    for processes, pattern in moments:
        process = start(path, processes)
        wait_for(process, folder, pattern)
        alone = process.poll() is None  # it did not end by itself
        process.kill()
        assert alone, process.communicate()
        process.communicate()
        time.sleep(0.3)


@pytest.fixture(scope='module')
def on_four(tmp_path_factory):
    "A run that stays on four processes: a step has four micro-batches."
    folder = tmp_path_factory.mktemp('four')
    code, said = finish(start(config(folder), 4))
    assert code == 0 and 'each of 8 x 4 x 1 windows' in said, said
    return folder


@pytest.mark.heavy
def test_stage_1_goes_on_elsewhere(on_four, tmp_path):
    "Begun on four processes, killed, and going on on three, two and one: the course is the same."
    path = config(tmp_path)
    moments = (4, 'tokenizer/checkpoints/step-*04'), (3, 'tokenizer/checkpoints/step-*10')
    killed_on(path, tmp_path, [*moments, (2, 'tokenizer/checkpoints/step-*20')])
    code, said = finish(start(path, 1, '--skip-basemodel'))
    assert code == 0 and 'going on from' in said, said
    log = (tmp_path / 'experiments/small/logs/training.log').read_text()
    for where in ('3 processes', '2 processes', 'one process'):
        assert f'each of 8 x 4 windows (batch x micro-batches), as when the run began; now on {where}' in log, log
    assert_same_course(losses(tmp_path), losses(on_four), ['tokenizer'])


@pytest.mark.heavy
def test_stage_2_goes_on_elsewhere(on_four, tmp_path):
    "Stage 1 ended on four processes; stage 2 begins on three, with steps of the same size, and goes on on one and two."
    path = config(tmp_path)
    shutil.copytree(on_four / 'experiments', tmp_path / 'experiments')
    shutil.rmtree(tmp_path / 'experiments/small/basemodel')
    moments = (3, 'basemodel/checkpoints/step-*06'), (1, 'basemodel/checkpoints/step-*20')
    killed_on(path, tmp_path, moments)
    code, said = finish(start(path, 2))
    assert code == 0 and 'going on from' in said, said
    assert_same_course(losses(tmp_path), losses(on_four))


@pytest.mark.heavy
def test_what_cannot_be_kept_is_refused(tmp_path):
    "One process has one micro-batch a step: two cannot share it, but two halves will do."
    path = config(tmp_path)
    killed_on(path, tmp_path, [(1, 'tokenizer/checkpoints/step-*04')])
    code, said = finish(start(path, 2))
    assert code != 0 and '2 processes cannot share them: go on with one process, or set training.batch_size' in said
    code, said = finish(start(path, 2, '--set', 'training.batch_size=2'))
    assert code != 0 and 'set training.accumulation_steps to 2' in said, said
    code, said = finish(start(path, 2, '--set', 'training.batch_size=4', '--skip-basemodel'))
    assert code == 0 and 'going on from' in said, said
