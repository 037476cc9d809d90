"The server as clients meet it: many at once, malformed, slow, and while it is ended."

import gzip
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from conftest import ROOT, free_port

httpx = pytest.importorskip('httpx')
pytest.importorskip('fastapi')

from kronos_nb.data.klines import load_klines

pytestmark = pytest.mark.heavy
EXAMPLES = int(os.environ.get('KRONOS_SERVE_EXAMPLES', 100))  # of each operation
REQUESTS = int(os.environ.get('KRONOS_SERVE_REQUESTS', 256))  # for the storm; 10,000 take some ten minutes


def start(*flags):
    "The command, as a process."
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    env.pop('KRONOS_SERVE_TOKEN', None)
    command = [sys.executable, '-m', 'kronos_nb.serve', 'nano', *flags]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd='/')


class Server:
    "`kronos_serve nano` at work."

    def __init__(self, *flags):
        self.port = free_port()
        self.process = start(f'--port={self.port}', *flags)
        self.url = f'http://127.0.0.1:{self.port}'
        said = self.process.stdout.readline()
        assert said.startswith('nano') and f' is at {self.url}' in said, said + self.process.stdout.read()
        assert self.process.stdout.readline() == 'End it with Ctrl-C.\n'

    def measure(self, name):
        "A line of /metrics."
        text = httpx.get(f'{self.url}/metrics', timeout=60).text
        lines = dict(line.rsplit(' ', 1) for line in text.splitlines() if line[0] != '#')
        return float(lines.get(name, 0))

    def resident(self):
        "MB of memory."
        with open(f'/proc/{self.process.pid}/status') as f:
            [size] = [line.split()[1] for line in f if line.startswith('VmRSS')]
        return int(size) / 1024

    def end(self, number=signal.SIGTERM):
        "The exit status and what was said."
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=120)
        return self.process.returncode, said


@pytest.fixture(scope='module')
def server():
    server = Server('--max-body=1')
    yield server
    status, said = server.end()
    assert (status, said) == (0, ''), said


@pytest.fixture(scope='module')
def bodies():
    "Different histories of 256 bars, as JSON."
    klines = load_klines(ROOT / 'data/us_daily')
    made = []
    for i in range(64):
        frame = klines[('AAPL', 'IBM', 'MSFT', 'GOOG')[i % 4]].iloc[20 * i : 20 * i + 256]
        bars = frame.assign(timestamps=frame.timestamps.astype(str)).to_dict('list')
        made.append(json.dumps(dict(bars=bars, horizon=24, paths=32, seed=i)))
    return made


def ask(client, url, body):
    return client.post(f'{url}/forecast', content=body, headers={'content-type': 'application/json'}, timeout=300)


def batches(server):
    "How many batches were computed, and how many forecasts were in them."
    return server.measure('kronos_batch_size_count'), server.measure('kronos_batch_size_sum')


def test_together_as_alone(server, bodies):
    "32 clients at once get what each gets alone, in fewer batches, and no request fails."
    with httpx.Client(timeout=300) as client:
        ask(client, server.url, bodies[0])
        start = time.perf_counter()
        alone = [ask(client, server.url, body).json() for body in bodies]
        one = (time.perf_counter() - start) / len(bodies)
        before = batches(server)
        start = time.perf_counter()
        with ThreadPoolExecutor(32) as clients:
            numbers = [i % len(bodies) for i in range(REQUESTS)]
            answers = [*clients.map(lambda i: ask(client, server.url, bodies[i]), numbers)]
        many = (time.perf_counter() - start) / REQUESTS
    assert {a.status_code for a in answers} == {200}
    assert all(a.json() == alone[i] for a, i in zip(answers, numbers))
    made, forecasts = (b - a for a, b in zip(before, batches(server)))
    assert forecasts == REQUESTS and made < REQUESTS / 4
    print(f'\n{1000 * one:.1f} ms alone, {1000 * many:.1f} ms of 32 at once: {one / many:.2f} times the throughput;')
    print(f'{forecasts / made:.1f} forecasts a batch, {REQUESTS} requests without an error')


