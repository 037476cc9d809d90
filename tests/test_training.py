"What training must keep to: several processes, precisions, trackers, adapters."

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import run, small_config
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kronos_nb.config import load_config
from kronos_nb.errors import UserError
from kronos_nb.train_sequential import train_sequential
from kronos_nb.training.launch import choose_precision, launch
from kronos_nb.training.run import open_run
from kronos_nb.training.stages import build_predictor, build_tokenizer, train_predictor, train_tokenizer

SMALL = dict(samples_per_epoch=1600, tokenizer_learning_rate=1e-3, predictor_learning_rate=1e-3, teacher_forcing=True)


def train64(config, out):
    "Both stages in float64; every process writes the weights it ends with."
    with open_run(config) as opened:
        tokenizer, model = build_tokenizer(opened.cfg).double(), build_predictor(opened.cfg).double()
        train_tokenizer(opened, tokenizer)
        train_predictor(opened, model, tokenizer.requires_grad_(False))
        torch.save([tokenizer.state_dict(), model.state_dict()], f'{out}.{opened.accelerator.process_index}')


@pytest.mark.heavy
@pytest.mark.parametrize('accumulation', [1, 2])
def test_two_processes_are_one(tmp_path, accumulation):
    "50 optimiser steps in float64: the same weights to 1e-8; and between the two processes to the last bit."

    def cfg(name, batch):
        return load_config(
            small_config(
                tmp_path,
                training=SMALL
                | dict(
                    epochs=1,
                    batch_size=batch,
                    samples_per_epoch=50 * 16 * accumulation,
                    accumulation_steps=accumulation,
                ),
                data=dict(window_stride=4),
                model_paths=dict(base_save_path=str(tmp_path / name)),
            )
        )

    launch(train64, cfg('one', 16), tmp_path / 'one.pt')
    launch(train64, cfg('two', 8), tmp_path / 'two.pt', num_processes=2)
    one, two, other = (torch.load(tmp_path / f) for f in ('one.pt.0', 'two.pt.0', 'two.pt.1'))
    moved = 0
    for a, b, c in zip(one, two, other):
        for k in a:
            assert torch.equal(b[k], c[k]), k
            assert (a[k].double() - b[k].double()).abs().max() < 1e-8, k
            moved += a[k].numel()
    assert moved > 10_000
    rows = [pd.read_csv(tmp_path / n / 'logs/metrics.csv') for n in ('one', 'two')]
    assert rows[0].step.max() == 50 and (rows[0].train_loss - rows[1].train_loss).abs().max() < 1e-8


@pytest.mark.parametrize(
    'training', [dict(mixed_precision='bf16'), dict(mixed_precision='bf16', lora_rank=2)], ids=['bf16', 'bf16 and LoRA']
)
def test_interrupted_is_uninterrupted(tmp_path, training):
    "Other arithmetic and adapters go on from a checkpoint as well."

    def go(name, **more):
        return train_sequential(
            small_config(
                tmp_path,
                training=dict(epochs=2, save_every=7, samples_per_epoch=160, patience=None) | training | more,
                forecast=dict(origins=0, pictures=0),
                model_paths=dict(base_save_path=str(tmp_path / name)),
            )
        )

    files = ('tokenizer/best_model/model.safetensors', 'basemodel/best_model/model.safetensors', 'logs/metrics.csv')
    go('whole', keep_checkpoints=9)

    shutil.copytree(tmp_path / 'whole', tmp_path / 'half')  # as it was in the middle of the first epoch of stage 2
    for p in (tmp_path / 'half/basemodel/checkpoints').glob('step-*'):
        if p.name != 'step-00000007':
            shutil.rmtree(p)
    (tmp_path / 'half/basemodel/best_model/model.safetensors').unlink()
    again = go('half', keep_checkpoints=9)
    for f in files:
        assert (tmp_path / 'half' / f).read_bytes() == (tmp_path / 'whole' / f).read_bytes(), f
    losses = again.basemodel.history.train_loss.dropna()
    assert len(losses) and losses.notna().all()


@pytest.mark.heavy
def test_compiled_models_train(tmp_path):
    "torch.compile changes the rounding alone."
    plain, fast = (
        train_sequential(
            small_config(
                tmp_path,
                training=dict(compile=c, teacher_forcing=True),
                forecast=dict(origins=0, pictures=0),
                model_paths=dict(base_save_path=str(tmp_path / str(c))),
            )
        )
        for c in (False, True)
    )
    for a, b in ((plain.tokenizer, fast.tokenizer), (plain.basemodel, fast.basemodel)):
        assert b.best_loss == pytest.approx(a.best_loss, rel=1e-2)


def test_adapters_are_merged(tmp_path):
    "With LoRA the saved model has the shape of any other, and only what has adapters has moved."
    cfg = load_config(
        small_config(tmp_path, training=dict(lora_rank=2, lora_targets='q_proj'), forecast=dict(origins=4, pictures=0))
    )
    start = build_predictor(cfg).state_dict()
    result = train_sequential(cfg)
    end = load_file(result.basemodel.best_model / 'model.safetensors')
    changed = {k for k in start if not torch.equal(start[k], end[k])}
    assert start.keys() == end.keys() and changed and all('q_proj.weight' in k for k in changed), changed
    assert result.scores.notna().iloc[0].all()


def test_tensorboard(tmp_path):
    "What metrics.csv says stands in the event files too."
    train_sequential(
        small_config(tmp_path, experiment=dict(pre_trained=False, trackers='tensorboard')), skip_basemodel=True
    )
    logs = tmp_path / 'experiments/small/logs'
    events = EventAccumulator(str(next(logs.rglob('events.out.tfevents.*')).parent)).Reload()
    table = pd.read_csv(logs / 'metrics.csv')
    for key in ('train_loss', 'val_loss', 'learning_rate', 'grad_norm'):
        rows = table.dropna(subset=key)
        seen = events.Scalars(f'tokenizer/{key}')
        assert [e.step for e in seen] == rows.step.tolist() and [e.value for e in seen] == pytest.approx(
            rows[key].tolist(), rel=1e-6
        )


def test_auto_says_what_it_chose():
    "bf16 where the processor multiplies it natively."
    flags = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    chosen, why = choose_precision(
        load_config(
            dict(
                data=dict(data_path='x'),
                training=dict(mixed_precision='auto'),
                architecture=dict(tokenizer='base', predictor='mini'),
                experiment=dict(pre_trained=False),
            )
        ),
        False,
    )
    assert chosen == ('bf16' if 'avx512_bf16' in flags or 'amx_bf16' in flags else 'no') and 'CPU' in why


def test_one_run_at_a_time(tmp_path):
    "A second run in a folder is refused while the first is at work; so is a checkpoint of another experiment."
    path = small_config(tmp_path)
    with open_run(path) as first:
        first.begin()
        result = run('-m', 'kronos_nb.finetune_tokenizer', '--config', path)
        assert (
            result.returncode == 2
            and 'another run is writing here' in result.stderr
            and 'Traceback' not in result.stderr
        ), result.stderr
    train_sequential(path, skip_basemodel=True)
    checkpoint = next((tmp_path / 'experiments/small/tokenizer/checkpoints').glob('step-*'))
    with pytest.raises(UserError, match='not of the experiment'):
        train_sequential(
            path, resume=str(checkpoint), set=['model_paths.exp_name=other', 'model_paths.base_save_path=']
        )
