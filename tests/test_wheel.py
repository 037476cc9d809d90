"The wheel is enough: built, installed in a bare environment away from the clone, it begins and runs the quickstart."

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from zipfile import ZipFile

import pytest
from conftest import ROOT

pytestmark = pytest.mark.heavy
CARRIED = (
    'configs/quickstart.yaml',
    'data/us_daily/IBM.csv',
    'nbs/tutorials/01_first_forecast.ipynb',
)
WEIGHTS = 'kronos_nb/weights/nano/predictor/model.safetensors'


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "A wheel and an sdist, made of a copy without what git ignores."
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('dist')
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split('\0')):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(out), str(source)]
    made = subprocess.run(command, capture_output=True, text=True, cwd=out)  # the wheel is made from the sdist
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return next(out.glob('*.whl')), next(out.glob('*.tar.gz'))


def test_both_carry_what_a_beginner_needs(built):
    wheel, sdist = built
    in_wheel = ZipFile(wheel).namelist()
    in_sdist = [name.partition('/')[2] for name in tarfile.open(sdist).getnames()]
    assert {f'kronos_nb/starter/{name}' for name in CARRIED} | {WEIGHTS, 'kronos_nb/py.typed'} <= {*in_wheel}
    assert {*CARRIED, WEIGHTS} <= {*in_sdist}
    assert not [name for name in in_wheel if name.startswith('tests') or 'HK_ali' in name]


def test_the_quickstart_runs_from_the_wheel(built, tmp_path):
    "In an environment that has our dependencies and no clone of ours."
    environment = tmp_path / 'venv'
    venv.create(environment, with_pip=True)
    python = environment / 'bin/python'
    if os.name == 'nt':
        python = environment / 'Scripts/python.exe'
    ours = sysconfig.get_paths()['purelib']
    find = [str(python), '-c', 'import sysconfig; print(sysconfig.get_paths()["purelib"])']
    theirs = subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()
    # the dependencies are this environment's, by a plain path, under which no editable installation works
    with open(f'{theirs}/dependencies.pth', 'w') as f:
        f.write(ours + '\n')

    clean = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}

    def run(*command, cwd=tmp_path):
        done = subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run(python, '-m', 'pip', 'install', '--no-deps', '--no-index', '--force-reinstall', built[0])
    assert theirs in run(python, '-c', 'import kronos_nb; print(kronos_nb.__file__)')
    commands = python.parent
    assert 'kronos_train_sequential' in run(commands / 'kronos_init', 'mine')
    mine = tmp_path / 'mine'
    assert 'IBM' in run(commands / 'kronos_check_data', '--config', 'configs/quickstart.yaml', cwd=mine)
    short = ['basemodel_epochs=1', 'samples_per_epoch=64', 'batch_size=16']
    settings = [f'--set=training.{s}' for s in short] + ['--set=forecast.origins=4', '--set=forecast.pictures=1']
    run(commands / 'kronos_train_sequential', '--config', 'configs/quickstart.yaml', *settings, cwd=mine)
    flags = ['--data', 'data/us_daily/IBM.csv', '--at', '2012-06-01', '--paths', 10, '--out', 'forecast.csv']
    run(commands / 'kronos_forecast', '--model', 'experiments/quickstart', *flags, cwd=mine)
    assert (mine / 'forecast.csv').read_text().count('\n') == 25
