"Reading, checking and continuing K-lines: what can be read without doubt is read, all else is refused with its place."

import gzip
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kronos_nb.check_data import check_data, main
from kronos_nb.data.bars import complete_bars
from kronos_nb.data.columns import BAR_COLS, PRICE_COLS, TIME_COLS, match_columns
from kronos_nb.data.klines import bar_frequency, load_klines
from kronos_nb.data.sessions import future_timestamps
from kronos_nb.data.timestamps import latest_year, read_timestamps, time_features
from kronos_nb.errors import UserError

US_DAILY = Path(__file__).parent.parent / 'data' / 'us_daily'
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def walk(timestamps, seed=0):
    rng, n = np.random.default_rng(seed), len(timestamps)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n))).round(4)
    open = np.r_[100, close[:-1]]
    high, low = np.maximum(open, close) * 1.001, np.minimum(open, close) * 0.999
    return pd.DataFrame(
        dict(
            timestamps=pd.DatetimeIndex(timestamps).as_unit('ns'),
            open=open,
            high=high,
            low=low,
            close=close,
            volume=rng.integers(0, 1000, n) * 1.0,
            amount=rng.integers(0, 10**6, n) * 1.0,
        )
    )


def days(n=40):
    return walk(pd.bdate_range('2023-01-02', periods=n))


def same(a, b):
    pd.testing.assert_frame_equal(a, b, rtol=1e-12, check_exact=False)


def only(klines):
    [(_, frame)] = klines
    return frame


# ---- the same bars, however they are written


@quick
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), freq=st.sampled_from(['1D', '5min', '1h', '30s']))
def test_round_trips(tmp_path, seed, n, freq):
    df = walk(pd.date_range('2023-01-02 09:30', periods=n, freq=freq), seed)
    shuffled = df.sample(frac=1, random_state=seed)
    shuffled.to_csv(tmp_path / 'a.csv', index=False)
    df[list(np.random.default_rng(seed).permutation(df.columns))].to_csv(tmp_path / 'b.csv.gz', index=False)
    shuffled.to_parquet(tmp_path / 'c.parquet')
    df.set_index('timestamps').to_parquet(tmp_path / 'd.parquet')
    loaded = load_klines(tmp_path)
    assert list(loaded.frames) == ['a', 'b', 'c', 'd']
    for _, f in loaded:
        same(f, df)
        assert f.timestamps.dtype.kind == 'M' and f.timestamps.dt.tz is None and isinstance(f.index, pd.RangeIndex)
    if n > 1 and not shuffled.index.is_monotonic_increasing:
        assert any('sorted' in x or 'turned round' in x for x in loaded.notes)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'gb18030', 'gbk', 'utf-16', 'utf-16-le-bom'])
@pytest.mark.parametrize('sep', [',', ';', '\t'])
def test_encodings(tmp_path, encoding, sep):
    text = (
        days()
        .rename(columns=dict(zip(['timestamps', *BAR_COLS], '日期 开盘价 最高价 最低价 收盘价 成交量 成交额'.split())))
        .to_csv(index=False, sep=sep)
    )
    (tmp_path / 'a.csv').write_bytes(
        b'\xff\xfe' + text.encode('utf-16-le') if encoding == 'utf-16-le-bom' else text.encode(encoding)
    )
    same(only(load_klines(tmp_path / 'a.csv')), days())


@pytest.mark.parametrize('newline', ['\n', '\r\n', '\r'])
def test_newlines_blank_lines_and_spaces(tmp_path, newline):
    lines = days().to_csv(index=False).splitlines()
    lines = ['', lines[0].replace(',', ' , ').title(), *(line.replace(',', ' ,') for line in lines[1:]), '', ',,,,,,']
    (tmp_path / 'a.csv').write_bytes(newline.join(lines).encode())
    loaded = load_klines(tmp_path / 'a.csv')
    same(only(loaded), days())
    assert any('blank' in n for n in loaded.notes)


