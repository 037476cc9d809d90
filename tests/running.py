"""Commands in processes that can be killed, without the seconds that every process of its own spends in imports.

`multiprocessing`'s fork server imports the package once, on one thread; each command runs in a fork of it."""

import json
import multiprocessing
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path

PRELOADED = [
    'running',
    'kronos_nb.training.run',
    'kronos_nb.training.sequential',
    'kronos_nb.evaluation.judge',
    'kronos_nb.evaluation.report',
    'kronos_nb.forecasting.files',
    'kronos_nb.display.plot',
]
ONE_THREAD = dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1')
FILES = ('tokenizer/best_model/model.safetensors', 'basemodel/best_model/model.safetensors', 'logs/metrics.csv')


def fork_server(warmed=False):
    "The context whose processes are forks of one that has everything imported, and has trained if it is warmed."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOADED + ['warmed'] * warmed)
    here = str(Path(__file__).parent)
    ours = ONE_THREAD | dict(PYTHONPATH=os.pathsep.join([here, f'{here}/campaign', str(Path(here).parent)]))
    before = {k: os.environ.get(k) for k in ours}
    os.environ.update(ours)
    try:
        process = context.Process(target=check_preloaded, args=(warmed,))  # the first starts the server
        process.start()
        process.join()
        assert process.exitcode == 0, 'the server has not imported what it should'
    finally:
        for k, v in before.items():
            os.environ.pop(k) if v is None else os.environ.update({k: v})
    return context


def run_command(begun, command, argv, log, prepare=None, *args):
    "In the child: what a shell does with `kronos_... argv`, after `prepare(*args)`, a name in a module of tests."
    try:
        begun.send_bytes(b'.')
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, 'w', buffering=1) for n in (1, 2))
        if prepare:
            module, name = prepare.split(':')
            getattr(import_module(module), name)(*args)
        import_module(f'kronos_nb.{command}').main(argv)
    except KeyboardInterrupt:  # before the command has begun: so Python ends a process that is no fork
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except Exception:
        traceback.print_exc()
        raise


class Command:
    "A command at work."

    def __init__(self, context, command, argv, log, *prepare):
        self.log = Path(log)
        self.begun, begun = context.Pipe(duplex=False)
        args = begun, command, list(map(str, argv)), str(log), *prepare
        self.process = context.Process(target=run_command, args=args)
        self.process.start()
        begun.close()

    def send(self, number):
        self.begun.poll(10)  # until then `multiprocessing` would answer
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self, patience=None):
        "The exit status, negative for a signal; None if it is still at work."
        self.process.join(patience)
        return self.process.exitcode

    def said(self):
        return self.log.read_text(errors='replace') if self.log.exists() else ''


def contents(folder):
    "The files of an experiment that must be the same whatever happened on the way; None for one that is not there."
    folder = Path(folder) / 'experiments/small'
    return {f: (folder / f).read_bytes() if (folder / f).exists() else None for f in FILES}


def litter(folder):
    "Hidden files in a folder and below it, the lock aside."
    return [str(p) for p in Path(folder).rglob('.*') if p.name != '.lock']


def status(folder):
    "What run.json says."
    return json.loads((Path(folder) / 'experiments/small/logs/run.json').read_text())


def check_preloaded(warmed):
    "In the child: an error in an import of the server is passed over, and would only be slow."
    assert not warmed or 'warmed' in sys.modules
