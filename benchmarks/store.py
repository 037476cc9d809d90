"""Windows per CPU second from a store on disk, beside bars in memory; and the memory of a process that reads it.

    python benchmarks/store.py make 50000000 /tmp/store    # random bars of 500 symbols
    python benchmarks/store.py compare /tmp/store          # alternating, on a warm cache
    python benchmarks/store.py memory /tmp/store           # resident memory and time to the first batch
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from kronos_nb.config import DataConfig
from kronos_nb.data.columns import BAR_COLS, TIME_COLS
from kronos_nb.data.store import StoreWriter, open_store
from kronos_nb.data.windows import BarStore, EpochPlan, gather, prefetch

SYMBOLS, BATCH, BEGUN = 500, 160, time.perf_counter()
CFG = DataConfig(data_path='none', lookback_window=512, predict_window=48)


def make(bars, folder):
    "Random walks, laid into a store."
    Path(folder).mkdir(parents=True)
    writer, n, rng = StoreWriter(folder), int(bars) // SYMBOLS, np.random.default_rng(0)
    times = np.datetime64('2000-01-01', 'ns') + np.arange(n) * np.timedelta64(60 * 10**9, 'ns')
    for i in range(SYMBOLS):
        walk = (100 + rng.normal(size=(n, len(BAR_COLS)), scale=0.01).cumsum(0)).astype(np.float32)
        writer.add(f's{i}', walk, rng.integers(0, 50, (n, len(TIME_COLS)), np.int8), times)
    writer.finish()


def compare(folder, rows=6_000_000):
    "Median of 55 batches each, in turns."
    disk = open_store(folder, CFG)
    rows = min(rows, len(disk.bars))
    memory = BarStore(np.array(disk.bars[:rows]), np.array(disk.stamps[:rows]), None, {}, CFG)
    rng, took = np.random.default_rng(0), dict(memory=[], disk=[])
    for _ in range(60):
        starts = rng.integers(0, rows - CFG.window, BATCH)
        for name, store in (('memory', memory), ('disk', disk)):
            begun = time.process_time()
            gather(store, starts)
            took[name].append(time.process_time() - begun)
    print({name: round(BATCH / statistics.median(t[5:])) for name, t in took.items()}, 'windows per CPU second')


def memory(folder, batches=1200):
    "What a process holds after so many batches in the order of an epoch."
    store = open_store(folder, CFG)
    plan = EpochPlan(store.ranges('train'), BATCH)
    ready = prefetch(lambda starts: gather(store, starts[0]), plan.epoch(1)[:batches])
    next(ready)
    print(f'{len(plan.starts):,} windows; first batch {time.perf_counter() - BEGUN:.1f} s after the imports')
    for _ in ready:
        pass
    print(f'{psutil.Process().memory_info().rss / 2**20:.0f} MB resident')


if __name__ == '__main__':
    dict(make=make, compare=compare, memory=memory)[sys.argv[1]](*sys.argv[2:])
