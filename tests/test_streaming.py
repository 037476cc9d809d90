"Forecasts in parts: whatever ends the command, or whoever shares it, the folder ends with the same bytes."

import os
import random
import signal
import sys
import time
from unittest import mock

import pandas as pd
import pytest
from conftest import free_port, run
from running import Command, fork_server, litter

from kronos_nb.data.synthetic import synthetic_klines

pytestmark = pytest.mark.heavy
SYMBOLS, PARTS = 200, 4  # 64 symbols a part
KILLS = int(os.environ.get('KRONOS_KILLS', 20))


@pytest.fixture(scope='module')
def server():
    return fork_server()


def many_symbols(folder, n):
    "A Parquet file of so many symbols, the last of which has a single bar."
    frames = [synthetic_klines(60, 'B', volatility=0.01, seed=i).assign(symbol=f'S{i:03}') for i in range(n - 1)]
    pd.concat([*frames, frames[0].head(1).assign(symbol='ONE')]).to_parquet(folder / 'all.parquet')
    return folder / 'all.parquet'


def forecast_flags(data, out, **ask):
    "A small forecast into a folder."
    ask = dict(model='nano', data=data, out=f'{out}/', lookback=48, device='cpu') | ask
    return [x for k, v in ask.items() for x in (f'--{k}', v)]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return many_symbols(tmp_path_factory.mktemp('data'), SYMBOLS)


def flags(data, folder):
    "As small as can be."
    return forecast_flags(data, folder, horizon=4, paths=2)


def visible(folder):
    "Bytes of every file that is not hidden."
    files = [f for f in folder.rglob('*') if f.is_file() and not f.name.startswith('.')]
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


@pytest.fixture(scope='module')
def expected(server, data, tmp_path_factory):
    "What a command that nobody disturbs leaves."
    folder = tmp_path_factory.mktemp('alone')
    command = Command(server, 'forecast_files', flags(data, folder / 'out'), folder / 'said.txt')
    assert command.wait(300) == 2, command.said()  # one symbol was not forecast
    made = visible(folder / 'out')
    assert len([f for f in made if f.startswith('forecasts/')]) == PARTS
    assert pd.read_csv(folder / 'out/failed.csv').symbol.tolist() == ['ONE']
    return made


def test_killed_at_random_moments(server, data, expected, tmp_path):
    "Every few times after another number of parts, and a random while; no part is torn or lost."
    seed, out, killed = int(os.environ.get('KRONOS_SEED', 0)), tmp_path / 'out', 0
    chance = random.Random(seed)
    for n in range(KILLS):
        command = Command(server, 'forecast_files', flags(data, out), tmp_path / 'said.txt')
        while command.process.is_alive() and len(list(out.glob('forecasts/part-*'))) < n * PARTS // KILLS:
            time.sleep(0.005)
        time.sleep(chance.random() * 1.5)
        command.send(signal.SIGKILL)
        assert command.wait(60) in (-signal.SIGKILL, 2), command.said()  # 2: it was done before
        killed += command.wait() == -signal.SIGKILL
        assert all(expected[f] == b for f, b in visible(out).items())
    command = Command(server, 'forecast_files', flags(data, out), tmp_path / 'said.txt')
    assert command.wait(300) == 2, command.said()
    assert visible(out) == expected and not litter(out)
    print(f'KRONOS_SEED={seed}: killed {killed} times at work, {KILLS - killed} times done before')


def full_after(parts):
    "In the child: the disk is full once some parts are written."
    import errno
    import os

    replace, done = os.replace, []

    def call(source, target):
        if str(target).endswith('.parquet'):
            if len(done) == parts:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done.append(target)
        replace(source, target)

    mock.patch.object(os, 'replace', call).start()


def test_a_full_disk(server, data, expected, tmp_path):
    "A sentence, nothing half written, and the same command goes on when there is room."
    out, log = tmp_path / 'out', tmp_path / 'said.txt'
    command = Command(server, 'forecast_files', flags(data, out), log, 'test_streaming:full_after', 2)
    assert command.wait(300) == 2, command.said()
    assert 'No space left on device' in command.said() and 'Traceback' not in command.said()
    assert len(list(out.glob('forecasts/*.parquet'))) == 2 and not litter(out)
    command = Command(server, 'forecast_files', flags(data, out), log)
    assert command.wait(300) == 2 and visible(out) == expected, command.said()


def test_two_processes(data, expected, tmp_path):
    "Under torchrun the parts are shared."
    torchrun = ['-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={free_port()}']
    env = dict(OMP_NUM_THREADS='1', PATH=f'{sys.prefix}/bin')
    result = run(*torchrun, '-m', 'kronos_nb.forecast_files', *flags(data, tmp_path / 'out'), **env)
    assert 'ONE' in result.stderr, result.stderr
    assert visible(tmp_path / 'out') == expected