WAYS = {
    'iso': lambda t: t.strftime('%Y-%m-%d %H:%M:%S'),
    'iso T': lambda t: t.strftime('%Y-%m-%dT%H:%M:%S'),
    'micro': lambda t: t.strftime('%Y-%m-%d %H:%M:%S.000000'),
    'slashes': lambda t: [f'{x.year}/{x.month}/{x.day} {x.hour}:{x.minute:02}' for x in t],
    'Z': lambda t: t.strftime('%Y-%m-%dT%H:%M:%SZ'),
    'offset': lambda t: t.strftime('%Y-%m-%d %H:%M:%S+08:00'),
    'offset short': lambda t: t.strftime('%Y-%m-%dT%H:%M:%S-0500'),
    'named zone': lambda t: t.strftime('%Y-%m-%d %H:%M:%S UTC'),
    'US': lambda t: t.strftime('%m/%d/%Y %I:%M %p'),
    'European': lambda t: t.strftime('%d.%m.%Y %H:%M'),
    'day first': lambda t: t.strftime('%d/%m/%Y %H:%M:%S'),
    'two-digit year': lambda t: t.strftime('%m/%d/%y %H:%M'),
    'month name': lambda t: t.strftime('%d-%b-%Y %H:%M:%S'),
    'Chinese': lambda t: t.strftime('%Y年%m月%d日 %H:%M'),
    'compact': lambda t: t.strftime('%Y%m%d%H%M'),
    'compact s': lambda t: t.strftime('%Y%m%d%H%M%S'),
    'compact ms': lambda t: t.strftime('%Y%m%d%H%M%S000'),
    'half compact': lambda t: t.strftime('%Y%m%d %H:%M'),
    'epoch s': lambda t: t.as_unit('ns').astype('int64') // 10**9,
    'epoch ms': lambda t: t.as_unit('ns').astype('int64') // 10**6,
    'epoch us': lambda t: t.as_unit('ns').astype('int64') // 10**3,
    'epoch ns': lambda t: t.as_unit('ns').astype('int64'),
    'epoch float': lambda t: (t.as_unit('ns').astype('int64') // 10**9).astype(float),
}


@pytest.mark.parametrize('way', WAYS)
def test_ways_to_write_time(tmp_path, way):
    df = walk(pd.date_range('2023-01-02 09:30', periods=400, freq='97min').floor('min'))
    df.assign(timestamps=list(WAYS[way](pd.DatetimeIndex(df.timestamps)))).to_csv(tmp_path / 'a.csv', index=False)
    same(only(load_klines(tmp_path / 'a.csv')), df)


@quick
@given(
    stamps=st.lists(
        st.datetimes(pd.Timestamp('1995-01-01').to_pydatetime(), pd.Timestamp('2035-01-01').to_pydatetime()),
        min_size=30,
        max_size=60,
        unique=True,
    ),
    way=st.sampled_from(list(WAYS)),
)
def test_time_notations_agree(stamps, way):
    t = pd.DatetimeIndex(stamps).floor('min')
    if way in ('US', 'day first', 'European', 'two-digit year'):
        assume((t.day > 12).any())  # else nothing proves the order
    if way == 'two-digit year':
        assume(t.year.max() <= latest_year())  # later ones are of the last century
    assert read_timestamps(list(WAYS[way](t))).equals(t.as_unit('ns'))


@pytest.mark.parametrize(
    'dates,clocks',
    [
        ('%Y-%m-%d', '%H:%M:%S'),
        ('%Y%m%d', '%H%M%S'),
        ('%Y/%m/%d', '%H:%M'),
        ('%d.%m.%Y', '%H%M'),
        ('%Y-%m-%d', '%Y%m%d%H%M%S000'),
        ('%Y-%m-%d', '%I:%M %p'),
    ],
)
def test_date_and_time_columns(tmp_path, dates, clocks):
    df = walk(pd.date_range('2023-01-02', periods=300, freq='35min'))
    d = df.rename(columns=dict(timestamps='date')).assign(
        date=df.timestamps.dt.strftime(dates), time=df.timestamps.dt.strftime(clocks)
    )
    if clocks == '%H%M%S':
        d['time'] = d['time'].astype(int)  # the leading zero is lost
    d.to_csv(tmp_path / 'a.csv', index=False)
    same(only(load_klines(tmp_path / 'a.csv')), df)


def test_zones_keep_the_wall_clock(tmp_path):
    t = pd.date_range(
        '2024-03-01 09:30', '2024-03-20 16:00', freq='30min', tz='America/New_York'
    )  # across the change of clocks
    df = walk(t.tz_localize(None))
    df.assign(timestamps=[str(x) for x in t]).to_csv(tmp_path / 'a.csv', index=False)
    df.assign(timestamps=t).to_parquet(tmp_path / 'b.parquet')
    df.assign(timestamps=[str(x) for x in t]).to_parquet(tmp_path / 'c.parquet')
    loaded = load_klines(tmp_path)
    for _, f in loaded:
        same(f, df)
    zones = [n for n in loaded.notes if 'zone' in n and 'dropped' in n]
    assert len(zones) == 2 and 'b.parquet' in zones[1] and 'and 1 more' in zones[0]


def test_rows_without_a_zone_among_others_with_one(tmp_path):
    t = pd.date_range('2024-03-04', periods=60, freq='h', tz='UTC')
    there = t.tz_convert('Asia/Shanghai')
    df = walk(there.tz_localize(None))
    mixed = [str(u) if i < 30 else str(u.tz_convert('Asia/Shanghai'))[:-6] for i, u in enumerate(t)]
    df.assign(timestamps=mixed).to_csv(tmp_path / 'a.csv', index=False)
    with pytest.raises(UserError, match='line 32, column timestamps: .* has no time zone, and others have'):
        load_klines(tmp_path / 'a.csv')
    same(only(load_klines(tmp_path / 'a.csv', timezone='Asia/Shanghai')), df)


def test_the_autumn_hour_of_a_naive_clock_stays_where_the_zone_is_named(tmp_path):
    t = pd.date_range('2024-11-02', periods=120, freq='30min', tz='America/New_York')
    df = walk(t.tz_localize(None))
    for name, rows in (('a', df), ('b', df[::-1])):
        rows.to_csv(tmp_path / f'{name}.csv', index=False)
        with pytest.raises(UserError, match='both are 2024-11-03 01:00:00'):
            load_klines(tmp_path / f'{name}.csv')
        same(only(load_klines(tmp_path / f'{name}.csv', timezone='America/New_York')), df)


@pytest.mark.parametrize('kind,origin', [('ticks', 621_355_968 * 10**9), ('filetime', 116_444_736 * 10**9)])
def test_ticks_are_no_nanoseconds(tmp_path, kind, origin):
    for freq in ('B', 'h', '5min'):
        df = walk(pd.date_range('2024-03-04', periods=60, freq=freq))
        counts = df.timestamps.astype('int64') // 100 + origin
        df.assign(timestamps=counts).to_csv(tmp_path / 'a.csv', index=False)
        same(only(load_klines(tmp_path / 'a.csv', timestamp_format=kind)), df)
        try:
            found = only(load_klines(tmp_path / 'a.csv'))
        except UserError as e:
            assert freq != 'B' and f'timestamp_format: {kind} or timestamp_format: ns' in str(e)
        else:
            same(found, df)


def test_daily_bars_at_another_midnight_are_told(tmp_path):
    t = pd.bdate_range('2024-01-02', periods=150, tz='Asia/Shanghai')
    df = walk(t.tz_localize(None))
    df.assign(timestamps=t.as_unit('ms').astype('int64')).to_csv(tmp_path / 'a.csv', index=False)
    assert any('say timezone: Asia/Shanghai' in n for n in load_klines(tmp_path / 'a.csv').notes)
    same(only(load_klines(tmp_path / 'a.csv', timezone='Asia/Shanghai')), df)


def test_words_for_powers_of_ten_are_read_to_the_bit(tmp_path):
    df = days().assign(volume=[(v + 3001) * 10_000 for v in range(40)])
    text = [f'{v // 10_000 / 100:.2f}M' for v in df.volume]
    df.assign(volume=text).to_csv(tmp_path / 'a.csv', index=False)
    assert only(load_klines(tmp_path / 'a.csv')).volume.tolist() == df.volume.tolist()


def test_days_of_a_spreadsheet_are_refused_with_their_key(tmp_path):
    df = days()
    count = (df.timestamps - pd.Timestamp('1899-12-30')).dt.days
    df.assign(timestamps=count).to_csv(tmp_path / 'a.csv', index=False)
    with pytest.raises(UserError, match='say timestamp_format: excel'):
        load_klines(tmp_path / 'a.csv')
    same(only(load_klines(tmp_path / 'a.csv', timestamp_format='excel')), df)


def test_keys_hold_for_files_that_could_be_read_without_them(tmp_path):
    months = pd.date_range('2023-01-01', periods=12, freq='MS')
    df = walk(months)
    df.assign(timestamps=months.strftime('%Y-%d-%m')).to_csv(tmp_path / 'a.csv', index=False)
    same(only(load_klines(tmp_path / 'a.csv', timestamp_format='%Y-%d-%m')), df)
    with pytest.raises(UserError, match='timestamps'):
        load_klines(tmp_path / 'a.csv', timestamp_format='%H')
    df = walk(pd.date_range('2023-01-13', periods=40))
    df.assign(timestamps=df.timestamps.dt.strftime('%d%m%Y')).to_csv(tmp_path / 'b.csv', index=False)
    same(only(load_klines(tmp_path / 'b.csv', timestamp_format='%d%m%Y')), df)
    whole = df.assign(**{c: (df[c] * 1000).round() for c in PRICE_COLS})
    text = {c: [f'{v / 1000:.3f}' for v in whole[c]] for c in PRICE_COLS}
    counts = {c: whole[c].astype(int) for c in ('volume', 'amount')}
    whole.assign(**text, **counts).to_csv(tmp_path / 'c.csv', index=False)
    for keys in (dict(thousands='.'), dict(decimal=',')):  # 100.130 is a hundred thousand
        found = only(load_klines(tmp_path / 'c.csv', **keys))
        assert np.array_equal(found[PRICE_COLS], whole[PRICE_COLS])


def test_dates_before_1970_and_after_2100():
    assert read_timestamps(['1929-10-24', '2120-01-01']).year.tolist() == [1929, 2120]
    assert read_timestamps([19291024, 20240229]).day.tolist() == [24, 29]


@pytest.mark.parametrize(
    'bad',
    [
        '2023-02-30',
        '2023-13-01',
        '25:00',
        'today',
        '12345',
        '0',
        '2023-01-02 24:30',
        '2023-01-02 10:61',
        '20230230',
        '',
        'nan',
    ],
)
def test_what_is_no_time_is_refused(bad):
    good = ['20230102', '20230103', '20230104'] if bad.isdigit() else ['2023-01-02', '2023-01-03', '2023-01-04']
    with pytest.raises(UserError, match='row 2'):
        read_timestamps(good[:2] + [bad] + good[2:])


def test_month_and_day_are_decided_once():
    notes = []
    assert read_timestamps(['01/02/2020', '13/02/2020'], notes=notes).month.tolist() == [2, 2]
    assert read_timestamps(['01/02/2020', '01/13/2020'], notes=notes).month.tolist() == [1, 1]
    assert 'day first' in notes[0] and 'month first' in notes[1]
    with pytest.raises(UserError, match='dayfirst: true'):
        read_timestamps(['01/02/2020', '01/03/2020'])
    assert read_timestamps(['01/02/2020', '01/03/2020'], dayfirst=False).month.tolist() == [1, 1]
    with pytest.raises(UserError, match='row 2'):
        read_timestamps(['13/02/2020', '14/02/2020', '02/15/2020'])


def test_typed_columns():
    t = pd.date_range('2024-01-01', periods=5, freq='h')
    for v in (
        t,
        pd.Series(t),
        list(t),
        t.to_numpy(),
        [x.to_pydatetime() for x in t],
        [str(x) for x in t],
        t.to_period('h'),
        pd.Series(t.astype(str)).astype('category'),
    ):
        assert list(read_timestamps(v)) == list(t)
    assert time_features(t).shape == (5, len(TIME_COLS)) and time_features(t.tz_localize('Asia/Tokyo'))[3].tolist() == [
        0,
        3,
        0,
        1,
        1,
    ]
    assert time_features([]).shape == (0, 5)


# ---- columns


@pytest.mark.parametrize(
    'header',
    [
        'Date,Open,High,Low,Close,Volume',
        'time,open,high,low,close,vol',
        '日期,开盘,最高,最低,收盘,成交量',
        'trade_date,open,high,low,close,vol',
        ' DateTime , OPEN,HIGH,LOW,CLOSE,VOLUME',
        'date,Open Price,High Price,Low Price,Close Price,Total Volume',
        '交易日期,开盘价,最高价,最低价,收盘价,成交量(股)',
        'timestamp,o,h,l,c,v',
        'open_time,open,high,low,close,volume',
    ],
)
def test_known_names(tmp_path, header):
    df = days()
    df.drop(columns='amount').to_csv(tmp_path / 'a.csv', index=False, header=header.split(','))
    same(only(load_klines(tmp_path / 'a.csv')), complete_bars(df.drop(columns='amount')))


def test_rivals():
    names = 'timestamps,Timestamp,open,high,low,Close,close,adj close,vol,volume,turnover'.split(',')
    header = match_columns(names)
    found, notes = header.found, header.notes
    assert [names[found[r]] for r in ('timestamps', 'close', 'volume', 'amount')] == [
        'timestamps',
        'close',
        'volume',
        'turnover',
    ]
    assert any('not vol' in n for n in notes) and any('adj close' in n for n in notes)
    with pytest.raises(UserError, match='vol, 成交量 could each be volume'):
        match_columns('date,open,high,low,close,vol,成交量'.split(','))
    assert match_columns('date,open,high,low,adj close'.split(',')).found['close'] == 4


def test_missing_volume_and_amount(tmp_path):
    df = days()
    for gone in (['volume', 'amount'], ['amount'], ['volume']):
        df.drop(columns=gone).to_csv(tmp_path / 'a.csv', index=False)
        loaded = load_klines(tmp_path / 'a.csv')
        f = only(loaded)
        if 'volume' in gone:
            assert (f[['volume', 'amount']] == 0).all(axis=None)
        else:
            np.testing.assert_allclose(f.amount, df.volume * df[PRICE_COLS].mean(axis=1))
        assert any('no column' in n for n in loaded.notes)


def test_numbers_as_text(tmp_path, caplog):
    df = days()
    df.assign(volume=[f'{v + 1000:,.1f}' for v in df.volume]).to_csv(tmp_path / 'a.csv', index=False)
    with caplog.at_level(logging.INFO, 'kronos_nb'):
        loaded = load_klines(tmp_path / 'a.csv')
    same(only(loaded), df.assign(volume=df.volume + 1000))
    assert any('thousands' in n for n in loaded.notes) and set(loaded.notes) <= set(caplog.messages)
    df.to_csv(tmp_path / 'a.csv', index=False, sep=';', decimal=',')
    same(only(load_klines(tmp_path / 'a.csv')), df)


# ---- symbols, folders


@quick
@given(seed=st.integers(0, 10**6), k=st.integers(2, 4))
def test_symbols_in_one_file(tmp_path, seed, k):
    frames = {f'{i:06}': walk(pd.bdate_range('2023-01-02', periods=5 + i), seed + i) for i in range(k)}
    pd.concat([f.assign(symbol=s) for s, f in frames.items()]).sample(frac=1, random_state=seed).to_csv(
        tmp_path / 'all.csv', index=False
    )
    loaded = load_klines(tmp_path / 'all.csv')
    assert sorted(loaded.frames) == sorted(frames)  # leading zeros and all
    for s, f in loaded:
        same(f, frames[s])


def test_ways_to_name_files(tmp_path):
    for s in 'ab':
        days().to_csv(tmp_path / f'{s}.csv', index=False)
    (tmp_path / '.hidden.csv').write_text('x')
    (tmp_path / 'notes.md').write_text('x')
    for path in (tmp_path, str(tmp_path), f'{tmp_path}/*.csv', [f'{tmp_path}/a.csv', f'{tmp_path}/b.csv'], [tmp_path]):
        assert list(load_klines(path).frames) == ['a', 'b']
    assert load_klines(tmp_path).sources['b'] == str(tmp_path / 'b.csv')
    with pytest.raises(UserError, match='symbol a was already read'):
        load_klines([tmp_path / 'a.csv', tmp_path])


def test_the_committed_data_loads_without_a_word_of_repair():
    loaded = load_klines(US_DAILY)
    assert len(loaded) == 4 and not [n for n in loaded.notes if 'ffill' in n or 'dropped' in n]


# ---- repairs


def test_repairs_are_counted(tmp_path):
    df = days(20).astype(object)
    df.loc[0, 'open'] = df.loc[5, 'close'] = df.loc[6, 'volume'] = ''
    df.loc[7, 'high'] = 'inf'
    pd.concat([df, df.iloc[[10]].assign(close=df.high[10])]).to_csv(tmp_path / 'a.csv', index=False)
    with pytest.raises(UserError):
        load_klines(tmp_path / 'a.csv')
    with pytest.raises(UserError):
        load_klines(tmp_path / 'a.csv', 'ffill')
    loaded = load_klines(tmp_path / 'a.csv', ['drop_duplicates', 'ffill'])
    f = only(loaded)
    assert (
        len(f) == 19
        and np.isfinite(f[BAR_COLS]).all(axis=None)
        and (f.high >= f[PRICE_COLS].max(axis=1)).all()
        and (f.low <= f[PRICE_COLS].min(axis=1)).all()
    )
    assert f.close[4] == f.close[3] and f.volume[5] == 0 and f.close[9] == df.high[10]
    assert any('filled 3 cells in 3 rows, and dropped 1 rows' in n for n in loaded.notes) and any(
        'removed 1 rows' in n for n in loaded.notes
    )


def test_rounding_is_a_note_and_more_is_not(tmp_path):
    df = days()
    df.loc[3, 'high'] = df.loc[3, ['open', 'close']].max() - 0.005
    df.to_csv(tmp_path / 'a.csv', index=False)
    assert any('by a rounding' in n for n in load_klines(tmp_path / 'a.csv').notes)
    df.loc[3, 'high'] -= 1
    df.to_csv(tmp_path / 'a.csv', index=False)
    with pytest.raises(UserError, match='line 5, column high'):
        load_klines(tmp_path / 'a.csv')


# ---- the pile of broken files

HEAD = 'timestamps,open,high,low,close,volume,amount\n'
ROWS = [f'2023-01-{d:02},10,12,9,11,100,1000' for d in range(2, 30)]


def broken(line, **cells):
    "The good file, with cells of one line replaced."
    rows = [r.split(',') for r in ROWS]
    for k, v in cells.items():
        rows[line - 2][HEAD.strip().split(',').index(k)] = v
    return HEAD + '\n'.join(map(','.join, rows)) + '\n'


def good():
    return HEAD + '\n'.join(ROWS) + '\n'


PILE = {
    'empty': ('', ['empty']),
    'blank': ('\n \n', ['empty']),
    'header only': (HEAD, ['no row']),
    'no close': (good().replace('close', 'klose'), ['close', 'klose']),
    'no time': (good().replace('timestamps', 'when'), ['timestamps', 'when']),
    'no header': ('\n'.join(ROWS), ['header']),
    'two closes': (good().replace('amount', 'close'), ['close, close']),
    'bad time': (broken(7, timestamps='2023-02-31'), ['line 7', 'timestamps', '2023-02-31']),
    'no time cell': (broken(7, timestamps=''), ['line 7', 'timestamps', 'it is not a time stamp']),
    'text price': (broken(9, open='abc'), ['line 9', 'column open', "'abc'"]),
    'decimal comma': (broken(9, open='"10,5"'), ['line 9', 'column open', "'10,5'"]),
    'unit': (broken(9, volume='1.2M'), ['line 9', 'column volume', "'1.2M'"]),
    'empty price': (broken(9, close=''), ['line 9', 'column close', 'empty']),
    'NaN price': (broken(9, close='NaN'), ['line 9', 'column close', 'NaN']),
    'inf price': (broken(9, high='inf'), ['line 9', 'column high', 'inf']),
    'empty volume': (broken(10, volume=''), ['line 10', 'column volume', 'empty']),
    'empty amount': (broken(10, amount='null'), ['line 10', 'column amount']),
    'zero price': (broken(11, low='0'), ['line 11', 'column low', "'0'"]),
    'negative price': (broken(11, low='-9'), ['line 11', 'column low', "'-9'"]),
    'negative volume': (broken(11, volume='-1'), ['line 11', 'column volume', "'-1'"]),
    'negative amount': (broken(11, amount='-1'), ['line 11', 'column amount', "'-1'"]),
    'high below low': (broken(12, high='8', low='9'), ['line 12', 'column high', '8']),
    'high below close': (broken(12, high='10.9'), ['line 12', 'column high', '10.9']),
    'low above open': (broken(12, low='10.2'), ['line 12', 'column low', '10.2']),
    'duplicate': (broken(13, timestamps='2023-01-05'), ['lines 5 and 13', 'timestamps', '2023-01-05']),
    'short row': (good().replace(ROWS[4], '2023-01-06,10,12'), ['line 6', '3 fields', '7']),
    'long row': (good().replace(ROWS[4], ROWS[4] + ',7'), ['line 6', '8 fields', '7']),
    'lone quote': (good().replace(ROWS[4], '"' + ROWS[4]), ['quoted']),
    'binary': (bytes(range(256)) * 9, ['encoding']),
    'spreadsheet': (b'PK\x03\x04' + bytes(99), ['CSV']),
    'half a gzip': (gzip.compress(good().encode())[:60], ['cannot be read']),
    'empty symbol': (
        'symbol,' + HEAD + ''.join(f'{"" if i == 3 else "A"},{r}\n' for i, r in enumerate(ROWS)),
        ['line 5', 'symbol'],
    ),
}  # name -> (content, what the message must name)


@pytest.mark.parametrize('name', PILE)
def test_broken_files(tmp_path, monkeypatch, capsys, name):
    content, names = PILE[name]
    monkeypatch.chdir(tmp_path)
    Path('bars.csv').write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as e:
        load_klines('bars.csv')
    with pytest.raises(SystemExit) as exit:
        main(
            ['bars.csv', '--lookback-window', '5', '--predict-window', '2', '--val_ratio', '.3', '--train_ratio', '.7']
        )
    assert exit.value.code == 2
    out, err = capsys.readouterr()
    for message in (str(e.value), err):
        assert len(message.strip().splitlines()) == 1 and 'bars.csv' in message and 'Traceback' not in message
        for part in names:
            assert part in message, (part, message)
    assert 'Traceback' not in out and 'REFUSED' in err


def test_good_file_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('bars.csv').write_text(good())
    main(['bars.csv', '--lookback_window', '5', '--predict_window', '2', '--train_ratio', '.7', '--val_ratio', '.3'])
    assert capsys.readouterr().out.strip().endswith('OK: training would accept this data')


@pytest.mark.parametrize(
    'path,part', [('nowhere.csv', 'no such file'), ('*.xyz', 'no file matches'), ('empty', 'holds no file')]
)
def test_paths_that_lead_nowhere(tmp_path, monkeypatch, capsys, path, part):
    monkeypatch.chdir(tmp_path)
    Path('empty').mkdir()
    with pytest.raises(UserError, match=part):
        load_klines(path)
    with pytest.raises(SystemExit) as exit:
        main([path])
    assert exit.value.code == 2 and part in capsys.readouterr().err


def test_every_problem_is_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('a.csv').write_text(broken(4, close='x').replace('2023-01-09', '2023-01-08').replace('2023-01-12', 'soon'))
    Path('b.csv').write_text(broken(9, high='1'))
    Path('c.csv').write_text('nothing,of,the,kind\n1,2,3,4\n')
    with pytest.raises(SystemExit):
        main(['a.csv', 'b.csv', 'c.csv', 'd.csv'])
    shown = capsys.readouterr()
    out = shown.out + shown.err  # the first problem stands on stderr, and nowhere else
    for part in (
        "a.csv: line 4, column close: 'x'",
        "a.csv: line 12, column timestamps: 'soon'",
        'a.csv: lines 8 and 9',
        'b.csv: line 9, column high: ',
        'c.csv: no column',
        'd.csv: no such file',
        'the train split is too short',
        'the val split is too short',
    ):
        assert out.count(part) == 1, part
    report = check_data(['a.csv', 'b.csv'], lookback_window=5, predict_window=2, train_ratio=0.7, val_ratio=0.3)
    assert (
        report.symbols.loc['a', 'duplicates'] == 1
        and report.symbols.loc['b', 'high_low'] == 1
        and report.windows.loc['b', 'val windows'] == 28 - 19 - 8 + 1
    )


def test_a_row_of_nulls_is_one_problem(tmp_path):
    bars = days(200)
    bars.loc[[3, 9], bars.columns[1:]] = np.nan
    bars.loc[20, 'close'] = np.nan
    bars.to_csv(tmp_path / 'a.csv', index=False)
    report = check_data(tmp_path / 'a.csv', lookback_window=5, predict_window=2)
    assert [p.split(': ')[1].split(',')[0] for p in report.problems] == ['line 5', 'line 22']
    assert '(and 1 more: line 11)' in report.problems[0] and '--repair ffill' in report.problems[0]
    assert report.symbols.loc['a', 'empty'] == 3
    assert check_data(tmp_path / 'a.csv', lookback_window=5, predict_window=2, repair=['ffill']).ok


def test_blank_lines_count_in_line_numbers(tmp_path):
    (tmp_path / 'a.csv').write_text('\n' + HEAD + '\n\n' + ROWS[0] + '\n\n' + ROWS[1].replace('10', 'ten', 1) + '\n')
    with pytest.raises(UserError, match='line 7, column open'):
        load_klines(tmp_path / 'a.csv')


def test_parquet_rows_are_named(tmp_path):
    df = days()
    df.loc[3, 'close'] = np.nan
    df.to_parquet(tmp_path / 'a.parquet')
    with pytest.raises(UserError, match='row 4, column close'):
        load_klines(tmp_path / 'a.parquet')
    (tmp_path / 'a.parquet').write_text('nonsense')
    with pytest.raises(UserError, match='not a Parquet file'):
        load_klines(tmp_path / 'a.parquet')


def test_check_against_a_yaml(tmp_path, monkeypatch, capsys):
    days(200).to_csv(tmp_path / 'a.csv', index=False)
    (tmp_path / 'c.yaml').write_text(
        'data: {data_path: a.csv, lookback_window: 10, predict_window: 3}\nexperiment: {train_tokenizer: false,'
        ' train_basemodel: false}\n'
    )
    assert check_data(config=tmp_path / 'c.yaml').data.window == 14
    assert check_data(config=tmp_path / 'c.yaml', lookback_window=12, set=['data.predict_window=1']).data.window == 14
    main(['--config', str(tmp_path / 'c.yaml')])
    (tmp_path / 'alone.yaml').write_text('data: {data_path: a.csv, lookback_window: 10, predict_window: 3}\n')
    assert check_data(config=tmp_path / 'alone.yaml').data.window == 14
    for wrong in (
        [],
        ['--set', 'data.clip=2', 'x.csv'],
        [str(tmp_path / 'a.csv'), '--train_ratio', '2'],
        [str(tmp_path / 'a.csv'), '--repair', 'magic'],
    ):
        with pytest.raises(SystemExit) as exit:
            main(wrong)
        assert exit.value.code == 2
    assert 'Traceback' not in capsys.readouterr().err


@pytest.mark.parametrize('module', ['kronos_nb.check_data', 'kronos_nb.klines'])
def test_module_as_a_command(tmp_path, module):
    (tmp_path / 'a.csv').write_text(broken(4, close='x'))
    done = subprocess.run(
        [sys.executable, '-m', module, 'a.csv'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 2 and 'line 4, column close' in done.stderr and 'Traceback' not in done.stderr


# ---- the future

MARKETS = dict(
    us=('5min', [('09:30', '16:00')], range(5)),
    hk=('5min', [('09:30', '12:00'), ('13:00', '16:00')], range(5)),
    china=('15min', [('09:45', '11:31'), ('13:15', '15:01')], range(5)),
    futures=('5min', [('09:00', '10:15'), ('10:30', '11:30'), ('13:30', '15:00'), ('21:00', '23:00')], range(5)),
    crypto=('1h', [('00:00', '23:59')], range(7)),
    gulf=('30min', [('10:00', '15:00')], [6, 0, 1, 2, 3]),
    hourly=('1h', [('09:30', '16:00')], range(5)),
    daily=('1D', [('00:00', '00:01')], range(5)),
)


def market(name, start, n_days):
    freq, spans, weekdays = MARKETS[name]
    return pd.DatetimeIndex(
        [
            t
            for d in pd.date_range(start, periods=n_days)
            if d.weekday() in weekdays
            for a, b in spans
            for t in pd.date_range(
                d + pd.Timedelta(a + ':00'), d + pd.Timedelta(b + ':00'), freq=freq, inclusive='left'
            )
        ]
    )


@quick
@given(
    name=st.sampled_from(list(MARKETS)),
    start=st.dates(pd.Timestamp('2015-01-01').date(), pd.Timestamp('2030-01-01').date()),
    cut=st.floats(0.7, 0.95),
    n=st.integers(1, 60),
)
def test_future_continues_the_sessions(name, start, cut, n):
    whole = market(name, pd.Timestamp(start), 70)
    i = min(int(len(whole) * cut), len(whole) - n)
    assume(i > 30)
    assert list(future_timestamps(whole[:i], n)) == list(whole[i : i + n])


@quick
@given(seed=st.integers(0, 10**6), name=st.sampled_from(list(MARKETS)), share=st.floats(0, 0.5), n=st.integers(1, 100))
def test_future_stays_in_sessions_when_bars_are_missing(seed, name, share, n):
    rng, whole = np.random.default_rng(seed), market(name, '2024-01-01', 60)
    holidays = rng.choice(whole.normalize().unique(), 3)
    h = whole[(rng.random(len(whole)) >= share) & ~whole.normalize().isin(holidays)]
    future = future_timestamps(h, n)
    assert (
        len(future) == n
        and future.is_monotonic_increasing
        and future.is_unique
        and future[0] > h[-1]
        and future.tz is None
    )
    clocks = set(whole.time)
    assert all(t.time() in clocks and t.weekday() in MARKETS[name][2] for t in future)


@quick
@given(stamps=st.lists(st.integers(0, 10**6), min_size=2, max_size=40, unique=True), n=st.integers(1, 50))
def test_future_of_anything_increases(stamps, n):
    h = pd.to_datetime(sorted(stamps), unit='m', origin='2020-01-01')
    future = future_timestamps(h, n)
    assert (
        len(future) == n
        and (np.diff(np.r_[h[-1:].to_numpy().astype('M8[ns]'), future.to_numpy()]).astype(int) > 0).all()
    )


@pytest.mark.parametrize('freq', ['W-MON', 'W-FRI', 'MS', 'ME', 'BME', 'BMS', 'QE', 'QS', 'YE', '2W'])
def test_future_of_long_bars(freq):
    whole = pd.date_range('2001-01-01', periods=40, freq=freq)
    assert list(future_timestamps(whole[:-12], 12)) == list(whole[-12:])


def test_future_of_real_days():
    t = load_klines(US_DAILY / 'AAPL.csv')['AAPL'].timestamps
    future = future_timestamps(t[:1000], 20)
    assert list(future) == list(pd.bdate_range(t[999], periods=21)[1:])


@pytest.mark.parametrize(
    'freq,name',
    [
        ('5min', '5min'),
        ('1h', '1h'),
        ('1D', '1d'),
        ('W', '1w'),
        ('MS', '1mo'),
        ('15s', '15s'),
        ('90min', '90min'),
        ('4h', '4h'),
    ],
)
def test_frequency_names(freq, name):
    assert bar_frequency(pd.date_range('2024-01-01', periods=10, freq=freq)) == name
