"A search that is killed again and again, beside one that is left alone; and mistakes, as a shell shows them."

import os
import random
import re
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import ROOT, run, small_config
from safetensors.numpy import load_file

TRIALS = 6
SPACE = dict(
    predictor_learning_rate=[1e-4, 1e-2, 'log'],
    tokenizer_learning_rate=[],
    tokenizer_epochs=[],
    basemodel_epochs=[2, 4],
    lookback_window=[],
    temperature=[0.9, 1.0],
    top_p=[],
)
COMMAND = 'kronos_nb.search_settings'


def config(folder, **search):
    return small_config(
        folder,
        training=dict(tokenizer_epochs=1, basemodel_epochs=2, save_every=3, samples_per_epoch=96),
        search=SPACE | search,
    )


def start(path):
    "Start the command, which can then be killed."
    args = [sys.executable, '-m', COMMAND, '--config', str(path), '--trials', str(TRIALS), '--seed', '3']
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    return subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left_behind(folder):
    "What must be the same whatever happened on the way: the table, and the weights of the best trial."
    search = folder / 'experiments/small/search'
    best = search / f'trial-{pd.read_csv(search / "trials.csv").crps_of_walk.idxmin():03}'
    return (search / 'trials.csv').read_bytes(), (best / 'basemodel/best_model/model.safetensors').read_bytes()


@pytest.mark.heavy
def test_killed_again_and_again(tmp_path):
    "SIGKILL in trials 0, 1, 2 and 4, in training or while forecasting: the same trials with the same numbers."
    alone, killed = tmp_path / 'alone', tmp_path / 'killed'
    alone.mkdir(), killed.mkdir()
    process = start(config(alone))
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 0 and f'{TRIALS} trials' in said and 'The test split was not forecast' in said, said
    path, chance, heard = config(killed), random.Random(0), ''
    search = killed / 'experiments/small/search'
    for pattern in (
        'trial-000/tokenizer/checkpoints/step-*',
        'trial-001/logs/run.json',
        'trial-001/basemodel/best_model/model.safetensors',
        'trial-002/basemodel/checkpoints/step-*',
        'trial-004/basemodel/best_model/model.safetensors',
    ):
        process = start(path)
        while process.poll() is None and not list(search.glob(pattern)):
            time.sleep(0.01)
        time.sleep(chance.random() * 0.5)
        process.kill()
        heard += process.communicate()[0]
    first = (search / 'trial-000/logs/run.json').stat().st_mtime_ns
    process = start(path)
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 0 and 'going on from' in heard + said, heard + said
    assert (search / 'trial-000/logs/run.json').stat().st_mtime_ns == first, 'a finished trial is not touched again'
    assert left_behind(killed) == left_behind(alone)


@pytest.mark.heavy
def test_the_best_is_judged_with_its_own_command(tmp_path):
    "best.yaml finds the weights of its trial, trains nothing, and is judged on the test split for the first time."
    process = start(config(tmp_path))
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 0, said
    search = tmp_path / 'experiments/small/search'
    assert not list(search.glob('trial-*/scores.csv')) and not list(search.glob('trial-*/summary.txt'))
    result = run('-m', 'kronos_nb.train_sequential', '--config', search / 'best.yaml')
    assert result.returncode == 0 and 'on the test split' in result.stdout, result.stderr
    assert ' loss ' not in result.stderr.replace('validation loss', ''), 'a step was trained'
    assert len(list(search.glob('trial-*/scores.csv'))) == 1


def trained_parameters(folder):
    "How many parameters stage 2 of a trial has trained, by its log."
    log = (folder / 'logs/training.log').read_text()
    return int(re.search(r'basemodel: ([\d,]+) parameters;', log)[1].replace(',', ''))


@pytest.mark.heavy
def test_ranks_of_adapters_are_searched(tmp_path):
    "Trials with LoRA and without; the best one's weights are whole, and judged with its own command."
    pytest.importorskip('peft')
    path = config(tmp_path, lora_rank=[None, 2, 4], predictor_learning_rate=[], basemodel_epochs=[2], temperature=[])
    process = start(path)
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 0 and 'older ones' not in said, said
    search = tmp_path / 'experiments/small/search'
    table = pd.read_csv(search / 'trials.csv')
    assert {None, 2.0} <= set(table.lora_rank.astype(object).where(table.lora_rank.notna(), None)), table
    adapted = table[table.lora_rank.notna()].iloc[0]
    assert trained_parameters(search / f'trial-{adapted.trial:03}') < trained_parameters(search / 'trial-000')
    for number in table.trial[table.state == 'finished']:
        weights = load_file(search / f'trial-{number:03}/basemodel/best_model/model.safetensors')
        assert not [name for name in weights if 'lora' in name], 'merged'
    result = run('-m', 'kronos_nb.train_sequential', '--config', search / 'best.yaml')
    assert result.returncode == 0 and 'on the test split' in result.stdout, result.stderr


def test_under_torchrun_it_refuses(tmp_path):
    args = ['--standalone', '--nproc-per-node', '2', '-m', COMMAND, '--config', config(tmp_path), '--trials', '2']
    result = run('-m', 'torch.distributed.run', *args)
    assert result.returncode and 'one process: start it without torchrun' in result.stderr, result.stderr
    assert not (tmp_path / 'experiments').exists()


def test_mistakes_are_sentences(tmp_path):
    path = config(tmp_path)
    code = (
        "import sys; sys.modules['optuna'] = None; from kronos_nb.search_settings import main; "
        f"main(['--config', {str(path)!r}])"
    )
    result = run('-c', code)
    assert result.returncode == 2 and "pip install 'kronos_nb[search]'" in result.stderr, result.stderr
    result = run('-m', COMMAND, '--config', path, '--space', 'predictor_learning_rate=[1e-2, 1e-4, log]')
    assert result.returncode == 2 and 'search.predictor_learning_rate' in result.stderr, result.stderr
    assert 'Traceback' not in result.stderr and not (tmp_path / 'experiments').exists()
