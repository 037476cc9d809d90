"Every public name says what it is: a docstring, and a word on every parameter, field, constant and returned array."

import ast
import io
import re
import tokenize

import pytest
from conftest import ROOT

FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
OPEN = re.compile(
    r'Tensor|ndarray|DataFrame|Series|float|\b[Tt]uple|\b[Dd]ict|\blist$|Iterator|Generator'
)  # a type that leaves open what is in it: its shape, its unit
SHAPE = re.compile(r'\((\.\.\.|[^()]*,[^()]*)\)')  # (B, T, 6), (lower, upper)


def names_of(nodes):
    return {ast.unparse(n).split('(')[0].split('.')[-1] for n in nodes}


def returns(node):
    "Whether a function gives something back."
    inner = [n for n in ast.iter_child_nodes(node) if not isinstance(n, (*FUNCTIONS, ast.ClassDef, ast.Lambda))]
    return any(
        isinstance(n, (ast.Return, ast.Yield)) and n.value is not None and ast.unparse(n.value) != 'None' or returns(n)
        for n in inner
    )


class Holes(list):
    """What a module's source leaves unsaid about its public names.

    A parameter is explained by a comment at the end of its line, which it may share with others, or alone on the line
    above; a result by the comment on the line that ends the head when no parameter stands there, by `->` in the comment
    when one does, by a shape in the docstring, or by its type alone where that says it all; a field or a constant like
    a parameter. What a command's `Param` and a pydantic `Field` say of themselves counts as well."""

    def __init__(self, source):
        self.lines = source.splitlines()
        self.tokens = [*tokenize.generate_tokens(io.StringIO(source).readline)]
        self.said = {
            t.start[0]: t.string.strip('# ')
            for t in self.tokens
            if t.type == tokenize.COMMENT and re.match(r'#+ *[^|%# ]', t.string)
        }
        body = ast.parse(source).body
        assigned = {
            name.id: n
            for n in body[::-1]
            if isinstance(n, (ast.Assign, ast.AnnAssign))
            for t in (n.targets if isinstance(n, ast.Assign) else [n.target])
            for name in ast.walk(t)
            if isinstance(name, ast.Name)
        }
        patches = [n for n in body if isinstance(n, FUNCTIONS) and 'patch' in names_of(n.decorator_list)]
        defined = {n.name: n for n in body if isinstance(n, (*FUNCTIONS, ast.ClassDef)) and n not in patches}
        for n in patches:
            if not n.name.startswith('_'):
                self.function(n, f'{ast.unparse(n.args.args[0].annotation)}.{n.name}')
        for name in ast.literal_eval(assigned['__all__'].value) if '__all__' in assigned else []:
            if name in defined:
                (self.cls if isinstance(defined[name], ast.ClassDef) else self.function)(defined[name], name)
            elif name not in assigned:
                self.append(f'{name} is in __all__ and nowhere else')
            elif not self.explained(assigned[name]):
                self.append(f'{name}: a constant without a comment')

    def explained(self, node):
        return self.at_end(node.end_lineno) or node.lineno in self.said or self.above(node.lineno)

    def at_end(self, line):
        return line in self.said and not self.alone(line)

    def alone(self, line):
        return self.lines[line - 1].lstrip().startswith('#')

    def above(self, line):
        return line - 1 in self.said and self.alone(line - 1)

    def cls(self, node, name):
        if not ast.get_docstring(node):
            self.append(f'{name}: no docstring')
        for n in node.body:
            if isinstance(n, FUNCTIONS) and (not n.name.startswith('_') or n.name in ('__init__', '__call__')):
                self.function(n, f'{name}.{n.name}')
            if isinstance(n, ast.AnnAssign) and not n.target.id.startswith('_') and not self.explained(n):
                described = {k.arg: ast.unparse(k.value) for k in getattr(n.value, 'keywords', [])}.get(
                    'description', "''"
                )
                if len(described) < 3:
                    self.append(f'{name}.{n.target.id}: a field without a comment')

    def head_end(self, node):
        "The line of the colon that ends a function's head."
        depth = 0
        for t in self.tokens:
            if t.start < (node.lineno, node.col_offset):
                continue
            depth += (t.string in '([{') - (t.string in ')]}') if t.type == tokenize.OP else 0
            if t.string == ':' and not depth:
                return t.start[0]

    def function(self, node, name):
        kinds, a, special = names_of(node.decorator_list), node.args, node.name.startswith('__')
        if kinds & {'setter', 'overload'}:
            return
        if not special and not ast.get_docstring(node):
            self.append(f'{name}: no docstring')
        pairs = [
            *zip([*a.posonlyargs, *a.args][::-1], [*a.defaults[::-1], *[None] * 99]),
            *zip(a.kwonlyargs, a.kw_defaults),
        ]
        pairs = [
            (x, d)
            for x, d in pairs
            if x.arg not in ('self', 'cls') and not (x in (a.posonlyargs + a.args)[:1] and 'patch' in kinds)
        ]
        pairs += [(x, None) for x in (a.vararg, a.kwarg) if x]
        at = {x.arg: (d or x).end_lineno for x, d in pairs}
        for x, _ in pairs:
            helped = (
                isinstance(x.annotation, ast.Call) and x.annotation.args and len(ast.unparse(x.annotation.args[0])) > 2
            )
            if not helped and not self.at_end(at[x.arg]) and not self.above(x.lineno):
                self.append(f'{name}: parameter {x.arg} is not explained')
        if special or kinds & {'property', 'cached_property'} or not returns(node):
            return
        end, said = self.head_end(node), ast.unparse(node.returns) if node.returns else ''
        comment = self.said.get(end, '')
        if '->' in comment or comment and end not in at.values() or SHAPE.search(ast.get_docstring(node) or ''):
            return
        if not said or OPEN.search(said):
            self.append(f'{name}: what it returns is not explained')


