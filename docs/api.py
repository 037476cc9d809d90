"""What an exported cell defines, as Sphinx objects with tables of parameters. It is read from the source: nothing is
imported, nothing runs."""

import ast
import re
from io import StringIO
from tokenize import COMMENT, generate_tokens

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
BOUNDS = dict(gt='>', ge='≥', lt='<', le='≤')


# ---- text


def prose(text):
    "Text in which nothing but `code` is markup; paragraphs stay."
    paragraphs = re.split(r'\n\s*\n', text or '')

    def escape(p):
        parts = re.split(r'(`[^`]+`)', re.sub(r'\s*\n\s*', ' ', p.strip()))
        return ''.join(x if x.startswith('`') else re.sub(r'([\\*_\[\]<>$|{}#~^`])', r'\\\1', x) for x in parts)

    return '\n\n'.join(map(escape, paragraphs))


def code(node_or_text):
    "As inline code; nothing stays nothing."
    text = node_or_text if isinstance(node_or_text, str) else ast.unparse(node_or_text) if node_or_text else ''
    return f'`{text}`' if text else ''


def table(rows):
    "(name, type, default, details) rows as a table without its empty columns; a result alone is a sentence."
    if len(rows) == 1 and rows[0][0] == '*returns*':
        return '*Returns* ' + ': '.join(filter(None, (rows[0][1], rows[0][3])))
    heads = 'Parameter', 'Type', 'Default', 'Details'
    keep = [i for i in range(4) if i == 0 or any(r[i] for r in rows)]

    def line(row):
        return '| ' + ' | '.join(re.sub(r'(?<!\\)\|', r'\|', row[i]) for i in keep) + ' |'

    return '\n'.join([line(heads), '|' + '---|' * len(keep), *map(line, rows)]) if rows else ''


def directive(kind, head, *parts, options=(), inside=False):
    "A Sphinx object; one inside another has the shorter fence."
    fence = '````' if inside else '`````'
    return '\n'.join([f'{fence}{{py:{kind}}} {head}', *options, '', '\n\n'.join(filter(None, parts)), fence])


# ---- source


def comments_in(source):
    "{line: comment}."
    return {
        t.start[0]: t.string.lstrip('#').strip()
        for t in generate_tokens(StringIO(source).readline)
        if t.type == COMMENT
    }


def end_of_head(fn, source):
    "The line of the colon that ends `fn`'s head."
    depth, lines = 0, source.splitlines(keepends=True)[fn.lineno - 1 :]
    for t in generate_tokens(iter(lines).__next__):
        depth += (t.string in ('(', '[', '{')) - (t.string in (')', ']', '}'))
        if t.string == ':' and not depth:
            return fn.lineno - 1 + t.start[0]


def arguments(fn, bound):
    "(argument, name with its stars, default or None), in order; `bound` leaves the first out."
    a = fn.args
    plain = [*a.posonlyargs, *a.args]
    rows = list(zip(plain, [p.arg for p in plain], [None] * (len(plain) - len(a.defaults)) + a.defaults))
    if a.vararg:
        rows.append((a.vararg, f'*{a.vararg.arg}', None))
    rows += zip(a.kwonlyargs, [p.arg for p in a.kwonlyargs], a.kw_defaults)
    if a.kwarg:
        rows.append((a.kwarg, f'**{a.kwarg.arg}', None))
    return rows[bound:]


def signature(args, only_named=()):
    "`(a, b=1)`: the types are in the table. `only_named` are the arguments after a star."
    parts = []
    for arg, name, default in args:
        if arg in only_named and not any(re.match(r'\*(?!\*)', p) for p in parts):
            parts.append('*')
        text = ast.unparse(default) if default else ''
        parts.append(f'{name}={text if len(text) <= 32 else "..."}' if default else name)
    return f'({", ".join(parts)})'


def parameter(arg, name, default):
    "(name, type, default, its help) where the help stands in fastcore's `Param`."
    kind, help = arg.annotation, ''
    if isinstance(kind, ast.Call) and ast.unparse(kind.func) == 'Param':
        help, *rest = kind.args
        help, kind = ast.literal_eval(help), rest[0] if rest else 'str'
    return code(name), code(kind), code(default), help


def parameter_rows(fn, source, comments, bound):
    "The table of a function: its docments, the comments beside parameters. Parameters that share a line share a row."
    args = arguments(fn, bound)
    lines, last = {a.lineno for a, *_ in args}, end_of_head(fn, source)
    result_at = fn.returns.lineno if fn.returns else last
    result = comments.get(result_at) if fn.returns or result_at not in lines else None
    groups = {}
    for a, name, default in args:
        note = None if result and a.lineno == result_at else comments.get(a.lineno)
        if note is None:  # or whole lines above it
            above = []
            while (at := a.lineno - 1 - len(above)) in comments and at not in lines and at > fn.lineno:
                above.insert(0, comments[at])
            note = ' '.join(above)
        groups.setdefault((a.lineno, note or name), (note, []))[1].append(parameter(a, name, default))
    rows = []
    for note, params in groups.values():
        names, types, defaults, helps = (list(filter(None, x)) for x in zip(*params))
        types, defaults = (x[:1] if len(set(x)) == 1 else x for x in (types, defaults))
        rows.append((*map(', '.join, (names, types, defaults)), prose(note or ' '.join(helps))))
    if result or fn.returns and ast.unparse(fn.returns) != 'None':
        rows.append(('*returns*', code(fn.returns), '', prose(result)))
    return rows


