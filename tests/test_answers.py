"What used to end in somebody else's exception: a sentence, exit status 2, and no traceback."

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, small_config
from running import Command, fork_server

from kronos_nb.data.klines import load_klines
from kronos_nb.errors import UserError

BARS = 60
TABLE = dict(
    timestamps=pa.array(pd.date_range('2024-01-01', periods=BARS)),
    open=np.full(BARS, 10.0),
    high=np.full(BARS, 11.0),
    low=np.full(BARS, 9.0),
    close=np.full(BARS, 10.0),
    volume=np.full(BARS, 5.0),
)
ODD = {
    'struct': pa.array([{'a': 1.0}] * BARS),
    'list': pa.array([[1.0]] * BARS),
    'map': pa.array([[('a', 1.0)]] * BARS, type=pa.map_(pa.string(), pa.float64())),
    'binary': pa.array([b'1'] * BARS),
    'duration': pa.array([1] * BARS, type=pa.duration('s')),
}


@pytest.mark.parametrize('column', ['timestamps', 'close', 'volume'])
@pytest.mark.parametrize('kind', ODD)
def test_a_column_of_an_odd_type(tmp_path, kind, column):
    path = tmp_path / 'a.parquet'
    pq.write_table(pa.table(TABLE | {column: ODD[kind]}), path)
    with pytest.raises(UserError, match=f'column {column}.* holds {kind}'):
        load_klines(path)


@pytest.mark.parametrize('kind', ODD)
def test_an_odd_column_that_nobody_needs(tmp_path, kind):
    path = tmp_path / 'a.parquet'
    pq.write_table(pa.table(TABLE | {'remark': ODD[kind]}), path)
    klines = load_klines(path)
    assert len(next(iter(klines))[1]) == BARS and any('remark' in note for note in klines.notes)


@pytest.mark.parametrize('column', ['close', 'volume'])
def test_half_precision_is_a_number(tmp_path, column):
    path = tmp_path / 'a.parquet'
    pq.write_table(pa.table(TABLE | {column: np.full(BARS, 10, np.float16)}), path)
    assert (next(iter(load_klines(path)))[1][column] == 10).all()


@pytest.mark.parametrize('quote', ['', '"'])
def test_a_word_of_the_header_that_does_not_end(tmp_path, quote):
    path = tmp_path / 'a.csv'
    rows = [f'2024-01-{day:02},1,2,1,2,3' for day in range(1, 29)]
    path.write_text('\n'.join([f'timestamps,open,high,low,close,{quote}{"v" * 200_000}{quote}', *rows]))
    with pytest.raises(UserError) as e:
        load_klines(path)
    assert len(str(e.value)) < 1000


@pytest.fixture(scope='module')
def server():
    return fork_server()


def refused(server, log, command, *argv, prepare=None):
    "What a command says that must end with 2."
    command = Command(server, command, argv, log, *([prepare] if prepare else []))
    assert command.wait(120) == 2, command.said()
    assert 'Traceback' not in command.said()
    return command.said()


def test_a_file_where_pictures_belong(server, tmp_path):
    figures = tmp_path / 'experiments/small/figures'
    figures.parent.mkdir(parents=True)
    figures.touch()
    said = refused(server, tmp_path / 'said.txt', 'train_sequential', '--config', small_config(tmp_path))
    assert f'{figures}: this is a file' in said and 'epoch 1' not in said


def test_more_paths_than_memory(server, trained, tmp_path):
    folder, _ = trained
    known = ['--model', folder / 'experiments/small', '--data', ROOT / 'data/us_daily']
    log, bound = tmp_path / 'said.txt', 'test_answers:bound_memory'
    said = refused(server, log, 'forecast_files', *known, '--paths', 2**31 - 1, prepare=bound)
    assert 'not enough memory' in said and 'lower --paths' in said
    said = refused(server, log, 'forecast_files', *known, '--paths', 10**13)
    assert 'more paths than any memory holds' in said and '--paths' in said


def test_more_windows_than_memory(server, tmp_path):
    path = small_config(tmp_path, training=dict(batch_size=16, samples_per_epoch=16))
    argv, log = ['--config', path], tmp_path / 'said.txt'
    command = Command(server, 'train_sequential', argv, log, 'test_answers:limit_memory')
    assert command.wait(120) == 2, command.said()
    assert 'not enough memory' in command.said() and 'lower training.batch_size' in command.said()


def bound_memory():
    "In the child: an address space of 64 GiB, so that no machine tries to hold what cannot be held."
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36))


def limit_memory():
    "In the child: from the first step on, a gigabyte more is asked for than there is."
    import resource
    from pathlib import Path
    from unittest import mock

    import torch

    from kronos_nb.training import loop

    def hungry(*args):
        pages = int(Path('/proc/self/statm').read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**28
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return torch.empty(2**30)

    mock.patch.object(loop, 'train_step', hungry).start()
