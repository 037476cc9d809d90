"The widgets as a user meets them: in JupyterLab and on the page of kronos_explore, in a real browser."

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.request import urlopen

import nbformat
import pandas as pd
import pytest
from browser import artefacts, chromium_path, launch
from conftest import ROOT, free_port, small_config

playwright = pytest.importorskip('playwright.sync_api', reason='the package playwright is not installed')
pytestmark = pytest.mark.skipif(not chromium_path(), reason='no Chromium is installed: apt install chromium')
WAIT = 120_000  # milliseconds: a kernel that imports torch on a busy machine


@pytest.fixture(scope='module')
def chromium():
    with playwright.sync_playwright() as p:
        browser = launch(p)
        yield browser
        browser.close()


@contextmanager
def server(*command, cwd, ready, ends_with=signal.SIGINT, **env):
    "A server process that has said or done what `ready` waits for, and is ended with a signal."
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1') | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process, ready(process)
    finally:
        process.send_signal(ends_with)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def open_page(browser, url, name):
    "A page, and the addresses it asked for that are not of this computer; how it ends is kept as `name`.png."
    page, elsewhere = browser.new_page(viewport=dict(width=1280, height=1100)), []
    page.on(
        'request',
        lambda r: (
            elsewhere.append(r.url)
            if not re.match(r'(https?|ws)://(127\.0\.0\.1|localhost)[:/]|data:|blob:|about:', r.url)
            else None
        ),
    )
    page.set_default_timeout(WAIT)
    try:
        page.goto(url, wait_until='commit')
        yield page, elsewhere
    finally:
        page.screenshot(path=artefacts() / f'{name}.png')
        page.close()


def wait_for(check, seconds=60):
    until = time.time() + seconds
    while not (found := check()):
        assert time.time() < until, 'waited too long'
        time.sleep(0.2)
    return found


def fans(page):
    return page.locator('.scatterlayer .trace path').evaluate_all('paths => paths.map(p => p.getAttribute("d")).join()')


def date(page):
    return page.locator('.widget-html b').first.inner_text()


def move(page, keys):
    "Move the slider with the keyboard, and wait until the chart is another."
    before, was = fans(page), date(page)
    page.locator('.noUi-handle').focus()
    for k in keys:
        page.keyboard.press(k)
    wait_for(lambda: date(page) != was and fans(page) != before)


def press(page, button):
    page.get_by_role('button', name=button).focus()
    page.keyboard.press('Enter')


@pytest.mark.heavy
def test_the_page_of_the_command(chromium, trained, tmp_path):
    "Moved by keyboard, corrected, compared, exported; on a phone too; and nothing is asked of other computers."
    experiment, out = trained[0] / 'experiments/small', tmp_path / 'out'

    def address(process):
        return re.search(r'http://127\.0\.0\.1:\d+/\?token=\w+', process.stdout.readline())[0]

    with server(
        '-m',
        'kronos_nb.explore',
        experiment,
        '--no-browser',
        f'--out={out}',
        f'--other={experiment}',
        cwd=tmp_path,
        ready=address,
    ) as (process, url), open_page(chromium, url, 'explore') as (page, elsewhere):
        page.locator('.scatterlayer .trace path').first.wait_for()
        assert 'small' in page.title()
        page.get_by_text('50 paths of 8 bars').wait_for()
        page.screenshot(path=artefacts() / 'explore_1280.png')
        move(page, ['ArrowRight', 'ArrowRight'])

        field = page.get_by_label('Top-p')
        for value, there in (('1.7', 'visible'), ('0.9', 'detached')):
            field.fill(value)
            field.press('Enter')
            page.get_by_text('Top-p is 1.7, and must be above 0 and at most 1.').wait_for(state=there)
            page.screenshot(path=artefacts() / f'explore_top_p_{value}.png')

        handle = page.locator('.noUi-handle').first
        assert 'Origin' in handle.get_attribute('aria-label') and handle.get_attribute('aria-valuetext') == date(page)
        before = fans(page)
        page.get_by_label('Model B').select_option(index=1)
        page.get_by_text('Model B is Model A').wait_for()
        page.get_by_label('Model B').select_option(index=2)
        page.get_by_text('its weights are the same').wait_for()
        page.get_by_label('Symbol', exact=True).select_option('IBM')
        wait_for(lambda: fans(page) != before and 'IBM: 8 bars' in page.inner_text('body'))
        shown = page.locator('.scatterlayer .trace').count()
        page.get_by_label('Show what came').uncheck()
        wait_for(lambda: page.locator('.scatterlayer .trace').count() == shown - 1)
        for button, ending in (('Picture (PNG)', 'png'), ('Chart (HTML)', 'html'), ('Forecast (CSV)', 'csv')):
            press(page, button)
            page.get_by_text(f'.{ending}').wait_for()
            assert next(out.glob(f'IBM_*.{ending}')).stat().st_size
        (table,) = out.glob('*.csv')
        assert len(pd.read_csv(table)) == 2 * 8, 'of two models'
        with page.expect_download() as download:
            page.get_by_text('Download it').click()
        assert download.value.path().read_bytes() == table.read_bytes()

        page.set_viewport_size(dict(width=390, height=1500))
        wait_for(lambda: page.locator('.main-svg').first.bounding_box()['width'] < 390)
        assert page.evaluate(
            '[document.body, document.querySelector("#rendered_cells")].every(e => e.scrollWidth <= e.clientWidth)'
        ), 'nothing hangs over the edge'
        assert elsewhere == [] and not page.get_by_text('Traceback').count()
    assert process.returncode == 0, 'Ctrl-C ends it in good order'


