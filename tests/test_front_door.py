"The package's own module: every public name, nothing heavy until it is used, and functions that modules cannot hide."

import ast
import pickle
from importlib import import_module

import pytest
from conftest import ROOT, run

import kronos_nb

HEAVY = 'torch pandas numba pyarrow matplotlib plotly scipy accelerate'.split()
NAMES = sorted(kronos_nb._MODULES)
COMMANDS = [name for name in NAMES if kronos_nb._MODULES[name] == name]  # a function and a module have this name


def imported_by(code):
    "The heavy packages that a fresh Python has loaded after `code`."
    result = run('-c', f'import sys\n{code}\nprint("loaded", *(set({HEAVY}) & set(sys.modules)))')
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1].split()[1:]


def after(*argv, code=0):
    "Python that ends with `train_sequential`'s command called with `argv`, which must exit with `code`."
    return f'''
from kronos_nb.train_sequential import main
try: main({list(argv)!r})
except SystemExit as e: assert e.code == {code}, e.code
'''


# ---- nothing heavy before it is needed


def test_importing_the_package_imports_nothing_else():
    assert not imported_by('import kronos_nb; dir(kronos_nb)')
    assert not imported_by('from kronos_nb import UserError, load_config, train_sequential, evaluate')


def test_help_imports_nothing_heavy():
    assert not imported_by(after('--help'))


@pytest.mark.parametrize(
    'text',
    ['data: [1, 2', 'data: {data_path: x.csv}\ntraining: {batchsize: 8}', 'data: {data_path: x.csv, clip: many}'],
)
def test_a_mistake_in_a_yaml_is_told_before_anything_heavy_is_imported(tmp_path, text):
    (tmp_path / 'my.yaml').write_text(text)
    assert not imported_by(after('--config', str(tmp_path / 'my.yaml'), code=2))


# ---- every name is there


@pytest.mark.parametrize('name', NAMES)
def test_names_are_what_their_modules_define(name):
    value = getattr(kronos_nb, name)
    assert value is getattr(import_module(f'kronos_nb.{kronos_nb._MODULES[name]}'), name)
    assert callable(value) and name in dir(kronos_nb)


def test_type_checkers_are_told_the_same_names():
    tree = ast.parse((ROOT / 'kronos_nb/__init__.py').read_text(encoding='utf-8'))
    [block] = [n for n in tree.body if isinstance(n, ast.If)]
    told = {a.asname: n.module for n in block.body for a in n.names if a.asname == a.name}
    assert told == kronos_nb._MODULES
    assert (ROOT / 'kronos_nb/py.typed').is_file()


def test_tab_shows_nothing_else():
    result = run('-c', 'import kronos_nb; print(*(n for n in dir(kronos_nb) if not n.startswith("_")))')
    assert result.stdout.split() == NAMES


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="module 'kronos_nb' has no attribute 'elephant'"):
        kronos_nb.elephant
    with pytest.raises(ImportError):
        from kronos_nb import elephant  # noqa: F401


# ---- a command's function keeps its name


@pytest.mark.parametrize(
    'first',
    [
        'import kronos_nb.evaluate',
        'from kronos_nb.evaluate import main',
        'from kronos_nb import evaluate',
        'import importlib; importlib.import_module("kronos_nb.evaluate")',
        'import kronos_nb.evaluate, kronos_nb.train_sequential, importlib; importlib.reload(kronos_nb)',
        'import kronos_nb; kronos_nb.evaluate',
    ],
)
def test_the_function_wins_whatever_was_imported_before(first):
    code = f'''
{first}
import sys, types, kronos_nb
import kronos_nb.evaluate
assert isinstance(kronos_nb.evaluate, types.FunctionType), kronos_nb.evaluate
assert isinstance(sys.modules['kronos_nb.evaluate'], types.ModuleType)
from kronos_nb.evaluate import evaluate, main
assert kronos_nb.evaluate is evaluate
'''
    result = run('-c', code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('name', COMMANDS)
def test_functions_can_be_pickled_and_modules_found(name):
    function, module = getattr(kronos_nb, name), import_module(f'kronos_nb.{name}')
    assert pickle.loads(pickle.dumps(function)) is function
    assert callable(module.main) and getattr(module, name) is function is getattr(kronos_nb, name)


@pytest.mark.parametrize('name', COMMANDS)
def test_modules_still_run(name):
    result = run('-m', f'kronos_nb.{name}', '--help')
    assert result.returncode == 0 and 'usage:' in result.stdout, result.stderr
