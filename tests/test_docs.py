"The documentation site, built once by its one command, and looked at in a browser from file://."

import json
import os
import re
import subprocess
import sys
from functools import cache

import pytest
from browser import artefacts, launch
from conftest import ROOT
from filelock import FileLock

pytest.importorskip('myst_nb', reason="pip install -e '.[docs]'")
sys.path.insert(0, str(ROOT / 'docs'))
from check import check
from pagetext import Reader
from stage import GITHUB, Links, markdown, packages, read

pytestmark = pytest.mark.heavy  # building it takes two minutes


@pytest.fixture(scope='module')
def built():
    "The site's folder, and what building it said: of tests side by side one builds, and the others find it built."
    (ROOT / '_docs').mkdir(exist_ok=True)
    run_id = os.environ.get('PYTEST_XDIST_TESTRUNUID')
    note = ROOT / '_docs/.built'
    with FileLock(ROOT / '_docs/.lock'):
        if run_id and note.exists() and (found := json.loads(note.read_text()))['run'] == run_id:
            return ROOT / '_docs/html', found['said'], found['warned']
        command = ['make', '-C', 'docs', 'html', f'PYTHON={sys.executable}']
        env = os.environ | dict(PYTHONPATH=str(ROOT))
        result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stdout + result.stderr
        note.write_text(json.dumps(dict(run=run_id, said=result.stdout, warned=result.stderr)))
    return ROOT / '_docs/html', result.stdout, result.stderr


@pytest.fixture(scope='module')
def site(built):
    return built[0]


def test_no_warnings(built):
    _, said, warned = built
    assert not warned.strip(), warned
    assert re.search(r'\d+ pages, 0 mistakes', said)


@cache
def pages():
    "All pages, read once."
    return read()


def page_of(name):
    "The page whose notebook defines `name`, or whose module it is."
    return next(p for p in pages() if name in p.defines or p.module and p.module.endswith(f'.{name}'))


def described(site, name):
    "The HTML of what a page says of `name`, up to the end of its table of parameters."
    page = page_of(name)
    html = (site / f'{page.doc}.html').read_text(encoding='utf-8')
    return html.split(f'id="{page.module}.{name}"', 1)[1].split('</table>', 1)[0]


def test_every_notebook_has_a_page_in_the_navigation(site):
    home = Reader((site / 'index.html').read_text(encoding='utf-8')).links
    for p in pages():
        html = (site / f'{p.doc}.html').read_text(encoding='utf-8')
        assert re.search(r'<h1>' + '.*?'.join(map(re.escape, re.findall(r'\w+', p.title)[:3])), html), p.doc
        assert p.doc == 'index' or f'{p.doc}.html' in home, f'{p.doc} is not in the navigation'
        assert not re.search(r'<span class="c1">#\s*\|', html), f'a directive is shown on {p.doc}'


def test_modules_are_filed_by_package(site):
    groups = packages(pages())
    names = [name for name, _, _ in groups.values()]
    found = {f.parent.name for f in ROOT.glob('kronos_nb/*/__init__.py')}
    assert {n.lower() for n in names} == found | {'ground', 'commands'}
    assert names[0] == 'Ground' and names[-1] == 'Commands'
    for doc, (name, about, mine) in groups.items():
        assert about.endswith(('.', '?')), f'kronos_nb/{name}/__init__.py has no sentence'
        listed = Reader((site / f'{doc}.html').read_text(encoding='utf-8')).links
        assert {os.path.relpath(p.doc, name.lower()) + '.html' for p in mine} <= set(listed), name
        assert all(p.module == f"kronos_nb.{p.doc.replace('/', '.')}" for p in mine)


