"""Write README.md and README.zh.md from nbs/index.ipynb and nbs/index_zh.ipynb: their prose and code, without Quarto
and the same bytes every time.

The figures in the table whose last column is × are first brought into the notebooks from the outputs of nbs/benchmarks.
"""

import json
import re
from pathlib import Path
from posixpath import normpath

ROOT = Path(__file__).parent.parent
PAGES = {'nbs/index.ipynb': 'README.md', 'nbs/index_zh.ipynb': 'README.zh.md'}


# ---- what was measured


def outputs(name):
    """(all printed text, the rows of all tables) of a committed benchmark; a row is {column: cell}, and `of` what it is
    labelled with."""
    cells = json.loads((ROOT / f'nbs/benchmarks/{name}.ipynb').read_text(encoding='utf-8'))['cells']
    found = [o for c in cells for o in c.get('outputs', [])]
    rows = []
    for page in (''.join(o.get('data', {}).get('text/html', '')) for o in found):
        lines = [re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', r, re.S) for r in re.findall(r'<tr.*?</tr>', page, re.S)]
        head = [c for c in lines[0] if c] if lines else []
        rows += [dict(zip(head, r[-len(head) :])) | dict(of=r[: -len(head)]) for r in lines[1:] if len(r) > len(head)]
    return '\n'.join(''.join(o.get('text', '')) for o in found), rows


def measured():
    "The cells reference, kronos_nb and × of every row of the table."

    def pair(theirs, ours, ratio, about=''):
        return f'{about}{theirs:.3g} s', f'{ours:.3g} s', times(ratio)

    def times(ratio):
        return f'{ratio:.0f}' if ratio >= 10 else f'{ratio:.1f}'

    (_, forecasts), (text, training) = outputs('forecast_speed'), outputs('training_speed')
    table = []
    for size, series, paths, horizon in (('small', 1, 1, 112), ('small', 1, 100, 16), ('mini', 64, 8, 24)):
        r = next(
            r
            for r in forecasts
            if (r.get('size'), r.get('series'), r.get('paths'), r.get('horizon'))
            == (size, str(series), str(paths), str(horizon))
        )
        table.append(
            pair(float(r['reference, s']), float(r['ours, s']), float(r['ratio']), '' if r['steps'] == 'all' else '≈ ')
        )
    ours, theirs, ratio = re.search(r'([\d,]+) windows/s against ([\d,]+): ([\d.]+) x', text).groups()
    table.append((theirs, ours, times(float(ratio))))
    step = next(r for r in training if r['of'][-1] == 'small' and 'reference, s' in r)
    table += [
        pair(float(step['reference, s']), float(step['reference, s']) / float(step[c]), float(step[c]))
        for c in ('no', 'auto')
    ]
    best = re.search(r'reference: .* after (\d+) s', text)[1]
    soon, ratio = re.search(r'teacher forcing: .* as good as the reference after (\d+) s, ([\d.]+) x', text).groups()
    return table + [pair(float(best), float(soon), float(ratio))]


def with_figures(text):
    "`text` with what was measured in the table whose last column is ×."
    table = re.search(r'(?<=\| × \|\n\|---\|---\|---\|---\|\n)(\|.*\|\n)+', text)
    if not table:
        return text
    rows = [
        f'| {" | ".join([line.split(" | ")[0].strip("| "), *cells])} |\n'
        for line, cells in zip(table[0].splitlines(), measured(), strict=True)
    ]
    return text[: table.start()] + ''.join(rows) + text[table.end() :]


# ---- the page


def cell_markdown(cell):
    "A cell as markdown: prose as it is, code fenced, directives left out."
    text = re.sub(r'^#\|.*\n?', '', ''.join(cell['source']), flags=re.M).strip()
    if cell['cell_type'] == 'markdown':
        return text
    return f'```python\n{text}\n```' if text else ''


def from_root(text, folder='nbs'):
    "Markdown written in `folder`, with its links as they are in the root."
    return re.sub(r'(?<=\]\()(?![a-z]+:|#)([^)\s#]+)', lambda m: normpath(f'{folder}/{m[1]}'), text)


def readme(notebook='nbs/index.ipynb'):
    "The text of a README."
    cells = json.loads((ROOT / notebook).read_text(encoding='utf-8'))['cells']
    shown = [c for c in cells if not re.match(r'#\|\s*(hide|default_exp)', ''.join(c['source']))]
    parts = [p for p in map(cell_markdown, shown) if p]
    return (
        from_root(
            '\n\n'.join(
                [parts[0], f'<!-- Generated from {notebook} by docs/readme.py: edit the notebook. -->', *parts[1:]]
            )
        )
        + '\n'
    )


def bring_figures(notebook):
    "Bring what was measured into a notebook."
    path = ROOT / notebook
    nb = json.loads(path.read_text(encoding='utf-8'))
    for c in nb['cells']:
        c['source'] = with_figures(''.join(c['source'])).splitlines(keepends=True)
    path.write_text(json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


if __name__ == '__main__':
    for notebook, page in PAGES.items():
        bring_figures(notebook)
        (ROOT / page).write_text(readme(notebook), encoding='utf-8')
