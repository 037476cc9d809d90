"""Lay the notebooks of `nbs/` out for Sphinx, in `_docs/source`: a page for each, as it is committed, with its outputs.

`06_data.klines.ipynb` becomes `data/klines.html`. Exported cells become Sphinx objects with tables of parameters,
followed by their source; nbdev's directives go; links between notebooks stay inside the site. Navigation follows the
folders and, for the notebooks that make the package, its sub-packages in the order of the numbers, each with the
docstring of its `__init__.py`. Nothing is executed and the package is not imported. Files that did not change are left
alone, so that Sphinx reads again only what did."""

import ast
import configparser
import json
import os
import re
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

from api import describe

ROOT = Path(__file__).parent.parent
SETTINGS = configparser.ConfigParser(delimiters=['='])
SETTINGS.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = SETTINGS['DEFAULT']
NBS = ROOT / SETTINGS['nbs_path']
GITHUB = f"{SETTINGS['git_url']}/blob/{SETTINGS['branch']}"

FOLDERS = dict(
    tutorials='Tutorials',
    zh='中文教程',
    how_to='How-to',
    explanations='Explanations',
    reference='Reference',
    benchmarks='Benchmarks',
)
TOP = dict(  # the modules that stand in no sub-package, before the first of them and after
    ground=('Ground', 'What a user tells the program, and how a mistake is answered.'),
    commands=('Commands', 'What is typed into a shell: flags are parsed, checked and handed to the packages.'),
)
CHANGELOG = ROOT / 'CHANGELOG.md'
DIRECTIVE = re.compile(r'^\s*#\|\s*(.*?)\s*$\n?', re.M)
WIDGET, PLOTLY = 'application/vnd.jupyter.widget-view+json', 'application/vnd.plotly.v1+json'


# ---- what is there


