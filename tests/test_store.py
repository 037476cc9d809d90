"Bars on disk instead of in memory: the same weights, one builder, and nothing half built."

import multiprocessing
import os
import signal
import time
from pathlib import Path

from conftest import ROOT, small_config

from kronos_nb.config import load_config
from kronos_nb.data import store
from kronos_nb.data.store import disk_store
from kronos_nb.train_sequential import train_sequential

FILES = ('tokenizer/best_model/model.safetensors', 'basemodel/best_model/model.safetensors', 'logs/metrics.csv')


def test_the_same_weights(tmp_path):
    "Both stages, trained from memory, from disk, and begun in memory and ended on disk: the same bytes."

    def go(name, where, **training):
        config = small_config(
            tmp_path,
            data=dict(store=where, cache=str(tmp_path / 'cache'), shortest_lookback=20),
            training=dict(save_every=5, samples_per_epoch=160) | training,
            forecast=dict(origins=0, pictures=0),
            model_paths=dict(base_save_path=str(tmp_path / name)),
        )
        train_sequential(config)
        return [(tmp_path / name / f).read_bytes() for f in FILES]

    memory = go('memory', 'memory')
    assert not (tmp_path / 'cache').exists()
    assert go('disk', 'disk') == memory
    assert len([p for p in (tmp_path / 'cache').iterdir() if p.is_dir()]) == 1
    for stage in ('tokenizer', 'basemodel'):  # as it was after five steps of stage 2
        last = sorted((tmp_path / 'memory' / stage / 'checkpoints').glob('step-*'))[-1]
        assert last.is_dir()
    (tmp_path / 'memory/basemodel/checkpoints' / last.name).rename(tmp_path / 'gone')
    assert go('memory', 'disk') == memory


def build(config, slow, out):
    "In a child: open the store of a configuration, and say how many files were read for it."
    read, load = [], store.load_klines

    def counted(*args, **keys):
        read.append(args)
        time.sleep(slow)
        return load(*args, **keys)

    store.load_klines = counted
    opened = disk_store(load_config(config).data)
    Path(out).write_text(f'{len(read)} {opened.digest}')


def test_one_builds_and_the_others_wait(tmp_path):
    "A builder that is killed leaves nothing that is found; of three that come then, one builds."
    config = small_config(tmp_path, data=dict(store='disk', cache=str(tmp_path / 'cache')))
    context = multiprocessing.get_context('fork')
    killed = context.Process(target=build, args=(config, 60, tmp_path / 'killed'))
    killed.start()
    while not list((tmp_path / 'cache').glob('.*.tmp')):
        assert killed.is_alive()
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    three = [context.Process(target=build, args=(config, 0.05, tmp_path / f'{i}')) for i in range(3)]
    for process in three:
        process.start()
    for process in three:
        process.join()
    said = [(tmp_path / f'{i}').read_text().split() for i in range(3)]
    assert sorted(int(n) for n, _ in said) == [0, 0, len(list((ROOT / 'data/us_daily').glob('*.csv')))]
    assert len({digest for _, digest in said}) == 1
    assert not list((tmp_path / 'cache').glob('.*.tmp')), 'what the killed one left is removed'
    other = small_config(tmp_path, data=dict(store='disk', cache=str(tmp_path / 'cache'), repair=['ffill']))
    build(other, 0, tmp_path / 'other')
    assert (tmp_path / 'other').read_text().split()[0] != '0', 'another way to read is another store'
