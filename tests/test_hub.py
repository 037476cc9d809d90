"Loading from and pushing to a hub: a local server that speaks the hub's routes, found through HF_ENDPOINT."

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import run

from kronos_nb.models.kronos import KRONOS_SIZES, Kronos

COMMIT = 'a' * 40
SMALL = KRONOS_SIZES['mini'] | dict(d_model=32, n_heads=2, ff_dim=48, n_layers=1)


class Hub(BaseHTTPRequestHandler):
    "Serves `files` of any repository, and takes commits into `pushed`."

    def log_message(self, *args):
        pass

    def answer(self, body, status=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for k, v in {'Content-Length': str(len(body)), 'Content-Type': 'application/json', **headers}.items():
            self.send_header(k, v)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def do_GET(self):
        path, server = self.path.split('?')[0], self.server
        if '/resolve/' in path and (content := server.files.get(path.rsplit('/', 1)[-1])) is not None:
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            kind = 'application/octet-stream'
            return self.answer(content, **{'ETag': etag, 'X-Repo-Commit': COMMIT, 'Content-Type': kind})
        if path.startswith('/api/models/') and '/resolve/' not in path:
            return self.answer(dict(id='user/mine', sha=COMMIT, siblings=[], private=False, tags=[]))
        code = 'EntryNotFound' if '/resolve/' in path else 'RepoNotFound'
        self.answer(dict(error='not found'), 404, **{'X-Error-Code': code})

    do_HEAD = do_GET

    def do_POST(self):
        path, body = self.path.split('?')[0], self.rfile.read(int(self.headers.get('Content-Length', 0)))
        if path == '/api/repos/create':
            return self.answer(dict(url=f'http://{self.headers["Host"]}/user/mine', name='user/mine'))
        if path == '/api/validate-yaml':
            return self.answer(dict(errors=[], warnings=[]))
        if '/preupload/' in path:
            names = [f['path'] for f in json.loads(body)['files']]
            return self.answer(dict(files=[dict(path=n, uploadMode='regular', shouldIgnore=False) for n in names]))
        if '/commit/' in path:
            for item in map(json.loads, body.splitlines()):
                if item['key'] == 'file':
                    self.server.pushed[item['value']['path']] = base64.b64decode(item['value']['content'])
            url = f'http://{self.headers["Host"]}/user/mine/commit/{COMMIT}'
            return self.answer(dict(success=True, commitOid=COMMIT, commitUrl=url))
        self.answer(dict(error=f'no route {path}'), 404)


@pytest.fixture
def hub(tmp_path):
    server = ThreadingHTTPServer(('localhost', 0), Hub)
    Kronos(**SMALL).save_pretrained(tmp_path / 'local')
    server.files = {f.name: f.read_bytes() for f in (tmp_path / 'local').iterdir()}
    server.pushed = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, dict(
        HF_ENDPOINT=f'http://localhost:{server.server_port}',
        HF_HOME=str(tmp_path / 'cache'),
        HF_HUB_DISABLE_TELEMETRY='1',
        HF_HUB_DISABLE_XET='1',
        HF_TOKEN='hf_test',
    )
    server.shutdown()


def python(code, env):
    "Run some lines on a `Kronos` in a fresh Python, which reads the hub's variables when it starts."
    imports = 'from kronos_nb.errors import UserError\nfrom kronos_nb.models.kronos import Kronos\n'
    return run('-c', imports + code, **env)


def test_from_pretrained_takes_a_hub_id(hub):
    _, env = hub
    result = python("m = Kronos.from_pretrained('NeoQuasar/Kronos-test'); print(m.d_model, m.training)", env)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ['32', 'False']


def test_push_to_hub_writes_what_it_loads(hub):
    server, env = hub
    result = python(f"Kronos(**{SMALL}).push_to_hub('user/mine')", env)
    assert result.returncode == 0, result.stderr
    assert {'config.json', 'model.safetensors'} <= set(server.pushed)
    server.files = server.pushed
    again = python("print(Kronos.from_pretrained('user/mine').n_layers)", env)
    assert again.stdout.split() == ['1'], again.stderr


def test_a_missing_model_is_a_sentence(hub):
    server, env = hub
    server.files = {}
    for e in (env, env | dict(HF_ENDPOINT='http://localhost:9')):
        result = python("try: Kronos.from_pretrained('NeoQuasar/Kronos-none')\nexcept UserError as e: print(e)", e)
        assert 'NeoQuasar/Kronos-none' in result.stdout and 'folder' in result.stdout, result.stdout + result.stderr
