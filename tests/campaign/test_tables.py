"""Tables written in some sixty dialects and read back: the same bars, or a refusal. KRONOS_CAMPAIGN sets the number of
examples (500 in the ordinary tests)."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from dialects import DIALECTS, SESSIONS, bars, stamps, write
from hypothesis import given
from hypothesis import strategies as st
from sized import sized

from kronos_nb.data.klines import load_klines
from kronos_nb.errors import UserError

PRICES = ['open', 'high', 'low', 'close']
tally = Counter()

tables = st.fixed_dictionaries(
    dict(
        name=st.sampled_from(sorted(DIALECTS)),
        freq=st.sampled_from(['1min', '5min', '15min', '1h', 'D', 'B', 'W-FRI', 'MS']),
        session=st.sampled_from(sorted(SESSIONS)),
        start=st.dates(pd.Timestamp('1999-01-01').date(), pd.Timestamp('2025-06-01').date()),
        n=st.integers(20, 150),
        digits=st.integers(0, 5),
        level=st.sampled_from([0.35, 7.2, 98.0, 640.0, 1999.0, 38_000.0]),
        seed=st.integers(0, 10**6),
    )
)
quiet = sized(500, share=2, deadline=10_000)  # of each of the two tests


def make(name, freq, session, start, n, digits, level, seed):
    "Known bars, and the file a vendor makes of them."
    dialect = DIALECTS[name]
    if dialect.daily and freq not in ('D', 'B', 'W-FRI', 'MS'):
        freq = 'B'
    if level < 1:
        digits = max(digits, 3)
    frame = bars(stamps(freq, session, start, n), seed, level, digits)
    frame = frame[frame.timestamps < pd.Timestamp.now()].reset_index(drop=True)
    return dialect, frame, write(dialect, frame, digits)


def compare(read, frame, dialect):
    "Stamps and numbers are those that were written."
    assert (read.timestamps.to_numpy() == frame.timestamps.to_numpy()).all(), 'other stamps'
    columns = PRICES + ['volume'] * bool(dialect.volume) + ['amount'] * bool(dialect.amount)
    for c in columns:
        np.testing.assert_allclose(read[c], frame[c], rtol=2e-9, err_msg=c)


@quiet
@given(table=tables)
def test_what_was_written_is_read(tmp_path, table):
    dialect, frame, content = make(**table)
    if len(frame) < 20:
        return
    path = tmp_path / 'x.csv'
    path.write_bytes(content)
    tally['tried'] += 1
    try:
        klines = load_klines(path, **dialect.keys)
    except UserError as e:
        tally['refused'] += 1
        few = len(frame) < 60 or frame.timestamps.dt.normalize().nunique() < 3  # one date tells no day from a month
        assert not dialect.must or few, str(e)
        return
    (read,) = klines.frames.values()
    compare(read, frame, dialect)
    tally['the same'] += 1


MUTATIONS = ['comma', 'swap', 'twice', 'removed', 'moved', 'blank', 'short', 'times100', 'letters']


def mutate(content, how, row, encoding):
    "One line of a file damaged."
    lines = content.decode(encoding).split('\n')
    i = 4 + row % max(1, len(lines) - 6)
    line = lines[i]
    if how == 'comma':
        lines[i] = line[::-1].replace('.', ',', 1)[::-1]
    elif how == 'swap' and len(line) > 12:
        lines[i] = line[3:5] + line[2] + line[:2] + line[5:]
    elif how == 'twice':
        lines.insert(i, line)
    elif how == 'removed':
        del lines[i]
    elif how == 'moved':
        lines.insert(3, lines.pop(i))
    elif how == 'blank':
        lines.insert(i, '')
    elif how == 'short':
        lines[i] = line[: len(line) // 2]
    elif how == 'times100':
        lines[i] = line + '00'
    elif how == 'letters':
        lines[i] = line[:-2] + 'xy'
    return '\n'.join(lines).encode(encoding)


@quiet
@given(table=tables, how=st.sampled_from(MUTATIONS), row=st.integers(0, 200))
def test_a_damaged_line_is_noticed_or_harmless(tmp_path, table, how, row):
    "The bars of the other lines are as they were, or the file is refused."
    dialect, frame, content = make(**table)
    if len(frame) < 20:
        return
    path = tmp_path / 'x.csv'
    path.write_bytes(mutate(content, how, row, dialect.encoding))
    tally['damaged'] += 1
    try:
        klines = load_klines(path, **dialect.keys)
    except UserError:
        tally['damage refused'] += 1
        return
    read = max(klines.frames.values(), key=len)  # the damaged cell may be the symbol of a bar
    both = read.merge(frame, on='timestamps', suffixes=('', '_known'))
    assert len(read) - 1 <= len(frame) <= len(read) + 1
    assert len(both) >= len(frame) - 1, 'stamps of other rows changed'
    close = np.isclose(both.close, both.close_known, rtol=1e-9)
    assert (~close).sum() <= 1, 'numbers of other rows changed'


@pytest.fixture(scope='module', autouse=True)
def report():
    "Print the tally at the end."
    yield
    print('\ntables:', ', '.join(f'{n} {k}' for k, n in tally.items()))