def fields(cls, comments):
    "(rows of the table, arguments of the constructor) of a class that is a list of fields."
    rows, args = [], []
    for f in cls.body:
        if not isinstance(f, ast.AnnAssign) or ast.unparse(f.target).startswith('_'):
            continue
        name, value, note, bounds, given = ast.unparse(f.target), f.value, comments.get(f.lineno), [], True
        if isinstance(value, ast.Call) and ast.unparse(value.func) in ('Field', 'field'):
            options = {k.arg: k.value for k in value.keywords}
            if 'description' in options:
                note = ast.literal_eval(options['description'])
            bounds = [f'{sign} {ast.unparse(options[b])}' for b, sign in BOUNDS.items() if b in options]
            given = 'init' not in options
            factory = options.get('default_factory')
            value = (
                value.args[0]
                if value.args
                else options.get('default') or (ast.Call(factory, [], []) if factory else None)
            )
        rows.append((code(name), ' '.join([code(f.annotation), *bounds]), code(value), prose(note)))
        if given:
            args.append((f, name, value))
    return rows, args


_FIELDS = {}  # of the classes described so far, by name: their bases stand in cells before them


def with_inherited(cls, rows, args):
    "Rows and arguments with those of the class's bases in front."
    for base in reversed(cls.bases):
        before = _FIELDS.get(ast.unparse(base), ([], []))
        rows, args = before[0] + rows, before[1] + args
    _FIELDS[cls.name] = rows, args
    return rows, args


# ---- objects


def marks(fn):
    return [ast.unparse(d) for d in fn.decorator_list]


def shown(fn, comments):
    "Is it public, and is there something to be said about it?"
    return (not fn.name.startswith('_') or fn.name == '__call__') and bool(
        ast.get_docstring(fn) or any(n in comments for n in range(fn.lineno, fn.body[0].lineno))
    )


def function(fn, source, comments, owner=None, inside=False):
    "A function, or with `owner` a method or property of that class."
    name = f'{owner}.{fn.name}' if owner and not inside else fn.name
    how, doc = marks(fn), prose(ast.get_docstring(fn))
    bound = bool(owner) and 'staticmethod' not in how
    rows = parameter_rows(fn, source, comments, bound)
    if any(m.endswith('property') or 'as_prop=True' in m for m in how):
        return directive(
            'property',
            name,
            doc,
            *(r[3] for r in rows),
            options=[f':type: {ast.unparse(fn.returns)}'] if fn.returns else [],
            inside=inside,
        )
    options = [f':{o}:' for o in ('classmethod', 'staticmethod') if o in how]
    if any('cls_method=True' in m for m in how):
        options.append(':classmethod:')
    if isinstance(fn, ast.AsyncFunctionDef):
        options.append(':async:')
    return directive(
        'method' if owner else 'function',
        name + signature(arguments(fn, bound), fn.args.kwonlyargs),
        doc,
        table(rows),
        options=options,
        inside=inside,
    )


def class_(cls, source, comments):
    "A class: its constructor or its fields, and the methods in its body."
    init = next((f for f in cls.body if isinstance(f, FUNCTION) and f.name == '__init__'), None)
    if init:
        rows = parameter_rows(init, source, comments, True)
        head = signature(arguments(init, True), init.args.kwonlyargs)
    else:
        rows, args = with_inherited(cls, *fields(cls, comments))
        head = signature(args) if any('dataclass' in m for m in marks(cls)) else ''
    methods = [
        function(f, source, comments, cls.name, inside=True)
        for f in cls.body
        if isinstance(f, FUNCTION) and shown(f, comments)
    ]
    return directive(
        'class',
        cls.name + head,
        prose(ast.get_docstring(cls)),
        prose(init and ast.get_docstring(init)),
        table(rows),
        *methods,
    )


def owners(fn):
    "The classes that `fn` is patched into."
    if any(m.startswith('patch_to(') for m in marks(fn)):
        return [ast.unparse(d.args[0]) for d in fn.decorator_list if isinstance(d, ast.Call)][:1]
    if any(re.match(r'patch\b|patch_property', m) for m in marks(fn)):
        return re.findall(r'\w+', ast.unparse(fn.args.args[0].annotation))
    return []


def describe(source):
    "[(names, MyST)] of the public functions, classes and patched methods of an exported cell."
    comments, found = comments_in(source), []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            names = [f'{node.name}.{f.name}' for f in node.body if isinstance(f, FUNCTION) and shown(f, comments)]
            found.append(([node.name, *names], class_(node, source, comments)))
        elif isinstance(node, FUNCTION) and not node.name.startswith('_'):
            for owner in owners(node) or [None]:
                found.append(
                    ([f'{owner}.{node.name}' if owner else node.name], function(node, source, comments, owner))
                )
    return found
