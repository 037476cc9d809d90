"What the tests share: a small configuration, and commands run as a user runs them."

import os

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # several processes share few cores: waiting threads must sleep

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parent.parent


def small_config(folder, **sections):
    "Write a YAML that trains both stages from random weights in seconds, and return its path."
    shape = dict(d_model=32, n_heads=2, ff_dim=48)
    config = dict(
        data=dict(
            data_path=str(ROOT / 'data/us_daily'),
            lookback_window=40,
            predict_window=8,
            max_context=48,
            train_ratio=0.7,
            val_ratio=0.15,
            test_ratio=0.15,
            window_stride=16,
        ),
        training=dict(
            batch_size=16,
            epochs=1,
            samples_per_epoch=320,
            log_interval=5,
            num_workers=1,
            tokenizer_learning_rate=2e-3,
            predictor_learning_rate=2e-3,
        ),
        model_paths=dict(exp_name='small', base_path='experiments'),
        experiment=dict(pre_trained=False),
        device=dict(use_cuda=False),
        architecture=dict(
            tokenizer=shape | dict(n_enc_layers=2, n_dec_layers=2, s1_bits=6, s2_bits=6),
            predictor=shape | dict(n_layers=2, s1_bits=6, s2_bits=6),
        ),
        forecast=dict(origins=8, pictures=1, sample_count=4),
    )
    for k, v in sections.items():
        config[k] = config.get(k, {}) | v
    path = Path(folder) / 'small.yaml'
    path.write_text(yaml.safe_dump(config))
    return path


def run(*args, cwd=None, **env):
    "Run a command with this Python; its result, with stdout and stderr as text."
    args = [sys.executable, *map(str, args)]
    return subprocess.run(
        args, cwd=cwd, env=os.environ | dict(PYTHONPATH=str(ROOT)) | env, capture_output=True, text=True, timeout=300
    )


def free_port():
    with socket.socket() as s:
        s.bind(('localhost', 0))
        return s.getsockname()[1]


def children_of(pid, word):
    "Processes that a process has started and whose command has the word; one that is just ending has none."
    found = []
    for p in psutil.Process(pid).children():
        with suppress(psutil.Error):
            found += [p] * (word in ' '.join(p.cmdline()))
    return found


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    "A folder in which both stages were trained by the command, and what it printed."
    folder = tmp_path_factory.mktemp('trained')
    result = run('-m', 'kronos_nb.train_sequential', '--config', small_config(folder), cwd='/')
    assert result.returncode == 0, result.stderr
    return folder, result
