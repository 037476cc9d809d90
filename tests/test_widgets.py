"The widgets as a user meets them: in JupyterLab and on the page of kronos_explore, in a real browser."
import base64, json, os, re, signal, subprocess, sys, time
from contextlib import contextmanager
from urllib.request import urlopen

import nbformat
import pandas as pd
import pytest
from browser import artefacts, chromium_path, launch
from conftest import ROOT, free_port, small_config

playwright = pytest.importorskip('playwright.sync_api', reason='the package playwright is not installed')
pytestmark = pytest.mark.skipif(not chromium_path(), reason='no Chromium is installed: apt install chromium')
WAIT = 120_000 # milliseconds: a kernel that imports torch on a busy machine


@pytest.fixture(scope='module')
def chromium():
    with playwright.sync_playwright() as p:
        browser = launch(p)
        yield browser
        browser.close()


@contextmanager
def server(*command, cwd, ready, ends_with=signal.SIGINT, **env):
    "A server process that has said or done what `ready` waits for, and is ended with a signal."
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=cwd, env=os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1') | env,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    try: yield process, ready(process)
    finally:
        process.send_signal(ends_with)
        try: process.wait(30)
        except subprocess.TimeoutExpired: process.kill()


def open_page(browser, url, width=1280, height=1100):
    "A page, and the addresses it asked for that are not of this computer."
    page, elsewhere = browser.new_page(viewport=dict(width=width, height=height)), []
    page.on('request', lambda r: elsewhere.append(r.url) if not re.match(r'(https?|ws)://(127\.0\.0\.1|localhost)[:/]|data:|blob:|about:', r.url) else None)
    page.set_default_timeout(WAIT)
    page.goto(url)
    return page, elsewhere


def wait_for(check, seconds=60):
    until = time.time() + seconds
    while not (found := check()):
        assert time.time() < until, 'waited too long'
        time.sleep(.2)
    return found


def fans(page): return page.locator('.scatterlayer .trace path').evaluate_all('paths => paths.map(p => p.getAttribute("d")).join()')


def date(page): return page.locator('.widget-html b').first.inner_text()


def move(page, keys):
    "Move the slider with the keyboard, and wait until the chart is another."
    before, was = fans(page), date(page)
    page.locator('.noUi-handle').focus()
    for k in keys: page.keyboard.press(k)
    wait_for(lambda: date(page) != was and fans(page) != before)


def test_the_page_of_the_command(chromium, trained, tmp_path):
    experiment, out = trained[0]/'experiments/small', tmp_path/'out'
    def address(process): return re.search(r'http://127\.0\.0\.1:\d+/', process.stdout.readline())[0]
    with server('-m', 'kronos_nb.explore', experiment, '--no-browser', f'--out={out}', f'--other={experiment}', cwd=tmp_path, ready=address) as (process, url):
        page, elsewhere = open_page(chromium, url)
        page.screenshot(path=artefacts()/'explore_loading.png')
        page.wait_for_selector('.scatterlayer .trace path')
        assert 'small' in page.title()
        wait_for(lambda: '50 paths of 8 bars' in page.inner_text('body'))
        page.screenshot(path=artefacts()/'explore_1280.png')
        move(page, ['ArrowRight', 'ArrowRight'])

        field = page.get_by_label('Top-p')
        field.fill('1.7')
        field.press('Enter')
        page.get_by_text('Top-p is 1.7, and must be above 0 and at most 1.').wait_for()
        page.screenshot(path=artefacts()/'explore_mistake.png')
        field.fill('0.9')
        field.press('Enter')
        page.get_by_text('must be above 0').wait_for(state='detached')

        before = fans(page)
        page.get_by_label('Model B').select_option(index=2)
        page.get_by_label('Symbol', exact=True).select_option('IBM')
        wait_for(lambda: fans(page) != before and 'IBM: 8 bars' in page.inner_text('body'))
        shown = page.locator('.scatterlayer .trace').count()
        page.get_by_label('Show what came').uncheck()
        wait_for(lambda: page.locator('.scatterlayer .trace').count() == shown - 1)
        for name in ('Picture (PNG)', 'Chart (HTML)', 'Forecast (CSV)'):
            page.get_by_role('button', name=name).focus()
            page.keyboard.press('Enter')
            ending = name[-4:-1].lower().replace('tml', 'html')
            wait_for(lambda: list(out.glob(f'IBM_*.{ending}')))
        page.get_by_text('Written:').wait_for()
        assert len(pd.read_csv(next(out.glob('*.csv')))) == 8
        with page.expect_download() as download: page.get_by_text('Download it').click()
        assert download.value.path().read_bytes() == next(out.glob('*.csv')).read_bytes()
        page.set_viewport_size(dict(width=390, height=1500))
        wait_for(lambda: page.locator('.main-svg').first.bounding_box()['width'] < 390)
        assert page.evaluate('[document.body, document.querySelector("#rendered_cells")].every(e => e.scrollWidth <= e.clientWidth)'), 'nothing hangs over the edge'
        page.screenshot(path=artefacts()/'explore_390.png')
        assert elsewhere == [] and not page.get_by_text('Traceback').count()
        page.close()
    assert process.returncode == 0, 'Ctrl-C ends it in good order'


