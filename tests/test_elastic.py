"Under torchrun's elastic mode a run goes on by itself when a process or a machine is lost."

import os
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, children_of, free_port
from safetensors.torch import load_file
from test_resume import wait_for
from test_several_processes import assert_same_course, config, losses

pytestmark = pytest.mark.heavy


def machines(path, folder, number, restarts):
    "Launchers of torchrun that meet on this machine, one process each; the first holds the meeting point."
    flags = [f'--nnodes=1:{number}', f'--max-restarts={restarts}', '--nproc_per_node=1', '--rdzv_backend=c10d']
    flags += [f'--rdzv_endpoint=localhost:{free_port()}', '--rdzv_conf=last_call_timeout=5', '--monitor-interval=0.2']
    ours = dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', DIST_BACKEND='gloo', TORCH_DISABLE_SHARE_RDZV_TCP_STORE='1')
    command = [sys.executable, '-m', 'torch.distributed.run', *flags, '-m', 'kronos_nb.train_sequential']
    for i in range(number):
        with open(folder / f'said{i}.txt', 'w') as said:
            yield subprocess.Popen(
                [*command, '--config', str(path)], env=os.environ | ours, stdout=said, stderr=subprocess.STDOUT
            )
        time.sleep(2 * (i == 0))


def worker_of(launcher):
    "The process that trains."
    return children_of(launcher.pid, 'kronos_nb.train_sequential')[0]


def end(launchers):
    "Leave none behind."
    for launcher in launchers:
        if launcher.poll() is None:
            launcher.kill()  # its worker follows
        launcher.wait()


def test_a_process_and_a_machine_are_lost(tmp_path):
    "One of three workers is killed in stage 1, one of three launchers in stage 2: the course is that of no death."
    alone, killed = tmp_path / 'alone', tmp_path / 'killed'
    for folder in (alone, killed):
        folder.mkdir()
    undisturbed = [*machines(config(alone), alone, 3, 0)]
    try:
        assert [m.wait(250) for m in undisturbed] == [0, 0, 0], (alone / 'said0.txt').read_text()
    finally:
        end(undisturbed)
    three = [*machines(config(killed), killed, 3, 3)]
    try:
        wait_for(three[0], killed, 'tokenizer/checkpoints/step-*06')
        worker_of(three[2]).kill()
        wait_for(three[0], killed, 'basemodel/checkpoints/step-*06')
        three[1].kill()
        ended = [m.wait(250) for m in three]
    finally:
        end(three)
    said = ''.join((killed / f'said{i}.txt').read_text() for i in range(3))
    assert ended == [0, -9, 0], said
    log = (killed / 'experiments/small/logs/training.log').read_text()
    for step in ('tokenizer/checkpoints/step-0000', 'basemodel/checkpoints/step-0000'):
        assert f'going on from {killed}/experiments/small/{step}' in log, log
    assert '3 processes' in log and 'now on 2 processes' in log, log
    assert_same_course(losses(killed), losses(alone))
    for stage in ('tokenizer', 'basemodel'):
        file = f'experiments/small/{stage}/best_model/model.safetensors'
        found, expected = load_file(killed / file), load_file(alone / file)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=0)
