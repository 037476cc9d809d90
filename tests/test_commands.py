"The commands as the README has them: folders, flags, mistakes, several processes."

import re
from configparser import ConfigParser
from importlib import import_module

import pandas as pd
import pytest
import torch
from conftest import ROOT, free_port, run, small_config

from kronos_nb.config import load_config
from kronos_nb.models.kronos import Kronos
from kronos_nb.models.tokenizer import KronosTokenizer


def test_sequential_leaves_everything(trained):
    folder, result = trained
    root = folder / 'experiments/small'
    for f in (
        'tokenizer/best_model/config.json',
        'tokenizer/best_model/model.safetensors',
        'basemodel/best_model/model.safetensors',
        'logs/training.log',
        'logs/metrics.csv',
        'config.yaml',
        'scores.csv',
        'summary.txt',
        'figures/training_curves.png',
    ):
        assert (root / f).stat().st_size > 0, f
    for name in ('training.log', 'metrics.csv', 'config.yaml', 'training_curves.png'):
        assert name in result.stdout, name
    assert len(list((root / 'figures').glob('forecast_*.png'))) == 1
    assert 'CRPS' in result.stdout and 'last value' in result.stdout
    assert '%|' not in result.stderr, 'no progress bar where there is no terminal'
    lines = (root / 'logs/training.log').read_text().splitlines()
    assert len(lines) == len(set(lines)), 'no line twice'


def test_what_it_wrote_loads_in_the_reference(trained):
    reference = pytest.importorskip('model')
    folder, _ = trained
    best = {s: folder / f'experiments/small/{s}/best_model' for s in ('tokenizer', 'basemodel')}
    theirs = reference.KronosTokenizer.from_pretrained(best['tokenizer']).eval()
    ours = KronosTokenizer.from_pretrained(best['tokenizer'])
    x = torch.randn(2, 30, 6)
    with torch.no_grad():
        ids = ours.encode(x, half=True)
        assert all(torch.equal(a, b) for a, b in zip(ids, theirs.encode(x, half=True)))
        stamp = torch.ones(2, 30, 5, dtype=torch.long)
        theirs = reference.Kronos.from_pretrained(best['basemodel']).eval()
        ours = Kronos.from_pretrained(best['basemodel'])
        assert torch.allclose(theirs.decode_s1(*ids, stamp)[0], ours(*ids, stamp)[0], atol=1e-5)


@pytest.mark.parametrize('flag', ['--skip-basemodel', '--skip_basemodel'])
def test_both_spellings_of_flags(tmp_path, flag):
    command = ['-m', 'kronos_nb.train_sequential', '--config', small_config(tmp_path)]
    result = run(*command, flag, '--set', 'training.batch_size=8', cwd='/')
    assert result.returncode == 0, result.stderr
    root = tmp_path / 'experiments/small'
    assert set(pd.read_csv(root / 'logs/metrics.csv').stage) == {'tokenizer'}
    assert not (root / 'basemodel').exists() and 'batch_size: 8' in (root / 'config.yaml').read_text()


def test_single_stages_and_skipping(tmp_path):
    config = small_config(tmp_path)
    missing = run('-m', 'kronos_nb.finetune_base_model', '--config', config)
    assert missing.returncode == 2 and 'stage 2 needs the tokenizer of stage 1' in missing.stderr
    for module in ('finetune_tokenizer', 'finetune_base_model'):
        result = run('-m', f'kronos_nb.{module}', '--config', config)
        assert result.returncode == 0, result.stderr
    weights = tmp_path / 'experiments/small/basemodel/best_model/model.safetensors'
    before = weights.stat().st_mtime_ns
    result = run('-m', 'kronos_nb.train_sequential', '--config', config, '--skip-existing')
    assert result.returncode == 0 and weights.stat().st_mtime_ns == before and 'CRPS' in result.stdout


def test_console_scripts_exist():
    cfg = ConfigParser(delimiters=['='], interpolation=None)
    cfg.read(ROOT / 'settings.ini')
    scripts = dict(line.split('=') for line in cfg['DEFAULT']['console_scripts'].split())
    assert {
        'kronos_train_sequential',
        'kronos_finetune_tokenizer',
        'kronos_finetune_base_model',
        'kronos_check_data',
        'kronos_get_sample',
    } <= set(scripts)
    for target in scripts.values():
        module, name = target.split(':')
        assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(training=dict(batch_sise=8)), ['small.yaml', 'training.batch_sise', 'training.batch_size']),
        (dict(data=dict(train_ratio=0.95)), ['small.yaml', 'data', 'must not exceed 1']),
        (dict(data=dict(lookback_window=4000)), ['train split is too short', '4009']),
        (dict(data=dict(val_ratio=0.01)), ['val split is too short']),
        (dict(data=dict(data_path='nowhere.csv')), ['nowhere.csv']),
        (
            dict(
                experiment=dict(pre_trained=True),
                model_paths=dict(pretrained_tokenizer='./no', pretrained_predictor='./no'),
            ),
            ['no such folder'],
        ),
        (dict(architecture=dict(predictor='gigantic')), ['architecture.predictor', 'gigantic']),
    ],
)
@pytest.mark.parametrize('module', ['train_sequential', 'finetune_tokenizer'])
def test_mistakes_are_sentences(tmp_path, module, change, words):
    result = run('-m', f'kronos_nb.{module}', '--config', small_config(tmp_path, **change))
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    assert all(w in result.stderr for w in words), result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['small.yaml'], 'nothing is written'