CELLS = ["from kronos_nb.widgets import ForecastExplorer\nexplorer = ForecastExplorer({experiment!r}); explorer",
         "from kronos_nb.widgets import TrainingMonitor\nmonitor = TrainingMonitor({run!r}); monitor"]


def test_in_jupyterlab(chromium, trained, tmp_path):
    "The explorer redraws; the monitor follows a run started from the command line, and stops it."
    experiment, run = trained[0]/'experiments/small', tmp_path/'experiments/small'
    cells = [nbformat.v4.new_code_cell(c.format(experiment=str(experiment), run=str(run))) for c in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'))), tmp_path/'try.ipynb')
    port = free_port()
    def listening(process):
        def up():
            try: return urlopen(f'http://127.0.0.1:{port}/api', timeout=1)
            except OSError: return False
        wait_for(up)
        return f'http://127.0.0.1:{port}/lab/tree/try.ipynb'
    with server('-m', 'jupyterlab', '--allow-root', '--no-browser', f'--port={port}', '--ip=127.0.0.1', '--IdentityProvider.token=', f'--ServerApp.root_dir={tmp_path}', '--ServerApp.port_retries=0',
                '--LabApp.news_url=', cwd=tmp_path, ready=listening, ends_with=signal.SIGTERM, JUPYTER_CONFIG_DIR=str(tmp_path/'config')) as (_, url):
        page, elsewhere = open_page(chromium, url)
        page.locator('.jp-CodeCell .cm-content').first.click()
        page.keyboard.press('Shift+Enter')
        page.wait_for_selector('.scatterlayer .trace path')
        move(page, ['ArrowRight', 'ArrowRight', 'ArrowRight'])
        page.screenshot(path=artefacts()/'lab_explorer.png')

        training = subprocess.Popen([sys.executable, '-m', 'kronos_nb.train_sequential', '--config', str(small_config(tmp_path, training=dict(tokenizer_epochs=100_000, save_every=10**6, samples_per_epoch=320, batch_size=16, log_interval=5)))],
                                    env=os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'), stderr=subprocess.DEVNULL)
        try:
            wait_for((run/'logs/run.json').is_file)
            page.locator('.jp-CodeCell .cm-content').nth(1).click()
            page.keyboard.press('Shift+Enter')
            curve = page.locator('.widget-image')
            curve.wait_for(state='visible')
            drawn = curve.get_attribute('src')
            wait_for(lambda: curve.get_attribute('src') != drawn)
            curve.scroll_into_view_if_needed()
            page.screenshot(path=artefacts()/'lab_monitor.png')
            page.get_by_role('button', name='Stop and save').focus()
            page.keyboard.press('Enter')
            assert training.wait(60) == 143
        finally: training.kill()
        page.get_by_text('The run has saved and ended.').wait_for()
        page.screenshot(path=artefacts()/'lab_stopped.png')
        assert json.loads((run/'logs/run.json').read_text())['state'] == 'stopped' and list(run.glob('tokenizer/checkpoints/step-*'))
        assert not page.get_by_text('Traceback').count()
        page.close()