def test_parameters_are_tables(site):
    for name, parameters in {
        'KronosPredictor': ['model', 'tokenizer', 'device'],
        'KronosPredictor.predict_paths': ['df', 'pred_len', 'seed'],
        'enforce_ohlc': ['paths'],
    }.items():
        part = described(site, name)
        assert '<table' in part and all(h in part for h in ('Parameter', 'Type', 'Details')), name
        assert all(f'<span class="pre">{p}</span>' in part for p in parameters), name
    keys = described(site, 'DataConfig')
    assert 'lookback_window' in keys and 'normalisation sees these alone' in keys and '512' in keys
    shown = sum(
        (site / f'{p.doc}.html').read_text(encoding='utf-8').count('<dt class="sig') for p in pages() if p.module
    )
    assert shown >= len([n for p in pages() for n in p.defines]) > 200


def test_mistakes_are_found(tmp_path):
    (tmp_path / 'bad.html').write_text(
        '<a href="gone.html">x</a><a href="#nowhere">y</a><script src="https://cdn.example.org/a.js"></script><img'
        ' src="no.png">',
        encoding='utf-8',
    )
    assert len(check(tmp_path)[0]) == 4


def test_where_links_lead():
    links, at = Links(pages()), {p.doc: p for p in pages()}

    def lead(url, doc='index'):
        return links.target(url, at[doc])

    page = page_of('Forecast')
    file = page.path.name
    assert page.doc == 'forecasting/forecast'
    assert (
        lead(f'{file}#The-numbers')
        == lead(f'{GITHUB}/nbs/{file}#The-numbers')
        == 'forecasting/forecast.ipynb#the-numbers'
    )
    assert lead(f'../{file}', 'explanations/architecture') == '../forecasting/forecast.ipynb'
    assert lead('../README.md', 'forecasting/forecast') == '../index.ipynb'
    assert lead('../configs/quickstart_from_scratch.yaml') == f'{GITHUB}/configs/quickstart_from_scratch.yaml'
    assert lead('images/forecast.png') == 'images/forecast.png'
    assert lead('https://arxiv.org/abs/2508.02739') == 'https://arxiv.org/abs/2508.02739'
    text = '`Forecast` and `nothing`\n```py\n`Forecast` # code\n```\n[`Forecast`](FILE)'
    assert markdown(text.replace('FILE', file), at['index'], links) == text.replace(
        '`Forecast` and', '{py:obj}`Forecast <kronos_nb.forecasting.forecast.Forecast>` and'
    ).replace('FILE', 'forecasting/forecast.ipynb')


# ---- in a browser


@pytest.fixture(scope='module')
def browser():
    sync = pytest.importorskip('playwright.sync_api', reason='pip install playwright')
    with sync.sync_playwright() as p:
        chromium = launch(p)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, site):
    "Open pages; in the end nothing may have been asked of the network, and no script may have failed."
    contexts, asked, failed = [], [], []

    def open_page(doc, query='', width=1280, **kwargs):
        contexts.append(context := browser.new_context(viewport=dict(width=width, height=900), **kwargs))
        page = context.new_page()
        page.set_default_timeout(90_000)  # a busy machine is slow, not wrong
        page.on('request', lambda r: asked.append(r.url))
        page.on('pageerror', lambda e: failed.append(f'{doc}: {e}'))
        page.goto(f'{(site/doc).as_uri()}.html{query}')
        return page

    yield open_page
    for c in contexts:
        c.close()
    assert [u for u in asked if not u.startswith(('file:', 'data:', 'blob:'))] == []
    assert failed == []


@pytest.mark.parametrize(
    'query,found', [('quantile', 'forecasting/forecast'), ('Fieller', 'evaluation/skill'), ('微调', 'index')]
)
def test_search_from_a_file(visit, query, found):
    page = visit('search', f'?q={query}')
    page.wait_for_selector(f'ul.search li a[href^="{found}"]')
    page.wait_for_function(
        'q => [...document.querySelectorAll("p.context")].some((p) => p.textContent.toLowerCase().includes(q))',
        arg=query.lower(),
    )
    page.screenshot(path=artefacts() / f'docs_search_{found.replace("/", "_")}.png')


