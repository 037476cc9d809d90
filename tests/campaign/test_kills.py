"""Training, evaluation and forecasts that are killed or stopped: at random moments, and at the n-th call that touches
the disk. Begun again they end in the same bytes; no process and no hidden file stays, and no half file looks whole.

KRONOS_CAMPAIGN sets how many, as for the examples of the other campaigns: a hundredth of it of each kind, at least
four, and fewer under the launcher (10,000 take an hour); KRONOS_SEED chooses another series of them."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, free_port
from dying import DIED, Death, mortal
from running import Command, contents, fork_server, litter
from test_stop import config

N = max(4, int(os.environ.get('KRONOS_CAMPAIGN', 0)) // 100)
SEED = int(os.environ.get('KRONOS_SEED', 0))
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
PATIENCE = 180  # seconds after which a command hangs
# by its name: killed, told to end, died at a call, ended of itself
ENDS = {0: 'through', 143: 'answered', 130: 'answered', -15: 'stopped early', -2: 'stopped early'}
ENDS |= {-9: 'killed', DIED: 'died at a call'}
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not hasattr(os, 'fork'), reason='commands are forks here'),
]


class Tally(Counter):
    "What came of many, and what was wrong."

    def __init__(self, name):
        super().__init__()
        self.name, self.wrong = name, []

    def check(self, true, what):
        if not true:
            self.wrong.append(what)
            print(f'\nWRONG: {self.name}: {what}', flush=True)

    def report(self):
        counts = ', '.join(f'{n} {k}' for k, n in self.items() if k not in ('tried', 'identical'))
        print(
            f'\n{self.name}: {self["tried"]} tried ({counts}), {self["identical"]} runs identical in the end,'
            f' {len(self.wrong)} wrong',
            flush=True,
        )
        assert not self.wrong, '\n'.join(self.wrong)


@pytest.fixture(scope='module')
def server():
    return fork_server(warmed=True)


def whole_checkpoints(folder):
    "Have all that look like checkpoints all their files?"
    names = ['checkpoint.json', 'model.safetensors', 'state.pt']
    found = Path(folder).glob('experiments/small/*/checkpoints/step-*')
    return all(sorted(f.name for f in p.iterdir()) == names for p in found)


class Kind:
    "A kind of command: how it is called, and what it leaves."

    def __init__(self, server, folder):
        self.server, self.folder = server, Path(folder)
        self.folder.mkdir()

    def start(self, *prepare):
        return Command(self.server, self.command, self.argv(), self.folder / 'said.txt', *prepare)

    def clear(self):
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def whole(self):
        "Is all that can be seen whole?"
        return True


class Training(Kind):
    command = 'train_sequential'

    def argv(self):
        return ['--config', config(self.folder)]

    def left(self):
        return contents(self.folder)

    def whole(self):
        return whole_checkpoints(self.folder)


class Evaluation(Kind):
    command, trained = 'evaluate', None

    def argv(self):
        out = ['--out', self.folder / 'out']
        return ['--config', self.trained / 'small.yaml', '--origins', 4, '--paths', 4, *out]

    def left(self):
        files = [p for s in ('csv', 'parquet', 'txt') for p in (self.folder / 'out').rglob(f'*.{s}')]
        return {p.name: p.read_bytes().replace(str(self.folder).encode(), b'') for p in files}


class Forecasts(Kind):
    command, trained = 'forecast_files', None

    def argv(self):
        a, b, c = (self.folder / name for name in ('a.csv', 'b.parquet', 'c.png'))
        known = ['--model', self.trained / 'experiments/small', '--data', ROOT / 'data/us_daily', '--paths', 4]
        return [*known, '--out', a, '--paths_out', b, '--plot', c]

    def left(self):
        return {p.name: p.read_bytes() for p in self.folder.glob('?*.*') if p.suffix in ('.csv', '.parquet', '.png')}

    def whole(self):
        return all(self.expected.get(name) == data for name, data in self.left().items())


@pytest.fixture(scope='module', params=[Training, Evaluation, Forecasts], ids=lambda k: k.__name__)
def kind(request, server, tmp_path_factory):
    "Run alone, and timed."
    base, cls = tmp_path_factory.mktemp(request.param.__name__), request.param
    if cls is not Training:
        trained = Training(server, base / 'trained')
        assert trained.start().wait(PATIENCE) == 0
        cls.trained = trained.folder
    alone = cls(server, base / 'alone')
    begun = time.monotonic()
    command = alone.start()
    assert command.wait(PATIENCE) == 0, command.said()
    cls.seconds = time.monotonic() - begun
    cls.expected = alone.left()
    assert len(cls.expected) >= 3 and None not in cls.expected.values(), list(cls.expected)
    return cls(server, base / 'killed')


def follow(kind, tally, what, code, said):
    "After a kill: was it one, is nothing half, does no mistake stand in what was said?"
    tally['tried'] += 1
    tally[ENDS.get(code, f'ended with {code}')] += 1
    tally.check(code in ENDS, f'{what}: status {code}: {said[-1500:]}')
    unhandled = 'Traceback' in said and code not in (-2, -15)  # before the command has begun, Python answers
    tally.check(not unhandled, f'{what}: {said[-1500:]}')
    tally.check(kind.whole(), f'{what}: a half file looks whole')


def bring_to_an_end(kind, tally, what):
    "Begin again and let it be: the same bytes, and nothing else."
    command = kind.start()
    code = command.wait(PATIENCE)
    tally.check(code == 0, f'{what}: begun again it ended with {code}: {command.said()[-1500:]}')
    left = kind.left()
    different = [name for name in left.keys() | kind.expected.keys() if left.get(name) != kind.expected.get(name)]
    tally.check(not different, f'{what}: other bytes in {different}')
    tally.check(not litter(kind.folder), f'{what}: left behind: {litter(kind.folder)}')
    tally['identical'] += not different


def test_random_moments(kind):
    "One to three signals, each at a moment of its own, then left alone."
    tally, chance = Tally(f'{type(kind).__name__}, signals at random moments'), random.Random(f'{SEED} moments')
    while tally['tried'] < N:
        kind.clear()
        history = []
        for _ in range(chance.choice([1, 1, 2, 3])):
            number, wait = chance.choice(SIGNALS), chance.random() * kind.seconds
            history.append(f'{number.name} after {wait:.3f} s')
            command = kind.start()
            command.wait(wait)
            command.send(number)
            code = command.wait(PATIENCE)
            if code is None:
                command.send(signal.SIGKILL)
            follow(kind, tally, ', '.join(history), code, command.said())
        bring_to_an_end(kind, tally, ', '.join(history))
    tally.report()


patches = contextlib.ExitStack()  # of a child, until it ends


def die_at(number, counted=None):
    "In the child: the n-th call that touches the disk is the last; number 0 counts them, into a file."
    death, end = Death(number), os._exit
    patches.enter_context(mortal(death))

    def count(code):
        "Write how many calls there were, and end."
        patches.close()
        counted.write_text(str(death.calls))
        end(code)

    if counted:
        os._exit = count  # how a fork ends


def test_deaths_at_calls(kind):
    "Every call of a command that touches the disk is its last: opened, written in half, flushed, renamed, removed."
    tally, chance = Tally(f'{type(kind).__name__}, deaths at single calls'), random.Random(f'{SEED} calls')
    counted = kind.folder.parent / 'calls.txt'
    kind.clear()
    assert kind.start('test_kills:die_at', 0, counted).wait(PATIENCE) == 0
    calls = int(counted.read_text())
    assert calls > 20
    numbers = range(1, calls + 1) if calls <= N else sorted(chance.sample(range(1, calls + 1), N))
    for n in numbers:
        kind.clear()
        command = kind.start('test_kills:die_at', n)
        follow(kind, tally, f'call {n} of {calls}', command.wait(PATIENCE), command.said())
        bring_to_an_end(kind, tally, f'call {n} of {calls}')
    tally.report()


def launched(folder, ranks, path):
    "`launch` and its ranks, likewise."
    code = f'launch(train_sequential, {str(path)!r}, num_processes={ranks})'
    return begin(folder, '-c', f'from kronos_nb import launch, train_sequential; {code}')


def torchrun(folder, ranks, path):
    "The launcher and its ranks, to be known by a word in their environment."
    prefix = ['-m', 'torch.distributed.run', '--nnodes=1', f'--nproc_per_node={ranks}', f'--master_port={free_port()}']
    return begin(folder, *prefix, '-m', 'kronos_nb.train_sequential', '--config', str(path))


def begin(folder, *args):
    "A Python of its own, in a session of its own."
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', DIST_BACKEND='gloo', KRONOS_TEST=str(folder))
    log = open(Path(folder) / 'said.txt', 'a')
    return subprocess.Popen([sys.executable, *args], env=env, stdout=log, stderr=log, start_new_session=True)


def at_work(folder):
    "Processes of a launcher, itself and its ranks."
    found = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if p.status() != psutil.STATUS_ZOMBIE and p.environ().get('KRONOS_TEST') == str(folder):
                found.append(p)
    return found


def orphans(folder, patience=20):
    "Processes that are still there some seconds after their launcher; they are ended here."
    end = time.monotonic() + patience
    while (left := at_work(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    for p in left:
        with contextlib.suppress(psutil.Error):
            p.kill()
    return [p.pid for p in left]


@pytest.mark.parametrize('start, ranks', [(torchrun, 1), (torchrun, 2), (launched, 2)])
def test_a_launcher_killed_while_its_ranks_import(tmp_path, start, ranks):
    "No rank outlives it, whether it dies before the rank's first line, in its imports or after."
    tally, chance = Tally(f'{start.__name__}, {ranks} ranks, killed in imports'), random.Random(f'{SEED} {ranks}')
    path = config(tmp_path)
    for i in range(max(2, N // 2)):
        process = start(tmp_path, ranks, path)
        while process.poll() is None and len(at_work(tmp_path)) < ranks + 1:
            time.sleep(0.002)
        wait = chance.choice([0, chance.random() * 0.1, chance.random() * 6])
        time.sleep(wait)
        process.kill()
        process.wait()
        tally['tried'] += 1
        left = orphans(tmp_path)
        tally['no rank left'] += not left
        tally.check(not left, f'{i}: killed {wait:.3f} s after the ranks were there, {left} stayed')
    tally.report()


def test_a_launcher_at_random_moments(tmp_path_factory):
    "Two ranks; the launcher is killed or told to end, and begun again."
    base = tmp_path_factory.mktemp('launcher')
    tally, chance = Tally('launcher of 2, signals at random moments'), random.Random(f'{SEED} launcher')
    alone = base / 'alone'
    alone.mkdir()
    begun = time.monotonic()
    assert torchrun(alone, 2, config(alone)).wait(PATIENCE) == 0, (alone / 'said.txt').read_text()
    seconds, expected = time.monotonic() - begun, contents(alone)
    shares = set(Path(os.environ.get('TMPDIR', '/tmp')).glob('.*kronos_arrays*'))
    for _ in range(max(1, N // 6)):
        folder = base / 'killed'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path, history = config(folder), []
        for _ in range(2):
            number, wait = chance.choice(SIGNALS), chance.random() * seconds
            history.append(f'{number.name} after {wait:.1f} s')
            process = torchrun(folder, 2, path)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait)
            process.send_signal(number)
            process.wait(PATIENCE)
            tally['tried'] += 1
            tally[number.name] += 1
            left = orphans(folder)
            tally.check(not left, f'{history}: {left} stayed')
            tally.check(whole_checkpoints(folder), f'{history}: a half checkpoint looks whole')
        process = torchrun(folder, 2, path)
        code = process.wait(PATIENCE)
        tally.check(code == 0, f'{history}: ended with {code}: {(folder / "said.txt").read_text()[-2000:]}')
        same = contents(folder) == expected
        tally.check(same, f'{history}: other bytes')
        tally.check(not litter(folder), f'{history}: left behind: {litter(folder)}')
        tally['identical'] += same
    left = set(Path(os.environ.get('TMPDIR', '/tmp')).glob('.*kronos_arrays*')) - shares
    tally.check(not left, f'arrays of killed runs stay: {left}')
    tally.report()