class Page:
    "A notebook, and where it goes."

    def __init__(self, path):
        self.path, self.cells = path, json.loads(path.read_text(encoding='utf-8'))['cells']
        for c in self.cells:
            c['source'] = ''.join(c['source'])
        where = path.relative_to(NBS)
        self.doc = (where.parent / re.sub(r'^\d+[a-z]?_', '', where.stem).replace('.', '/')).as_posix()
        self.folder, self.number = where.parent.as_posix(), re.match(r'(\d+)_', where.stem)
        head = self.cells[0]['source']
        self.title = re.search(r'^# (.+?)\s*$', head, re.M)[1]
        self.quote = ' '.join(re.findall(r'^> (.*)', head, re.M))
        name = next(
            (m[1] for c in self.cells if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', c['source'], re.M))), None
        )
        self.module = name and f"{SETTINGS['lib_path']}.{name}"
        self.defines = []  # filled by `read`
        for c in self.cells:
            c['directives'] = (
                [d.split()[0].rstrip(':') for d in DIRECTIVE.findall(c['source']) if d]
                if c['cell_type'] == 'code'
                else []
            )
            c['exported'] = bool({'export', 'exports'} & set(c['directives'])) and 'hide' not in c['directives']
            if not c['exported']:
                continue
            c['objects'] = describe(DIRECTIVE.sub('', c['source']))
            self.defines += [name for names, _ in c['objects'] for name in names]

    @property
    def section(self):
        "The part of the site it stands in: a folder's name, `reference` for what makes the package, or nothing."
        if self.folder != '.':
            return self.folder.split('/')[0]
        return 'reference' if self.number else ''

    @property
    def package(self):
        "The sub-package its module belongs to, or nothing at the top."
        return self.doc.rpartition('/')[0] if self.section == 'reference' else ''


def read():
    "All pages, in the order of their files."
    paths = [p for p in sorted(NBS.rglob('*.ipynb')) if not any(x[0] in '._' for x in p.relative_to(NBS).parts)]
    pages = [Page(p) for p in paths]
    seen = {}
    for p in pages:
        if other := seen.setdefault(p.doc, p) is not p and seen[p.doc]:
            sys.exit(f'{p.path} and {other.path} would both become {p.doc}.html: rename one')
    return pages


class Translation(Page):
    "A notebook whose prose is another: code and outputs are those of the original."

    def __init__(self, original, text):
        "`text` is markdown in which `<!-- ID -->` stands before the prose of the cell ID."
        self.__dict__ |= {k: deepcopy(v) for k, v in vars(original).items() if k != 'folder'}
        self.folder, self.doc, self.defines = 'zh', f'zh/{original.doc.rpartition("/")[2]}', []
        prose = dict(re.findall(r'<!-- ([0-9a-f]{8}) -->\n+(.*?)\n*(?=<!-- [0-9a-f]{8} -->|\Z)', text, re.S))
        own = {c.get('id') for c in self.cells if c['cell_type'] == 'markdown'}
        if other := prose.keys() ^ own:
            print(f'{original.path.name}: the translation knows other cells: {", ".join(sorted(other))}')
        for c in self.cells:
            c['source'] = prose.get(c.get('id'), c['source'])  # what is not translated stays
        self.title = re.search(r'^# (.+?)\s*$', self.cells[0]['source'], re.M)[1]
        self.quote = ' '.join(re.findall(r'^> (.*)', self.cells[0]['source'], re.M))


def translations(pages):
    "The pages in `docs/zh`, one per file there, called as the notebook is."
    by_name = {p.path.stem: p for p in pages}
    return [
        Translation(by_name[f.stem], f.read_text(encoding='utf-8')) for f in sorted((ROOT / 'docs/zh').glob('*.md'))
    ]


class Links:
    "Where links and names lead."

    def __init__(self, pages):
        self.pages = {p.path: p for p in pages}
        self.readmes = {'README.md': 'index', 'README.zh.md': 'index_zh'}
        self.names = {}
        for p in pages:
            for n in p.defines:
                self.names.setdefault(n, []).append(f'{p.module}.{n}')

    def target(self, url, page):
        "`url` as seen from `page`: inside the site where it has a page, else on GitHub where it is a file there."
        address, mark, anchor = url.partition('#')
        if address.startswith(GITHUB + '/'):
            path = ROOT / address[len(GITHUB) + 1 :]
        elif re.match(r'[a-z]+:', url) or not address:
            return f'#{anchor.lower()}' if not address else url
        else:
            path = Path(os.path.normpath(page.path.parent / address))
        if path == CHANGELOG:
            return os.path.relpath('changelog', Path(page.doc).parent) + '.md' + mark + anchor.lower()
        doc = next((d for name, d in self.readmes.items() if path == ROOT / name), None)
        other = self.pages.get(path) or next((p for p in self.pages.values() if doc and p.doc == doc), None)
        if other:
            return os.path.relpath(other.doc, Path(page.doc).parent) + '.ipynb' + mark + anchor.lower()
        if path.suffix in IMAGES and path.is_relative_to(NBS) and not address.startswith('http'):
            return os.path.relpath(path.relative_to(NBS), Path(page.doc).parent)
        if address.startswith('http') or not path.exists() or not path.is_relative_to(ROOT):
            return url
        return f'{GITHUB}/{path.relative_to(ROOT).as_posix()}{mark}{anchor}'

    def name(self, text, page):
        "The full name that `text` means on `page`, or None."
        text = re.sub(r'\(\)$', '', text)
        full = self.names.get(text) or (
            [text]
            if text.startswith(SETTINGS['lib_path'] + '.') and any(text in f for f in self.names.values())
            else []
        )
        if not full and '_' in text:
            full = [
                f'{page.module}.{n}' for n in page.defines if n.endswith(f'.{text}')
            ]  # a method, spoken of where it is defined
        mine = [f for f in full if f == f'{page.module}.{text}']
        return (mine or full)[0] if mine or len(full) == 1 else None


# ---- markdown

IMAGES = {'.png', '.jpg', '.jpeg', '.gif', '.svg', '.webp'}


def outside_code(text, change):
    "Apply `change` to the parts of `text` that are not fenced code."
    parts = re.split(
        r'(^ *(?P<fence>`{3,}|~{3,}).*?^ *(?P=fence)[`~]* *$)', text, flags=re.M | re.S
    )  # text, code, fence, text, ...
    return ''.join(change(p) if i % 3 == 0 else p for i, p in enumerate(parts) if i % 3 != 2)


def markdown(text, page, links):
    "A notebook's markdown as the site's: links that lead, and names in code that link to what they name."

    def change(t):
        t = re.sub(r'(\]\()([^)\s]+)', lambda m: m[1] + links.target(m[2], page), t)
        return re.sub(
            r'(\[[^\]]*\]\([^)]*\)|^#.*$|``[^`]+``)|(?<![`}])`([^`\n]+)`(?!`)',
            lambda m: m[0] if m[1] else mention(m[2]),
            t,
            flags=re.M,
        )

    def mention(name):
        full = links.name(name, page)
        return f'{{py:obj}}`{name} <{full}>`' if full else f'`{name}`'

    return outside_code(text, change)


class Headings:
    "Levels without gaps: Sphinx refuses a third level under a first."

    def __init__(self):
        self.level = 0

    def __call__(self, text):
        def one(m):
            self.level = min(len(m[1]), self.level + 1)
            return '#' * self.level + ' '

        return outside_code(text, lambda t: re.sub(r'^(#{1,6}) +', one, t, flags=re.M))


# ---- cells


def new(kind, source, **more):
    cell = dict(cell_type=kind, metadata={}, source=source, **more)
    return cell | dict(outputs=cell.get('outputs', []), execution_count=None) if kind == 'code' else cell


def outputs(cell):
    """A cell's outputs as a page can show them: charts for plotly's script, no live widgets, no messages of stderr, no
    figures in words."""
    kept = []
    for o in cell.get('outputs', []):
        data = {k: v if isinstance(v, dict) else ''.join(v) for k, v in o.get('data', {}).items()}
        if (
            o.get('name') == 'stderr'
            or list(data) == ['text/plain']
            and re.match(r'<(Figure|Axes)\b', data['text/plain'])
        ):
            continue
        if PLOTLY in data:
            chart = json.dumps(
                {k: data[PLOTLY][k] for k in ('data', 'layout') if k in data[PLOTLY]}, separators=(',', ':')
            ).replace('</', r'<\/')
            data = {'text/html': f'<div class="chart"><script type="application/json">{chart}</script></div>'}
        elif WIDGET in data:  # nothing drives it here; a bar of progress is nothing to read
            if re.search(r'\d+%\|', data.get('text/plain', '')):
                continue
            data = {k: v for k, v in data.items() if k in ('text/html', 'image/png')} or {
                'text/html': '<p class="live">Shown live in Jupyter.</p>'
            }
        if 'text/html' in data:
            data['text/html'] = re.sub(r'<style scoped>.*?</style>\s*', '', data['text/html'], flags=re.S)
        kept.append(o | dict(data=data) if data else o)
    return kept


def exported(cell, page, links):
    "An exported cell: what it defines, then its source, which can be folded."
    source = DIRECTIVE.sub('', cell['source']).strip()
    file = page.module.replace('.', '/') + '.py'
    only_imports = all(re.match(r'(import|from|#|\s|\)|$)', line) for line in source.splitlines())
    yield from (new('markdown', objects(myst, page, links)) for _, myst in cell['objects'])
    summary, state = ('Imports', '') if only_imports else (file, ' open')
    yield new(
        'markdown',
        f'<details class="source"{state}><summary>{summary}</summary>\n\n```python\n{source}\n```\n\n</details>',
    )


def objects(myst, page, links):
    "A described object, its prose linked; the fences of the description are no code."

    def mention(m):
        full = links.name(m[1].replace(r'\|', '|'), page)
        return f'{{py:obj}}`{m[1]} <{full}>`' if full else m[0]

    lines = myst.split('\n')
    return '\n'.join(
        line if line.startswith(('```', ':')) else re.sub(r'(?<!`)`([^`]+)`(?!`)', mention, line) for line in lines
    )


def head(text, page):
    "The first cell of a page with the module it makes, and where the notebook is, after its quote."
    title, quote, rest = re.match(r'(# [^\n]+\n)(\s*(?:>[^\n]*\n)*)(.*)', text + '\n', re.S).groups()
    where, plain = page.path.relative_to(ROOT).as_posix(), re.sub(r'[`*_]', '', page.quote)
    if page.module:
        title += f'\n```{{py:module}} {page.module}\n:synopsis: {plain}\n```\n'
    made = (
        f'<p class="made">{f"<code>{page.module}</code>, from the notebook" if page.module else "Notebook"} <a'
        f' href="{GITHUB}/{where}">{where}</a></p>'
    )
    return '\n'.join((title, quote, made if page.section else '', '', rest))


def staged(page, links):
    "The cells of a page."
    headings, cells = Headings(), []
    for i, c in enumerate(page.cells):
        said = set(c['directives'])
        if said & {'hide', 'default_exp'}:
            continue
        if c['cell_type'] == 'markdown':
            text = headings(markdown(c['source'], page, links))
            if i == 0:
                text = head(text, page)
            cells.append(new('markdown', text))
        elif c['cell_type'] == 'code':
            if c['exported']:
                cells += exported(c, page, links)
                if c.get('outputs'):
                    cells.append(new('code', '', outputs=outputs(c)))
                continue
            source, out = DIRECTIVE.sub('', c['source']).strip(), outputs(c)
            tags = ['hide-input'] if 'code-fold' in said else []
            if re.search(r'^#\|\s*echo:\s*false', c['source'], re.M):
                tags.append('remove-input')
            if source or out:
                cells.append(new('code', source, outputs=out) | dict(metadata=dict(tags=tags)))
    return cells


# ---- navigation


def toctree(entries, caption='', hidden=True, depth=1):
    return '\n'.join(
        [
            '```{toctree}',
            *([f':caption: {caption}'] if caption else []),
            *([':hidden:'] if hidden else []),
            f':maxdepth: {depth}',
            '',
            *entries,
            '```',
        ]
    )


def listing(pages, here='.'):
    return '\n'.join(
        f'- [{p.title}]({os.path.relpath(p.doc, here)}.ipynb)' + (f'\\\n  {p.quote}' if p.quote else '') for p in pages
    )


def sentence(package):
    "The docstring of a sub-package's `__init__.py`: what it is, in one sentence."
    init = ROOT / SETTINGS['lib_path'] / package / '__init__.py'
    return (ast.get_docstring(ast.parse(init.read_text(encoding='utf-8'))) if init.exists() else '') or ''


def packages(pages):
    "{document: (name, sentence, its pages)} of the reference, in the order of the notebooks' numbers."
    found = {}
    for p in pages:
        if p.section == 'reference':
            found.setdefault(p.package or ('commands' if any(g not in TOP for g in found) else 'ground'), []).append(p)
    return {f'{g}/index': (*TOP.get(g, (g, sentence(g))), mine) for g, mine in found.items()}


def package_page(doc, name, about, pages):
    "The page of a sub-package: its sentence, its modules, and their place in the navigation."
    here = doc.rpartition('/')[0]
    module = f"{SETTINGS['lib_path']}.{here}"
    made = '' if here in TOP else f'\n```{{py:module}} {module}\n:synopsis: {about}\n```\n'
    return f'# {name}\n{made}\n{about}\n\n{listing(pages, here)}\n\n{toctree([f"/{p.doc}" for p in pages])}\n'


def contents(pages):
    "The sections of the landing page: what there is, and the navigation."
    folders = {
        **FOLDERS,
        **{
            p.section: p.section.replace('_', ' ').capitalize() for p in pages if p.section not in FOLDERS and p.section
        },
    }
    shown, trees = ['## Contents'], []
    trees.append(toctree([*(p.doc for p in pages if not p.section and p.doc != 'index'), 'changelog']))
    for folder, name in folders.items():
        mine = [p for p in pages if p.section == folder]
        if not mine:
            continue
        if folder == 'reference':
            groups = packages(pages)
            lines = [
                f'- [{n}]({doc}.md): {about}\\\n  ' + ', '.join(f'[{p.title}]({p.doc}.ipynb)' for p in ps)
                for doc, (n, about, ps) in groups.items()
            ]
            lines.append('- {ref}`All names <genindex>`, {ref}`all modules <modindex>`')
            shown.append(f'### {name}\n\n' + '\n'.join(lines))
            trees.append(toctree(groups, name))
        else:
            shown.append(f'### {name}\n\n{listing(mine)}')
            trees.append(toctree([p.doc for p in mine], name))
    return [new('markdown', t) for t in ['\n\n'.join(shown), *trees]]


# ---- writing


def main(out=ROOT/'_docs/source'):
    out, pages = Path(out), read()
    links, files = Links(pages), {}
    pages += translations(pages)
    changes = SimpleNamespace(path=CHANGELOG, doc='changelog', module=None, defines=[])
    files['changelog.md'] = markdown(CHANGELOG.read_text(encoding='utf-8'), changes, links).encode()
    for p in pages:
        cells = staged(p, links) + (contents(pages) if p.doc == 'index' else [])
        kernel = dict(
            kernelspec=dict(name='python3', display_name='Python 3', language='python'),
            language_info=dict(name='python', pygments_lexer='ipython3'),
        )
        for i, c in enumerate(cells):
            c['id'] = f'c{i}'
        files[f'{p.doc}.ipynb'] = json.dumps(
            dict(cells=cells, metadata=kernel, nbformat=4, nbformat_minor=5), ensure_ascii=False, indent=1
        ).encode()
    for doc, group in packages(pages).items():
        files[f'{doc}.md'] = package_page(doc, *group).encode()
    for picture in NBS.rglob('*'):
        if picture.suffix in IMAGES:
            files[picture.relative_to(NBS).as_posix()] = picture.read_bytes()
    files['notebooks.json'] = json.dumps({p.doc: p.path.relative_to(ROOT).as_posix() for p in pages}, indent=1).encode()
    for old in [f for f in out.rglob('*') if f.is_file() and f.relative_to(out).as_posix() not in files]:
        old.unlink()
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != text:
            path.write_bytes(text)
    print(f'{len(pages)} notebooks, {sum(len(p.defines) for p in pages)} objects')


if __name__ == '__main__':
    main(*sys.argv[1:])
