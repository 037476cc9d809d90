"What the table in nbs/how_to/resume.ipynb promises of runs that differ in what should not matter."

import pandas as pd
import pytest
from conftest import run
from running import Command, contents, fork_server
from test_stop import config

ONE = dict(epochs=1, samples_per_epoch=48, log_interval=3)


@pytest.fixture(scope='module')
def server():
    return fork_server()


def train(server, folder, **training):
    "The bytes of a short training on one thread."
    folder.mkdir()
    command = Command(server, 'train_sequential', ['--config', config(folder, **ONE | training)], folder / 'said.txt')
    assert command.wait(120) == 0, command.said()
    return contents(folder)


def test_keys_that_change_no_byte(server, tmp_path):
    "How often it is saved, how many checkpoints are kept, and how many threads gather windows."
    once = train(server, tmp_path / 'once', save_every=1000, num_workers=0)
    often = train(server, tmp_path / 'often', save_every=1, keep_checkpoints=5, num_workers=2)
    assert once == often
    logged = train(server, tmp_path / 'logged', log_interval=1)
    for name in once:
        assert (logged[name] == once[name]) == name.endswith('safetensors'), name


@pytest.mark.heavy
@pytest.mark.parametrize('other', [dict(OMP_NUM_THREADS='2'), dict(KRONOS_KERNELS='0')], ids=lambda e: next(iter(e)))
def test_what_agrees_to_rounding(tmp_path, other):
    "Other sums in another order: the same losses to four digits."
    tables = []
    for name, env in (('a', {}), ('b', other)):
        (tmp_path / name).mkdir()
        path = config(tmp_path / name, **ONE)
        result = run('-m', 'kronos_nb.train_sequential', '--config', path, **dict(OMP_NUM_THREADS='1') | env)
        assert result.returncode == 0, result.stderr
        tables.append(pd.read_csv(tmp_path / name / 'experiments/small/logs/metrics.csv'))
    a, b = (t[['train_loss', 'val_loss', 'grad_norm']].fillna(0).to_numpy() for t in tables)
    assert b == pytest.approx(a, rel=1e-4)