def test_formulas_are_set(visit):
    page = visit(page_of('BSQuantizer').doc)
    page.wait_for_selector('div.math mjx-container svg')
    assert page.locator('mjx-container').count() == page.locator('.math').count() > 5
    assert page.locator('mjx-merror, [data-mjx-error]').count() == 0


def test_a_chart_is_live(visit, site):
    charts = [p.doc for p in pages() if 'class="chart"' in (site / f'{p.doc}.html').read_text(encoding='utf-8')]
    assert charts, 'no notebook has an interactive chart'
    page = visit(charts[0])
    chart = page.locator('div.chart').first
    chart.scroll_into_view_if_needed()
    chart.locator('svg.main-svg').first.wait_for()
    box = chart.bounding_box()
    drawn = chart.evaluate("""c => {
        const t = c._fullData[0], {xaxis: x, yaxis: y} = c._fullLayout, i = 5, v = (t.close || t.y)[i];
        return {x: x._offset + x.d2p(t.x[i]), y: y._offset + y.d2p(v), width: x._length, range: [...x.range]}}""")
    x, y = box['x'] + drawn['x'], box['y'] + drawn['y']
    page.mouse.move(x - 9, y - 9)
    page.mouse.move(x, y, steps=4)
    page.wait_for_selector('div.chart .hoverlayer text')  # it tells a bar's numbers
    page.screenshot(path=artefacts() / 'docs_chart.png')
    page.mouse.down()
    page.mouse.move(x + drawn['width'] / 3, y, steps=5)
    page.mouse.up()
    page.wait_for_function(
        'r => document.querySelector("div.chart")._fullLayout.xaxis.range[1] < r[1] - 1', arg=drawn['range']
    )  # and zooms
    without = (site / f"{page_of('BSQuantizer').doc}.html").read_text(encoding='utf-8')
    assert 'plotly' not in without, 'the script is loaded where no chart is'


def brightness(page, where, what):  # of a computed colour
    r, g, b = map(int, re.findall(r'\d+', page.eval_on_selector(where, f'e => getComputedStyle(e).{what}'))[:3])
    return (r + g + b) / 3


def test_dark_mode(visit):
    light, dark = (visit(page_of('samples').doc, color_scheme=c) for c in ('light', 'dark'))
    for where in ('body', 'article div.highlight'):
        assert (
            brightness(light, where, 'backgroundColor') > 200 > 60 > brightness(dark, where, 'backgroundColor')
        ), where
    for where in ('article p', 'table.dataframe td', 'table.dataframe th', 'dt.sig .sig-paren'):
        assert brightness(light, where, 'color') < 130 < brightness(dark, where, 'color'), where
    dark.screenshot(path=artefacts() / 'docs_dark.png', full_page=True)
    button = light.locator('.theme-toggle-content .theme-toggle')
    for _ in range(3):
        button.click()
        if light.evaluate('document.body.dataset.theme') == 'dark':
            break
    assert brightness(light, 'body', 'backgroundColor') < 60


def test_source_folds_and_stays_folded(visit):
    page = visit(page_of('BSQuantizer').doc)
    is_open = 'document.querySelectorAll("details.source[open]").length'
    assert page.evaluate(is_open) > 1
    page.click('button.sources')
    assert page.evaluate(is_open) == 0
    page.reload()
    assert page.evaluate(is_open) == 0 and page.text_content('button.sources') == 'Show the source'


def test_every_page_fits_a_phone(visit, site):
    page = visit('index', width=390, device_scale_factor=1)
    wide = []
    for path in sorted(site.rglob('*.html')):
        page.goto(path.as_uri(), wait_until='load')
        width = page.evaluate('Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)')
        if width > 390:
            wide.append(f'{path.relative_to(site)}: {width} px')
    page.goto((site / 'index.html').as_uri())
    page.screenshot(path=artefacts() / 'docs_phone.png')
    assert wide == []