PACKAGE = ROOT / 'kronos_nb'
MODULES = [p for p in sorted(PACKAGE.rglob('*.py')) if not p.stem.startswith('_')]


@pytest.mark.parametrize('path', MODULES, ids=lambda p: '.'.join(p.relative_to(PACKAGE).with_suffix('').parts))
def test_every_public_name_is_documented(path):
    holes = Holes(path.read_text(encoding='utf-8'))
    assert not holes, '\n'.join(['', *holes])


def test_what_is_not_documented_is_found():
    said = """
__all__ = ['f', 'g', 'A', 'ONE', 'gone']
ONE = 1 # a number
class A:
    "A thing."
    def __init__(self,
                 x:int, y:int=2): # both in bars
        self.x = x
    def plus(self, z): # (N,) -> (N,)
        "The sum."
        return self.x + z
@patch
def minus(self:A,
          z # (N,)
) -> Tensor: # (N,)
    "The difference."
    return self.x - z
def f(
    # in bars
    a:int=lambda: 0,
    b:dict={'c': 1}, # what to call them
    *args, **kwargs # as for `g`
) -> int:
    "How many."
    return a
def g(set:Param('override a key', str)=None): "Nothing comes back."
"""

    def holes(*changes):
        source = said.replace("'ONE', 'gone'", "'ONE'")
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        return Holes(source)

    assert holes() == []
    assert Holes(said) == ['gone is in __all__ and nowhere else']
    for old, new, hole in (
        (' # a number', '', 'ONE: a constant without a comment'),
        ('    "A thing."\n', '', 'A: no docstring'),
        ('    "The difference."\n', '', 'A.minus: no docstring'),
        (' # both in bars', '', 'A.__init__: parameter x is not explained'),
        (' # (N,) -> (N,)', ' # (N,)', 'A.plus: what it returns is not explained'),
        ('z # (N,)\n', 'z\n', 'A.minus: parameter z is not explained'),
        (') -> Tensor: # (N,)', ') -> Tensor:', 'A.minus: what it returns is not explained'),
        ('    # in bars\n', '', 'f: parameter a is not explained'),
        (' # what to call them', '', 'f: parameter b is not explained'),
        (' # as for `g`', '', 'f: parameter kwargs is not explained'),
        (') -> int:', '):', 'f: what it returns is not explained'),
        ("Param('override a key', str)", 'str', 'g: parameter set is not explained'),
        (
            '        self.x = x',
            '        self.x = x\n    @property\n    def twice(self): return 2*self.x',
            'A.twice: no docstring',
        ),
        (
            'class A:\n    "A thing."',
            '@dataclass\nclass A:\n    "A thing."\n    n:int',
            'A.n: a field without a comment',
        ),
    ):
        assert hole in holes((old, new)), (old, holes((old, new)))
