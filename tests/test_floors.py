"Imports lead down, nothing heavy is imported to start a command, and functions keep a readable shape."

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT, run

LIB = ROOT / 'kronos_nb'
NUMBER = {  # dotted module: the number of its notebook
    m[2]: int(m[1]) for p in (ROOT / 'nbs').glob('*.ipynb') if (m := re.match(r'(\d+)_(.+)', p.stem))
}
PATHS = {name: LIB / f"{name.replace('.', '/')}.py" for name in sorted(NUMBER, key=NUMBER.get)}
SOURCES = {name: path.read_text(encoding='utf-8') for name, path in PATHS.items() if path.exists()}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
COMMANDS = {  # module: the function that it makes a command
    name: m[1] for name, source in SOURCES.items() if (m := re.search(r'^main = as_command\((\w+)', source, re.M))
}
HEAVY = 'torch pandas numba pyarrow matplotlib plotly scipy accelerate'.split()


def package(name):
    "The sub-package of a module; nothing for one at the top."
    return name.rpartition('.')[0]


def own_imports(name):
    "(module of this package, whether inside a function, line) for every import of a module."
    inside = {id(n) for f in ast.walk(TREES[name]) if isinstance(f, FUNCTION) for n in ast.walk(f)}
    for n in ast.walk(TREES[name]):
        if isinstance(n, ast.ImportFrom) and (n.level or (n.module or '').split('.')[0] == 'kronos_nb'):
            above = name.split('.')[: -n.level] if n.level else []
            base = '.'.join([*above, *(n.module or '').removeprefix('kronos_nb').strip('.').split('.')]).strip('.')
            for target in [base] if base in NUMBER else [f'{base}.{a.name}'.strip('.') for a in n.names]:
                yield target, id(n) in inside, n.lineno
        elif isinstance(n, ast.Import):
            for a in n.names:
                if a.name.split('.')[0] == 'kronos_nb':
                    yield a.name.removeprefix('kronos_nb').strip('.'), id(n) in inside, n.lineno


# ---- floors


def test_packages_stand_one_above_the_other():
    "The numbers of a package's notebooks are neighbours: no other package stands between them."
    order = [package(n) for n in SOURCES if package(n)]
    runs = [p for i, p in enumerate(order) if i == 0 or order[i - 1] != p]
    assert len(runs) == len(set(runs)), runs


def test_imports_lead_down():
    """A notebook imports only from lower numbers, so a package only from packages below it. Inside a function our own
    modules are imported by commands, which start quickly, and by methods that draw a picture."""
    climbs = []
    for name in SOURCES:
        for target, inside, line in own_imports(name):
            picture = inside and package(target) == 'display'
            lower = target in NUMBER and NUMBER[target] < NUMBER[name]
            if not (picture or lower and (not inside or name in COMMANDS)):
                climbs.append(f'kronos_nb.{name}:{line} imports {target}' + (' inside a function' if inside else ''))
    assert not climbs, '\n'.join(['', *climbs])


@pytest.mark.parametrize('name', ['errors', 'config', *sorted(COMMANDS)])
def test_starting_imports_nothing_heavy(name):
    code = f'import sys, kronos_nb.{name}; print(*(set({HEAVY}) & set(sys.modules)))'
    result = run('-c', code)
    assert result.returncode == 0, result.stderr
    assert not result.stdout.split()


# ---- shape

PUBLISHED = {  # signatures that are not ours to choose
    'Kronos.__init__',
    'KronosTokenizer.__init__',
    'BSQuantizer.__init__',
    'BinarySphericalQuantizer.__init__',
    'TransformerBlock.__init__',
    'KronosPredictor.predict',
    'KronosPredictor.predict_batch',
    'KronosPredictor.predict_paths',  # with the names of the two above
    'KronosPredictor.predict_paths_batch',
}


def owner_of(fn):
    "The class a function is patched into, or nothing."
    if any(ast.unparse(d).split('(')[0].startswith('patch') for d in fn.decorator_list):
        to = next((d.args[0] for d in fn.decorator_list if isinstance(d, ast.Call) and d.args), None)
        return ast.unparse(to or fn.args.args[0].annotation)


def functions(body, owner=''):
    "(name with its class, node) of the functions and methods in a body; functions within functions are not among them."
    for n in body:
        if isinstance(n, ast.ClassDef):
            yield from functions(n.body, f'{n.name}.')
        elif isinstance(n, FUNCTION):
            patched = owner_of(n)
            yield f'{patched}.{n.name}' if patched else f'{owner}{n.name}', n
        elif isinstance(n, (ast.If, ast.Try)):
            yield from functions([*n.body, *n.orelse], owner)


def parameters(fn, method):
    "How many parameters a function has; `self` does not count, nor the context that numba hands an intrinsic."
    a, decorators = fn.args, ' '.join(map(ast.unparse, fn.decorator_list))
    bound = method and 'staticmethod' not in decorators or 'intrinsic' in decorators
    return len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs) + bool(a.vararg) + bool(a.kwarg) - bound


EACH = [(module, name, fn) for module, tree in TREES.items() for name, fn in functions(tree.body)]


def test_functions_are_short():
    long = [f'kronos_nb.{m}: {name} has {k} lines' for m, name, f in EACH if (k := f.end_lineno - f.lineno + 1) > 60]
    assert not long, '\n'.join(['', *long])


def test_functions_have_few_parameters():
    many = [
        f'kronos_nb.{m}: {name} has {k} parameters'
        for m, name, f in EACH
        if (k := parameters(f, '.' in name)) > 8 and name not in PUBLISHED and COMMANDS.get(m) != name
    ]
    assert not many, '\n'.join(['', *many])


def test_private_functions_say_what_they_compute():
    bare = [
        f'kronos_nb.{m}: {name}'
        for m, name, f in EACH
        if f.name.startswith('_') and not f.name.startswith('__') and not ast.get_docstring(f)
    ]
    assert not bare, '\n'.join(['', *bare])


def test_no_two_things_share_a_name():
    where = {}
    for module, tree in TREES.items():
        classes = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
        for name in classes | {name for name, _ in functions(tree.body) if '.' not in name}:
            where.setdefault(name, []).append(module)
    twice = [f'{name}: {", ".join(at)}' for name, at in where.items() if len(at) > 1 and not name.startswith('__')]
    assert not twice, '\n'.join(['', *twice])


def test_ruff_finds_nothing():
    result = subprocess.run(
        [sys.executable, '-m', 'ruff', 'check', '--output-format', 'concise', '.'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