def test_a_body_that_is_too_large(server, bodies):
    "Told by its length or found on the way."
    for content in (b' ' * (2**20 + 1), iter([b' ' * 2**19] * 3)):
        try:
            answer = ask(httpx, server.url, content)
        except httpx.WriteError:  # the server has hung up, as it may
            continue
        assert answer.status_code == 413 and 'send fewer bars' in answer.json()['detail']


def head_of(server, *lines):
    "The head of a forecast's request, with these lines."
    said = ['POST /forecast HTTP/1.1', f'Host: 127.0.0.1:{server.port}', 'Content-Type: application/json', *lines]
    return '\r\n'.join([*said, '', '']).encode()


def drip(s, text, stop):
    "Send a byte a second, until the other end hangs up."
    try:
        for byte in text:
            if stop.wait(1):
                return
            s.sendall(bytes([byte]))
    except OSError:
        pass


def test_slow_clients_keep_nobody_waiting(server, bodies):
    "Of fifty that send a byte a second some send a head, some a body: others are answered, and these are cut off."
    slow, stop, threads = [], threading.Event(), []
    body_of = bodies[0].encode()
    for i in range(50):
        s = socket.create_connection(('127.0.0.1', server.port))
        head = head_of(server, f'Content-Length: {len(body_of)}')
        if i % 2:
            s.sendall(head)
        slow.append(s)
        threads.append(threading.Thread(target=drip, args=(s, body_of if i % 2 else head, stop)))
        threads[-1].start()
    try:
        for body in bodies[:3]:
            assert ask(httpx, server.url, body).status_code == 200
        for i, s in enumerate(slow):
            s.settimeout(120)
            try:
                answer = s.recv(100)
            except ConnectionError:  # a byte was on its way
                answer = b''
            assert b' 408 ' in answer if i % 2 else answer == b'', answer
    finally:
        stop.set()
        for s, thread in zip(slow, threads):
            thread.join()
            s.close()


def test_a_client_that_leaves(server, bodies):
    "Before its body is whole, and before its answer is there."
    head = head_of(server, f'Content-Length: {len(bodies[0])}')
    for sent in (bodies[0][:500], bodies[0]):
        with socket.create_connection(('127.0.0.1', server.port)) as s:
            s.sendall(head + sent.encode())
    assert ask(httpx, server.url, bodies[0]).status_code == 200


def test_the_work_of_a_client_that_leaves_is_dropped(server, bodies):
    "Twenty ask for much and leave while another is computed: hardly any of theirs is computed."
    bodies = [json.dumps(json.loads(b) | dict(paths=200, horizon=100 + i)) for i, b in enumerate(bodies[:20])]
    asked = []
    for body in bodies:
        s = socket.create_connection(('127.0.0.1', server.port))
        s.sendall(head_of(server, f'Content-Length: {len(body)}') + body.encode())
        asked.append(s)
    while server.measure('kronos_waiting') < len(asked):
        assert not select.select(asked, [], [], 0.01)[0], 'answered before all had asked'
    before = batches(server)[1]
    for s in asked:
        s.close()
    while server.measure('kronos_waiting'):
        time.sleep(0.05)
    assert batches(server)[1] - before <= 2
    assert ask(httpx, server.url, json.dumps(json.loads(bodies[0]) | dict(paths=2, horizon=2))).status_code == 200


