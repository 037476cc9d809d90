"""Memory and speed of `kronos_forecast` into a folder, for any number of symbols.

    python benchmarks/streaming.py --symbols 200 --paths 100                                # what paths cost
    python benchmarks/streaming.py --symbols 1000 10000 --paths 2 --lookback 32             # what symbols cost
    python benchmarks/streaming.py --symbols 1000 10000 --paths 2 --lookback 32 --data one  # in a single Parquet file
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from fastcore.script import Param, call_parse

from kronos_nb.data.synthetic import synthetic_klines


def write_bars(root, kind, symbols, bars):
    "Fifty random walks in turns, as a file a symbol, as one Parquet file, or as a folder a symbol; what --data is."
    root.mkdir()
    one, writer = root / 'all.parquet', None
    walks = [synthetic_klines(bars, 'B', volatility=0.01, seed=i) for i in range(50)]
    texts = [walk.to_csv(index=False) for walk in walks]
    for i in range(symbols):
        frame, name = walks[i % 50], f'S{i:06}'
        if kind == 'csv':
            (root / f'{name}.csv').write_text(texts[i % 50])
        elif kind == 'folders':
            (root / f'symbol={name}').mkdir()
            frame.to_parquet(root / f'symbol={name}' / 'part-0.parquet', index=False)
        else:
            table = pa.Table.from_pandas(frame.assign(symbol=name), preserve_index=False)
            writer = writer or pq.ParquetWriter(one, table.schema)
            writer.write_table(table)
    if writer:
        writer.close()
    return one if writer else root


def watch(process):
    "Wait for a process; the largest resident memory of it and all below it, in bytes, looked at every 50 ms."
    peak, root = 0, psutil.Process(process.pid)
    while process.poll() is None:
        now = 0
        for p in [root, *root.children(recursive=True)]:
            try:
                now += p.memory_info().rss
            except psutil.Error:  # it has ended
                pass
        peak = max(peak, now)
        time.sleep(0.05)
    return peak


@call_parse
def main(
    symbols: Param('how many; several are done in turns', int, nargs='+') = (1000, 10000),
    paths: int = 100,  # of each symbol
    horizon: int = 24,  # bars to forecast
    bars: int = 500,  # of each symbol
    data: Param('a file each, one file of all, or a folder each', str, choices=['csv', 'one', 'folders']) = 'csv',
    lookback: int = None,  # bars of history (default: nano's)
    where: str = None,  # where the bars and results lie while it runs (default: the temporary folder)
):
    "Print peak memory and symbols a second."
    for n in symbols:
        with TemporaryDirectory(dir=where) as folder:
            source = write_bars(Path(folder) / 'bars', data, n, bars)
            command = [sys.executable, '-m', 'kronos_nb.forecast_files', '--model=nano', f'--data={source}']
            command += [f'--out={folder}/out/', f'--paths={paths}', f'--horizon={horizon}', '--device=cpu']
            command += [f'--lookback={lookback}'] if lookback else []
            begun = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                peak = watch(process)
            finally:
                process.kill()
            took, said = time.perf_counter() - begun, process.stdout.read().splitlines()
            if process.returncode:
                sys.exit(process.returncode)
            results = sum(f.stat().st_size for f in (Path(folder) / 'out').rglob('*.parquet'))
            print(
                f'{n:,} symbols ({data}) x {bars} bars, {paths} paths x {horizon}: peak {peak / 2**20:,.0f} MB,'
                f' {n / took:.2f} symbols/s, {took:,.0f} s, {results / 2**20:.1f} MB of results; {said[-1]}',
                flush=True,
            )
            shutil.rmtree(Path(folder) / 'bars')