CELLS = [
    'from kronos_nb.widgets import ForecastExplorer\nForecastExplorer({experiment!r})',
    'from kronos_nb.widgets import TrainingMonitor\nTrainingMonitor({run!r})',
]


def run_cell(page, number):
    page.locator('.jp-CodeCell .cm-content').nth(number).click()
    page.keyboard.press('Shift+Enter')


@pytest.mark.heavy
def test_in_jupyterlab(chromium, trained, tmp_path):
    "The explorer redraws; the monitor follows a run started from the command line, and stops it."
    experiment, run = trained[0] / 'experiments/small', tmp_path / 'experiments/small'
    cells = [nbformat.v4.new_code_cell(c.format(experiment=str(experiment), run=str(run))) for c in CELLS]
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=cells, metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'))
        ),
        tmp_path / 'try.ipynb',
    )
    port = free_port()

    def listening(process):
        def up():
            try:
                return urlopen(f'http://127.0.0.1:{port}/api', timeout=1)
            except OSError:
                return False

        wait_for(up)
        return f'http://127.0.0.1:{port}/lab/tree/try.ipynb'

    with server(
        '-m',
        'jupyterlab',
        '--allow-root',
        '--no-browser',
        f'--port={port}',
        '--ip=127.0.0.1',
        '--IdentityProvider.token=',
        f'--ServerApp.root_dir={tmp_path}',
        '--ServerApp.port_retries=0',
        cwd=tmp_path,
        ready=listening,
        ends_with=signal.SIGTERM,
        JUPYTER_CONFIG_DIR=str(tmp_path / 'config'),
    ) as (_, url), open_page(chromium, url, 'lab') as (page, _):
        page.get_by_text('| Idle').wait_for()
        run_cell(page, 0)
        page.locator('.scatterlayer .trace path').first.wait_for()
        move(page, ['ArrowRight', 'ArrowRight', 'ArrowRight'])
        page.screenshot(path=artefacts() / 'lab_explorer.png')

        config = small_config(
            tmp_path,
            training=dict(
                tokenizer_epochs=100_000, save_every=10**6, samples_per_epoch=320, batch_size=16, log_interval=5
            ),
        )
        training = subprocess.Popen(
            [sys.executable, '-m', 'kronos_nb.train_sequential', '--config', str(config)],
            env=os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for((run / 'logs/run.json').is_file)
            run_cell(page, 1)
            curve = page.get_by_alt_text('training curves')
            curve.wait_for(state='visible')
            drawn = curve.get_attribute('src')
            wait_for(lambda: curve.get_attribute('src') != drawn)
            curve.scroll_into_view_if_needed()
            page.screenshot(path=artefacts() / 'lab_monitor.png')
            press(page, 'Stop and save')
            assert training.wait(60) == 143
        finally:
            training.kill()
        page.get_by_text('The run has saved and ended.').wait_for()
        assert json.loads((run / 'logs/run.json').read_text())['state'] == 'stopped' and list(
            run.glob('tokenizer/checkpoints/step-*')
        )
        assert not page.get_by_text('Traceback').count()