@pytest.mark.heavy
def test_two_processes_train_what_one_trains(tmp_path):
    "2 x batch 8 sees the samples of 1 x batch 16, and ends with the same weights and losses."
    roots = {}
    torchrun = ['-m', 'torch.distributed.run', '--nnodes=1', '--nproc_per_node=2', f'--master_port={free_port()}']
    device = dict(use_cuda=not torch.cuda.is_available())  # asked for where there is none, as in most YAMLs
    for name, batch, prefix in (('one', 16, []), ('two', 8, torchrun)):
        folder = tmp_path / name
        folder.mkdir()
        training = dict(batch_size=batch, accumulation_steps=2, teacher_forcing=True)
        config = small_config(folder, training=training, device=device)
        command = [*prefix, '-m', 'kronos_nb.train_sequential', '--config', config]
        result = run(*command, DIST_BACKEND='gloo', OMP_NUM_THREADS='1')
        assert result.returncode == 0, result.stderr
        roots[name] = folder / 'experiments/small'
        assert result.stdout.count('Experiment') == 1, 'only the main process speaks'
    a, b = (pd.read_csv(r / 'logs/metrics.csv') for r in roots.values())
    for column in ('train_loss', 'val_loss'):
        assert torch.allclose(*(torch.tensor(m[column].dropna().values) for m in (a, b)), atol=1e-4)
    for stage, cls in (('tokenizer', KronosTokenizer), ('basemodel', Kronos)):
        one, two = (cls.from_pretrained(r / stage / 'best_model').state_dict() for r in roots.values())
        assert all(torch.allclose(one[k].float(), two[k].float(), atol=2e-3) for k in one), stage
    assert re.search(r'8 x 2 x 2 windows', (roots['two'] / 'logs/training.log').read_text())


def test_two_runs_are_identical(trained, tmp_path):
    folder, _ = trained
    result = run('-m', 'kronos_nb.train_sequential', '--config', small_config(tmp_path))
    assert result.returncode == 0
    for f in ('tokenizer/best_model/model.safetensors', 'basemodel/best_model/model.safetensors', 'scores.csv'):
        assert (tmp_path / 'experiments/small' / f).read_bytes() == (folder / 'experiments/small' / f).read_bytes(), f


def test_every_config_parses():
    paths = sorted((ROOT / 'configs').glob('*.yaml'))
    assert len(paths) >= 3
    for p in paths:
        data = load_config(p).data
        assert data.data_path or data.synthetic_bars


IBM = ROOT / 'data/us_daily/IBM.csv'


@pytest.fixture
def forecast(trained, tmp_path):
    "`kronos_forecast` of the trained experiment with further flags, in a folder of its own."
    flags = ['--model', trained[0] / 'experiments/small', '--horizon', 6, '--paths', 12, '--seed', 3]
    return lambda *more: run('-m', 'kronos_nb.forecast_files', *flags, *more, cwd=tmp_path)


def test_forecast_command(forecast, tmp_path):
    "A trained experiment forecasts a folder and a file; the same seed gives the same table."
    folder = ['--data', ROOT / 'data/us_daily', '--at', '2012-06-01']
    for name in ('a.csv', 'b.csv'):
        result = forecast(*folder, '--out', name, '--paths-out', 'paths.parquet', '--plot', 'fan.png')
        assert result.returncode == 0, result.stderr
    assert (tmp_path / 'a.csv').read_bytes() == (tmp_path / 'b.csv').read_bytes()
    table, paths = pd.read_csv(tmp_path / 'a.csv'), pd.read_parquet(tmp_path / 'paths.parquet')
    assert len(table) == 4 * 6 and len(paths) == 4 * 12 * 6 and set(table.symbol) == {'AAPL', 'GOOG', 'IBM', 'MSFT'}
    assert (paths.high >= paths[['open', 'low', 'close']].max(axis=1)).all() and (paths.volume >= 0).all()
    assert len(list(tmp_path.glob('fan_*.png'))) == 4
    result = forecast('--data', IBM, '--at', '2012-06-01', '--out', 'one.csv')
    assert result.returncode == 0, result.stderr
    alone = pd.read_csv(tmp_path / 'one.csv')
    in_company = table[table.symbol == 'IBM'].drop(columns='symbol').reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, in_company, rtol=1e-4)


def test_mistakes_of_the_forecast_command_are_sentences(forecast):
    for flags, words in (
        (['--data', 'no.csv'], 'no.csv'),
        (['--data', IBM, '--plot', 'x.pdf'], 'must end in'),
        (['--data', IBM, '--calendar', 'XNYX'], 'did you mean'),
    ):
        result = forecast(*flags)
        assert result.returncode == 2 and words in result.stderr and 'Traceback' not in result.stderr, result.stderr


def test_the_readme_imports_load_predictor_from_the_command():
    code = 'from kronos_nb.forecast_files import load_predictor; print(load_predictor.__module__)'
    assert run('-c', code).stdout.split() == ['kronos_nb.forecasting.files']
