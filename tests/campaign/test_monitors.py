"""Log folders of any content before the monitor: it shows what is a run's, and nothing of it becomes HTML.
KRONOS_CAMPAIGN sets the number of examples (500 in the ordinary tests)."""

import json
import os
import re
import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sized import sized

pytest.importorskip('ipywidgets', reason='the package ipywidgets is not installed')
from kronos_nb.display.monitor import TrainingMonitor, read_run

STATES = ('waiting', 'starting', 'running', 'finished', 'stopped', 'failed', 'died')
EVIL = '<img src=x onerror=alert(1)>'
tally = Counter()
quiet = sized(500, share=20, deadline=20_000)
leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from([EVIL, 'running', 'finished', 10**30, -1, 0, '1', float('nan'), socket.gethostname(), 99_999_999]),
)
names = st.sampled_from(['epoch', 'epochs', 'step', 'steps', 'first', 'since', 'name', EVIL])
numbers = st.dictionaries(names, leaf | st.integers(0, 100), max_size=7)
COUNTS = ('epoch', 'epochs', 'step', 'steps', 'first', 'since')
whole = st.fixed_dictionaries({key: st.integers(0, 100) | leaf for key in COUNTS})
stages = st.dictionaries(st.sampled_from(['tokenizer', 'basemodel', EVIL]), numbers | whole | leaf, max_size=3)
keys = st.sampled_from(['state', 'host', 'pid', 'time', 'started', 'message', EVIL])
said = st.dictionaries(keys, leaf, max_size=7)
records = leaf | st.builds(
    lambda state, said, stages: said | {'stages': stages} | ({'state': state} if state else {}),
    st.sampled_from([*STATES, None]),
    said,
    stages | leaf,
)
cells = "tokenizer basemodel 1 2 0.5 1e308 nan inf -inf"
cells = st.sampled_from([*cells.split(), "", EVIL, "\"", "x" * 9])
cuts = st.sampled_from([None, None, 0, 1, 40, 150])
header = 'stage,epoch,step,train_loss,val_loss,learning_rate,grad_norm'
tables = st.builds(
    lambda head, rows: '\n'.join([head, *(','.join(row) for row in rows)]),
    st.sampled_from([header, header, 'stage,epoch,step,windows_per_second', 'a,b', '', 'stage', header + ',stage']),
    st.lists(st.lists(cells, min_size=0, max_size=8), max_size=12),
)


@quiet
@given(record=records, cut=cuts, metrics=tables, speed=tables, log=st.text(max_size=9))
def test_any_folder(tmp_path, record, cut, metrics, speed, log):
    logs = tmp_path / 'run <b>' / 'logs'
    logs.mkdir(parents=True, exist_ok=True)
    (logs / 'run.json').write_text(json.dumps(record)[:cut])
    for name, text in (('metrics.csv', metrics), ('speed.csv', speed), ('training.log', log + EVIL)):
        (logs / name).write_text(text, encoding='utf-8')
    tally['tried'] += 1
    monitor = TrainingMonitor(logs.parent)
    monitor._closed.set()
    assert monitor.state in STATES and 0 <= monitor.progress <= 1
    tally[monitor.state] += 1
    areas = monitor._heading, monitor._numbers, monitor._message_area
    html = ''.join(area.value for area in areas)
    assert not re.search(r'<(?!/?(div|span|b)\b)', html), html
    assert '<b>' not in html.replace('<b>run &lt;b&gt;</b>', '')
    left = read_run(logs.parent).seconds_left
    assert left is None or left >= 0


def test_it_stops_only_processes(tmp_path, monkeypatch):
    "A process id that means a group, everybody or nothing is none."
    told = []
    monkeypatch.setattr(os, 'kill', lambda pid, sent: told.append(pid))
    for pid in (0, -1, 1, True, '7', 2.5, None, 10**30):
        (tmp_path / 'logs').mkdir(exist_ok=True)
        (tmp_path / 'logs/run.json').write_text(json.dumps(dict(state='running', host=socket.gethostname(), pid=pid)))
        monkeypatch.setattr('kronos_nb.display.monitor._is_locked', lambda lock: True)
        monitor = TrainingMonitor(tmp_path)
        monitor.stop()
        monitor.close()
        assert 'does not say which process' in monitor.message and told == []


@pytest.fixture(scope='module', autouse=True)
def report():
    "Print the tally at the end."
    yield
    print('\nlog folders:', ', '.join(f'{n} {k}' for k, n in tally.items()))