def bombs():
    "Bodies of less than a megabyte that would fill the memory if they were unpacked: (content type, encoding, body)."
    n, arrow = 10_000, 'application/vnd.apache.arrow.stream'
    rows = [{f'{40 * i + j:x}': 1 for j in range(40)} for i in range(2000)]
    yield 'rows of other columns each', 'application/json', '', json.dumps(dict(bars=rows)).encode()
    yield 'nested', 'application/json', '', b'[' * 900_000
    yield 'gzip', 'application/json', 'gzip', gzip.compress(b' ' * 10**8)
    yield 'gzipped CSV', 'text/csv', '', gzip.compress(b'1\n' * 10**7)
    yield 'a wide CSV', 'text/csv', '', b'timestamps,open,high,low,close' + b',' * 400_000 + b'\n2020-01-01,1,1,1,1' * n
    one = pa.DictionaryArray.from_arrays(np.zeros(n, np.int8), pa.array(['x' * 200_000]))
    prices = {c: np.ones(n) for c in ('open', 'high', 'low', 'close')}
    lists = pa.FixedSizeListArray.from_arrays(pa.nulls(n * 2**14), 2**14)
    for name, columns in (
        ('columns of nothing', {f'c{i}': pa.nulls(n) for i in range(4000)}),
        ('one long text', dict(timestamps=one, symbol=one) | prices),
        ('lists of nothing', dict(timestamps=lists) | prices),
    ):
        table, sink = pa.table(columns), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        yield name, arrow, '', sink.getvalue().to_pybytes()
    yield 'a length of 2 GB', arrow, '', b'\xff\xff\xff\xff\xff\xff\xff\x7f' + b'x' * 1000


def test_small_bodies_that_are_large(server):
    "Refused, without the memory they ask for."
    before = server.resident()
    for name, kind, encoding, body in bombs():
        assert len(body) < 2**20, name
        headers = {'content-type': kind} | ({'content-encoding': encoding} if encoding else {})
        answer = httpx.post(f'{server.url}/forecast', content=body, headers=headers, timeout=300)
        assert answer.status_code in (415, 422) and answer.json()['detail'], (name, answer.text)
    assert server.resident() < before + 100


def test_json_beyond_json(server, bodies):
    "NaN and Infinity are gaps and refusals, a key that comes twice counts once, and none is an error."
    sent = json.loads(bodies[0]) | dict(paths=2, horizon=2)
    for value in (float('nan'), float('inf'), -float('inf')):
        for column in ('close', 'volume'):
            bars = sent['bars'] | {column: [*sent['bars'][column][:-1], value]}
            assert ask(httpx, server.url, json.dumps(sent | dict(bars=bars))).status_code in (200, 422)
        assert ask(httpx, server.url, json.dumps(sent | dict(quantiles=[value]))).status_code == 422
    twice = json.dumps(sent)[:-1] + ', "horizon": 3}'
    assert len(ask(httpx, server.url, twice).json()['timestamps']) == 3


def test_a_full_queue(bodies):
    server = Server('--max-queue=2')
    with httpx.Client(timeout=300) as client, ThreadPoolExecutor(16) as clients:
        answers = [*clients.map(lambda i: ask(client, server.url, bodies[i]), range(16))]
    assert {a.status_code for a in answers} == {200, 429}
    assert all(a.headers['retry-after'] for a in answers if a.status_code == 429)
    assert server.end()[0] == 0


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_with_requests_at_work(bodies, number):
    "What was asked is answered; then the status is 0."
    server = Server()
    answers = []

    def one(i):
        answers.append(ask(httpx.Client(timeout=300), server.url, bodies[i]).status_code)

    clients = [threading.Thread(target=one, args=[i]) for i in range(8)]
    for c in clients:
        c.start()
    waiting = 'kronos_waiting 8.0'
    while not answers and waiting not in httpx.get(f'{server.url}/metrics').text:
        time.sleep(0.01)
    status, said = server.end(number)
    for c in clients:
        c.join()
    assert (status, said) == (0, ''), said
    assert answers == [200] * 8


def test_a_second_signal_does_not_wait(bodies):
    "Much is asked, and two signals come: it ends at once, with status 0."
    server = Server()
    asked = []
    for i in range(20):
        body = json.dumps(json.loads(bodies[i]) | dict(paths=1000, horizon=200 + i))
        asked.append(socket.create_connection(('127.0.0.1', server.port)))
        asked[-1].sendall(head_of(server, f'Content-Length: {len(body)}') + body.encode())
    while server.measure('kronos_waiting') < len(asked):
        time.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)  # two at the same moment are one
    status, said = server.end()
    assert (status, said) == (0, 'requests at work are left without an answer\n'), said
    assert not all(s.recv(100).startswith(b'HTTP/1.1 200') for s in asked)


def test_a_port_that_is_taken(server):
    command = start(f'--port={server.port}')
    said, _ = command.communicate(timeout=120)
    assert command.returncode == 2 and f'port {server.port}: nothing can listen there' in said
    assert 'another --port' in said and 'Traceback' not in said


