"The page of kronos_explore, asked by strangers: other sites, other names, no token, too many pages, odd paths."

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nbformat
import pytest
from browser import chromium_path, launch
from conftest import children_of, free_port

page = pytest.importorskip('kronos_nb.display.page')
pytest.importorskip('voila', reason='the package voila is not installed')

pytestmark = pytest.mark.heavy  # servers and their kernels

SPARE = 1  # a kernel that stands ready for the next page
SERVER = """
import sys
from kronos_nb.display import page
page.IDLE_SECONDS = int(sys.argv[3])
page.serve_page(sys.argv[1], int(sys.argv[2]), browser=False)
"""


class Served:
    "A server of a page with one light cell, its token, and the kernels it has."

    def __init__(self, folder, idle=600):
        cells = [nbformat.v4.new_code_cell('"the page " + "is here"')]
        kernel = dict(name='kronos', display_name='Python', language='python')
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=dict(title='light', kernelspec=kernel))
        self.port = free_port()
        command = [sys.executable, '-c', SERVER, str(page.write_page(folder, notebook)), str(self.port), str(idle)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.token = re.search(r'token=(\w+)', self.process.stdout.readline())[1]

    def ask(self, path='/', method='GET', host=None, **headers):
        "Status, headers and text of an answer."
        connection = HTTPConnection('127.0.0.1', self.port, timeout=60)
        headers = {name.replace('_', '-'): value for name, value in headers.items()}
        connection.request(method, path, headers={'Host': host or f'127.0.0.1:{self.port}'} | headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode('utf-8', 'replace')

    def kernels(self):
        return len(children_of(self.process.pid, 'ipykernel_launcher'))

    def end(self):
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def strangers_site(html):
    "The address of another site, which shows `html`."

    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Type', 'text/html')
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *args):
            "Say nothing."

    server = ThreadingHTTPServer(('127.0.0.1', 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://localhost:{server.server_port}/'
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    server = Served(tmp_path_factory.mktemp('page'))
    yield server
    server.end()


def test_without_token(served):
    "No page, no kernel, no interface; a guessed token is none."
    for path in ('/', '/?token=', '/?token=guess'):
        status, headers, _ = served.ask(path)
        assert status == 302 and headers['Location'].startswith('/login'), path
    status, _, text = served.ask('/login?next=%2F')
    assert status == 200 and 'oken' in text, 'as Jupyter asks for it'
    kernel = '/api/kernels/' + '-'.join(['1' * 8, '1' * 4, '1' * 4, '1' * 4, '1' * 12])
    for path, method in ((kernel, 'GET'), (kernel, 'DELETE'), (kernel + '/channels', 'GET')):
        assert served.ask(path, method)[0] in (302, 403), path
    assert served.ask('/voila/api/shutdown/1', 'POST')[0] == 403
    assert served.kernels() == SPARE


def test_from_elsewhere(served):
    "Another site, another port, another name for this computer (DNS rebinding): refused, even with the token."
    right = f'/?token={served.token}'
    here, embedded = f'http://127.0.0.1:{served.port}', dict(Sec_Fetch_Mode='navigate', Sec_Fetch_Dest='iframe')
    followed = dict(Sec_Fetch_Mode='navigate', Sec_Fetch_Dest='document')
    strangers = [
        dict(path='/', Sec_Fetch_Site='cross-site', **followed),
        dict(path='/', Sec_Fetch_Site='same-site', **followed),
        dict(path=right, Sec_Fetch_Site='cross-site', **embedded),
        dict(path=right, Sec_Fetch_Site='cross-site', Sec_Fetch_Mode='no-cors', Sec_Fetch_Dest='image'),
        dict(path=right, Origin='https://evil.example'),
        dict(path=right, Origin='null'),
        dict(path=right, Origin='http://127.0.0.1:1'),
        dict(path=right, host='evil.example'),
        dict(path=right, host=f'evil.example:{served.port}'),
        dict(path=right, host=f'evil.example:{served.port}', Origin=f'http://evil.example:{served.port}'),
        dict(path='/voila/static/voila.js', host=f'evil.example:{served.port}'),
        dict(path='/login', method='POST', Origin='https://evil.example'),
    ]
    for stranger in strangers:
        status, _, text = served.ask(**stranger)
        assert status == 403 and 'another site' in text, stranger
    assert served.kernels() == SPARE
    status, headers, _ = served.ask('/voila/static/voila.js', Origin=here, Sec_Fetch_Site='same-origin')
    assert status == 200, 'what the page itself asks for'


def test_odd_paths(served):
    "What is no file is not found; nothing is answered with 500, and nothing outside is read."
    token = f'?token={served.token}'
    for path in ('', 'lab', 'lab/', 'lab/static', 'lab/static/', 'lab/static/../x', 'no/static/x', '../../etc/passwd'):
        for start in ('/voila/templates/', '/voila/static/', '/voila/files/', '/voila/labextensions/'):
            for ask in (path, path.replace('.', '%2e'), path + '%00', path + '%ff', path + '\\..\\..'):
                status, _, text = served.ask(f'{start}{ask}{token}')
                assert status < 500 and 'root:' not in text, f'{start}{ask}'
    assert served.ask('/voila/templates/lab/static/nothing.js')[0] == 404
    assert served.ask('/voila/templates/')[0] == 404
    assert served.kernels() == SPARE


def test_with_token_and_a_limit(served):
    "The address shows the page; of many that come at once a few are served, and the others are told why."
    address = f'/?token={served.token}'
    from_a_link = dict(Sec_Fetch_Site='cross-site', Sec_Fetch_Mode='navigate', Sec_Fetch_Dest='document')
    with ThreadPoolExecutor(page.MAX_KERNELS + 2) as pool:
        answers = list(pool.map(lambda _: served.ask(address, **from_a_link), range(page.MAX_KERNELS + 2)))
    shown = [a for a in answers if a[0] == 200]
    refused = [a for a in answers if a[0] == 503]
    assert (len(shown), len(refused), served.kernels()) == (page.MAX_KERNELS, 2, page.MAX_KERNELS)
    for _, headers, text in shown:
        assert 'the page is here' in text
        assert "frame-ancestors 'self'" in headers['Content-Security-Policy']
        assert re.search('samesite=strict', headers['Set-Cookie'], re.I) and 'HttpOnly' in headers['Set-Cookie']
    assert all(f'open {page.MAX_KERNELS} times' in text for _, _, text in refused)

    cookie = re.search(r'username-[^;]+', shown[0][1]['Set-Cookie'])[0]
    (kernel,) = re.findall(r'"kernelId": ?"([\w-]+)"', shown[0][2])[:1]
    assert served.ask(f'/api/kernels/{kernel}', Cookie=cookie)[0] == 200, 'the cookie is the token from now on'
    stranger = dict(Cookie=cookie, Origin='https://evil.example', Connection='Upgrade', Upgrade='websocket')
    assert served.ask(f'/api/kernels/{kernel}/channels', **stranger)[0] == 403
    end = f'/voila/api/shutdown/{kernel}'
    for origin in ({}, dict(Origin='https://evil.example'), dict(Origin='null'), dict(Sec_Fetch_Site='cross-site')):
        assert served.ask(end, 'POST', Cookie=cookie, **origin)[0] == 403, origin
    assert served.kernels() == page.MAX_KERNELS
    here = f'http://127.0.0.1:{served.port}'
    assert served.ask(end, 'POST', Cookie=cookie, Origin=here)[0] == 204, 'as the page does when it is left'
    assert served.kernels() == page.MAX_KERNELS - 1
    assert served.ask(address)[0] == 200


@pytest.mark.skipif(not chromium_path(), reason='no Chromium is installed: apt install chromium')
def test_left_pages(tmp_path):
    "A page that is left or loaded anew ends its kernel; another site can neither show the page nor ask for it."
    playwright = pytest.importorskip('playwright.sync_api', reason='the package playwright is not installed')
    server = Served(tmp_path)
    address = f'http://127.0.0.1:{server.port}/?token={server.token}'

    def kernels_become(number):
        until = time.time() + 60
        while server.kernels() != number and time.time() < until:
            time.sleep(0.2)
        assert server.kernels() == number

    try:
        with playwright.sync_playwright() as p:
            browser = launch(p)
            tab = browser.new_page()
            for _ in range(page.MAX_KERNELS + 1):
                with tab.expect_event('websocket', timeout=60_000):
                    tab.goto(address)
                kernels_become(1 + SPARE)
            tab.goto('about:blank')
            kernels_become(SPARE)
            with strangers_site(f'<img src="{address}"><iframe src="{address}"></iframe>') as elsewhere:
                with tab.expect_event('requestfinished', lambda r: r.resource_type == 'document' and r.url == address):
                    tab.goto(elsewhere)
                tab.wait_for_load_state('networkidle')
                assert not any('page is here' in (f.content() or '') for f in tab.frames)
                assert server.kernels() == SPARE
            browser.close()
    finally:
        server.end()


def test_idle_kernels_end(tmp_path):
    "A kernel whose page has gone, or never connected, does not stay."
    server = Served(tmp_path, idle=2)
    try:
        status, headers, text = server.ask(f'/?token={server.token}')
        assert status == 200
        cookie = re.search(r'username-[^;]+', headers['Set-Cookie'])[0]
        (kernel,) = re.findall(r'"kernelId": ?"([\w-]+)"', text)[:1]
        until = time.time() + 60
        while server.ask(f'/api/kernels/{kernel}', Cookie=cookie)[0] != 404 and time.time() < until:
            time.sleep(0.5)
        assert server.ask(f'/api/kernels/{kernel}', Cookie=cookie)[0] == 404
        assert server.kernels() <= SPARE
        assert server.ask(f'/?token={server.token}')[0] == 200, 'and the page can be had again'
    finally:
        server.end()
