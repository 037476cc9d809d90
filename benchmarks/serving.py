"""How many forecasts `kronos_serve` answers: to one client, to many at once, and what the engine alone would do.

    python benchmarks/serving.py                        # rounds of one client and of 32, then the engine without HTTP
    python benchmarks/serving.py --requests 10000       # mixed requests of 32 clients: errors, and memory on the way
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import psutil
import pyarrow as pa
from fastcore.script import Param, call_parse

from kronos_nb.data.columns import BAR_COLS
from kronos_nb.data.klines import load_klines
from kronos_nb.data.sessions import future_timestamps
from kronos_nb.data.timestamps import time_features

BARS = 256
DATA = 'data/us_daily'


class Server:
    "`kronos_serve nano` in a process of its own."

    def __init__(self, threads):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        command = [sys.executable, '-m', 'kronos_nb.serve', 'nano', f'--port={port}', '--device=cpu']
        env = os.environ | dict(OMP_NUM_THREADS=str(threads))
        env.pop('KRONOS_SERVE_TOKEN', None)
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        if not said.startswith('nano is at '):
            sys.exit('the server did not start')
        self.url, self.watched = f'http://127.0.0.1:{port}', psutil.Process(self.process.pid)

    def cpu(self):
        "Seconds of processor time so far."
        return sum(self.watched.cpu_times()[:2])

    def memory(self):
        "MB resident."
        return self.watched.memory_info().rss / 2**20

    def batches(self):
        "(batches, forecasts in them) so far."
        text = httpx.get(f'{self.url}/metrics').text
        lines = dict(line.rsplit(' ', 1) for line in text.splitlines() if line[0] != '#')
        return np.array([float(lines[f'kronos_batch_size_{what}']) for what in ('count', 'sum')])

    def end(self):
        "The exit status after SIGTERM."
        self.process.terminate()
        return self.process.wait(120)


def windows(n, bars=BARS):
    "Real histories, each another."
    frames, made = [*load_klines(DATA).frames.values()], []
    for i in range(n):
        frame = frames[i % len(frames)]
        begin = 7 * i % (len(frame) - bars)
        made.append(frame.iloc[begin : begin + bars])
    return made


def as_text(frame):
    "A frame whose time stamps are text."
    return frame.assign(timestamps=frame.timestamps.astype(str))


def json_request(frame, seed, **options):
    "(content type, query, body)."
    body = dict(bars=as_text(frame).to_dict('list'), seed=seed) | options
    return 'application/json', {}, json.dumps(body).encode()


def mixed_requests(n):
    "Requests of all sizes, notations and options."
    rng, made = random.Random(0), []
    for i, frame in enumerate(windows(n)):
        frame, horizon = frame.tail(rng.choice((16, 40, 90, 256))), rng.choice((1, 3, 8, 24))
        options = dict(horizon=horizon, paths=rng.choice((1, 2, 4, 10)), quantiles=rng.sample([0, 0.1, 0.5, 0.9, 1], 3))
        options |= dict(events=f'up 1% in {horizon}; high 1% before low 1%') if rng.random() < 0.5 else {}
        options |= dict(lookback=rng.choice((8, 32))) if rng.random() < 0.5 else {}
        kind = rng.choice(('json', 'csv', 'arrow'))
        if kind == 'json':
            made.append(json_request(frame, i, **options))
        elif kind == 'csv':
            made.append(('text/csv', options, frame.to_csv(index=False).encode()))
        else:
            table, sink = pa.Table.from_pandas(frame, preserve_index=False), pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            made.append(('application/vnd.apache.arrow.stream', options, sink.getvalue().to_pybytes()))
    return made


async def ask_for(url, requests, clients, more, each=lambda n: None):
    "Seconds and status of every answer while `more(answers)`, from so many clients that ask one after the other."
    answers, numbers = [], iter(range(10**9))

    async def client():
        async with httpx.AsyncClient(timeout=300) as c:
            while more(number := next(numbers)):
                kind, query, body = requests[number % len(requests)]
                start = time.perf_counter()
                try:
                    answer = await c.post(url, params=query, content=body, headers={'content-type': kind})
                    status = answer.status_code
                except httpx.HTTPError as e:
                    status = type(e).__name__
                answers.append((time.perf_counter() - start, status))
                each(len(answers))

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def engine_rates(threads, paths, horizon, clients):
    "Paths a second of the engine, for one history and for as many as there are clients."
    import torch

    from kronos_nb.forecasting.files import load_predictor
    from kronos_nb.forecasting.sampling import Sampling

    torch.set_num_threads(threads)
    predictor, _, _ = load_predictor('nano', 'cpu')
    frames, bars, features = windows(clients), [], []
    for frame in frames:
        future = future_timestamps(frame.timestamps, horizon, None, [])
        bars.append(frame[BAR_COLS].to_numpy(np.float32))
        features.append(np.concatenate((time_features(frame.timestamps), time_features(future))))
    seconds = {}
    for _ in range(4):
        for n, times in ((1, clients), (clients, 1)):
            start, cpu = time.perf_counter(), time.process_time()
            for i in range(times):
                sampling = Sampling(seed=tuple(range(i, i + n)))
                predictor.sample_paths(bars[i : i + n], features[i : i + n], paths, sampling)
            spent = time.perf_counter() - start, time.process_time() - cpu
            seconds.setdefault(n, []).append(spent)
    return {n: clients * paths / np.median(spent[1:], 0) for n, spent in seconds.items()}  # the first compiles


def throughput(server, threads, clients, seconds, rounds, paths, horizon):
    "Print what one client gets, what many get, and what bounds it."
    url, rates, costs = f'{server.url}/forecast', {1: [], clients: []}, {1: [], clients: []}
    requests = [json_request(f, i, horizon=horizon, paths=paths) for i, f in enumerate(windows(64))]
    asyncio.run(ask_for(url, requests, clients, lambda n: n < 2 * clients))  # compiles
    print(f'{paths} paths x {horizon} bars after {BARS} bars as JSON, {threads} threads; load {os.getloadavg()[0]:.1f}')
    for _ in range(rounds):
        for n in rates:
            before, cpu, end = server.batches(), server.cpu(), time.perf_counter() + seconds
            start = time.perf_counter()
            answers = asyncio.run(ask_for(url, requests, n, lambda _: time.perf_counter() < end))  # noqa: B023
            taken, cpu = time.perf_counter() - start, server.cpu() - cpu
            batches, forecasts = server.batches() - before
            p50, p99 = np.percentile([s for s, _ in answers], [50, 99])
            errors = sum(status != 200 for _, status in answers)
            rates[n].append(len(answers) / taken)
            costs[n].append(1000 * cpu / len(answers))
            print(
                f'{n:3} clients: {rates[n][-1]:6.1f} requests/s, p50 {p50:.3f} s, p99 {p99:.3f} s, {errors} errors of'
                f' {len(answers)}, {forecasts / batches:.1f} a batch, {costs[n][-1]:.0f} ms of processor a request'
            )
    one, many = (np.median(rates[n]) for n in rates)
    print(f'{many / one:.2f} times the requests/s of one client (medians of {rounds} rounds)')
    print(f'{np.median(costs[1]) / np.median(costs[clients]):.2f} times less processor time a request')
    server.end()
    alone = engine_rates(threads, paths, horizon, clients)
    for n, (wall, cpu) in alone.items():
        print(f'the engine alone, {n:2} x {paths} paths: {wall:.0f} paths/s, {cpu:.0f} a second of processor time')
    wall, cpu = alone[clients] / alone[1]
    print(f'so computing together gives {wall:.2f} times the paths/s, {cpu:.2f} times those of processor time')


def storm(server, clients, n):
    "Print what became of many mixed requests, and memory on the way."
    url, requests = f'{server.url}/forecast', mixed_requests(512)
    asyncio.run(ask_for(url, requests, clients, lambda i: i < len(requests)))  # compiles, fills caches
    print(f'{server.memory():.0f} MB resident after {len(requests)} requests', flush=True)
    start, tenth = time.perf_counter(), max(1, n // 10)

    def each(done):
        if done % tenth == 0:
            print(f'{done:6} requests, {time.perf_counter() - start:.0f} s, {server.memory():.0f} MB', flush=True)

    answers = asyncio.run(ask_for(url, requests, clients, lambda i: i < n, each))
    statuses = [status for _, status in answers]
    p50, p99 = np.percentile([s for s, _ in answers], [50, 99])
    told = ', '.join(f'{statuses.count(s)} x {s}' for s in dict.fromkeys(statuses))
    print(f'{len(answers)} requests of {clients} clients: {told}; p50 {p50:.3f} s, p99 {p99:.3f} s')


@call_parse
def main(
    clients: Param('at once', int) = 32,
    seconds: Param('of each round', float) = 10.0,
    rounds: Param('of one client and of many, in turn', int) = 3,
    paths: Param('of a request', int) = 32,
    horizon: Param('of a request', int) = 24,
    threads: Param('of the server', int) = 2,
    requests: Param('mixed ones, instead of measuring throughput', int) = 0,
):
    "Measure a server."
    server = Server(threads)
    try:
        if requests:
            storm(server, clients, requests)
        else:
            throughput(server, threads, clients, seconds, rounds, paths, horizon)
    finally:
        print(f'the server ended with status {server.end()}')