def test_a_blend(bodies):
    "Said at the start and in every answer."
    server = Server('--blend=0.25')
    answer = ask(httpx, server.url, bodies[0]).json()
    assert answer['blend'] == 0.25 and '8 of 32 paths' in answer['notes'][-1]
    assert server.end() == (0, '')


def test_the_client_of_the_guide(server, monkeypatch, capsys):
    "The ten lines as they stand."
    requests = pytest.importorskip('requests')
    cells = json.loads((ROOT / 'nbs/how_to/serve.ipynb').read_text(encoding='utf-8'))['cells']
    sources = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    [client] = [source for source in sources if 'requests.post' in source]
    assert requests and client.count('http://127.0.0.1:8000') == 1
    monkeypatch.chdir(ROOT / 'nbs/how_to')
    names = {}
    exec(client.replace('http://127.0.0.1:8000', server.url), names)  # noqa: S102
    assert names['close'].shape == (24, 3) and (names['close']['0.05'] <= names['close']['0.95']).all()


def test_nothing_malformed_is_an_error_of_the_server(server, bodies):
    "Schemathesis makes requests from the OpenAPI page, valid and not."
    schemathesis = pytest.importorskip('schemathesis')
    from hypothesis import HealthCheck, Phase, settings

    schema = schemathesis.openapi.from_url(f'{server.url}/openapi.json')
    operations = [o.ok() for o in schema.get_all_operations()]
    assert '/forecast' in [o.path for o in operations]
    seen = []

    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            derandomize=True,
            database=None,
        )
        @given_case(operation)
        def attempt(case):
            answer = case.call()
            seen.append(answer.status_code)
            assert answer.status_code < 500, answer.text

        attempt()
    assert seen.count(422) > 20, seen
    print(f'\n{len(seen)} requests: ' + ', '.join(f'{seen.count(s)} x {s}' for s in sorted(set(seen))))


def given_case(operation):
    "A decorator that gives a test cases of an operation."
    from hypothesis import given, strategies
    from schemathesis import GenerationMode

    modes = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]
    return given(case=strategies.one_of(modes))


def mutants(body, n):
    "Requests near a good one: cells exchanged for what no bar has."
    import random

    rng = random.Random(1)
    odd = [None, '', 'x', -1, 0, 1e308, -1e308, 10**400, 5e-324, '1e999', 'NaN', '٣', '\x00', '9999-12-31', 2**63, 1.5]
    for _ in range(n):
        sent = json.loads(body)
        for _ in range(rng.randint(1, 4)):
            column = rng.choice([*sent['bars']])
            what = rng.random()
            if what < 0.5:
                sent['bars'][column][rng.randrange(256)] = rng.choice(odd)
            elif what < 0.7:
                sent['bars'][column] = [rng.choice(odd)] * 256
            elif what < 0.8:
                sent['bars'][rng.choice(['symbol', 'x', '', 'amount ', 'Close', '\ud800'])] = sent['bars'][column]
            elif what < 0.9:
                sent['bars'] = {k: v[: rng.choice([0, 1, 2, 3])] for k, v in sent['bars'].items()}
                break
            else:
                sent[rng.choice(['timezone', 'calendar', 'timestamp_format', 'quantiles', 'lookback'])] = rng.choice(
                    ['../../etc/passwd', 'Mars', '%', '%Q', [], [2], [0, 1], 2, 10**9, '\x00', 'XHKG', 'UTC']
                )
        yield json.dumps(sent | dict(horizon=2, paths=2))


def test_bars_that_are_nearly_right(server, bodies):
    "No odd cell, column or option is an error of the server; refusals are sentences."
    seen = []
    with httpx.Client(timeout=300) as client:
        for body in mutants(bodies[0], 150):
            answer = ask(client, server.url, body)
            seen.append(answer.status_code)
            assert answer.status_code in (200, 422), (answer.text, body[-300:])
            assert answer.status_code == 200 or len(answer.json()['detail']) > 10
    assert {*seen} == {200, 422}
