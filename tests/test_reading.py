"Files that were once read wrongly: every kind is read right, or refused with the key that settles it."

import re

import numpy as np
import pandas as pd
import pytest
from conftest import run

from kronos_nb.data.klines import load_klines
from kronos_nb.errors import UserError

N = 160
DAYS = pd.bdate_range('2023-06-01', periods=N)
CLOSE = 100 + np.tile([0.0, 0.3, -0.2, 0.1, 0.4], N // 5)


def frame(stamps=DAYS, **columns):
    "Bars with the stamps as they are to be written; columns as they are to be written too."
    prices = dict(open=CLOSE - 0.1, high=CLOSE + 0.2, low=CLOSE - 0.3, close=CLOSE)
    return pd.DataFrame(
        dict(date=stamps, **{k: v.round(2) for k, v in prices.items()}, volume=1000 + np.arange(N)) | columns
    )


def load(tmp_path, table, name='x.csv', sep=',', **keys):
    "The one frame of a table that is written and read, and what was said."
    table.to_csv(tmp_path / name, index=False, sep=sep)
    klines = load_klines(tmp_path / name, **keys)
    (bars,) = klines.frames.values()
    return bars, ' '.join(klines.notes)


def expect(bars, stamps, **columns):
    "Bars have these stamps and numbers."
    assert (bars.timestamps.to_numpy() == pd.DatetimeIndex(stamps).to_numpy()).all()
    for name, values in (dict(close=CLOSE) | columns).items():
        np.testing.assert_allclose(bars[name], values, rtol=1e-9)


HOURS = pd.date_range('2024-01-02', periods=N, freq='h')
QUARTERS = pd.DatetimeIndex([d + pd.Timedelta(hours=9, minutes=35 + 15 * i) for d in DAYS[:20] for i in range(8)])
COUNTS = pd.date_range('2024-12-28 17:00', periods=N, freq='h')
STAMPS = {  # kind: what is written, what it means, what is said
    'milliseconds, then microseconds': (
        [t.value // (10**6 if t.year < 2025 else 10**3) for t in COUNTS],
        COUNTS,
        'whose unit changes',
    ),
    'yyyymmddhh': (HOURS.strftime('%Y%m%d%H'), HOURS, 'read as yyyymmddhh'),
    'yymmddhhmm': (HOURS.strftime('%y%m%d%H%M'), HOURS, 'read as yymmddhhmm'),
    'yy/mm/dd': (DAYS.strftime('%y/%m/%d'), DAYS, 'year first'),
    'ISO, then day first': (
        [f'{d:%Y-%m-%d}' if d < pd.Timestamp('2024-01-01') else f'{d:%d/%m/%Y}' for d in DAYS],
        DAYS,
        'day first',
    ),
    'weekdays and a zone in words': (
        HOURS.strftime('%a %b %d %Y %H:%M:%S GMT+0800 (China Standard Time)'),
        HOURS,
        'GMT+0800 dropped',
    ),
    'years of the Republic of China': ([f'{d.year - 1911}/{d:%m/%d}' for d in DAYS], DAYS, 'Republic of China'),
    'a comma before the clock': (HOURS.strftime('%Y-%m-%d, %H:%M'), HOURS, ''),
    'hours alone': (HOURS.strftime('%Y-%m-%d %H'), HOURS, ''),
    'the newest row while trading goes on': (
        [*DAYS[:-1].strftime('%Y-%m-%d'), f'{DAYS[-1]:%Y-%m-%d} 09:30:00-05:00'],
        DAYS,
        'bar of that day',
    ),
    'newest first': (DAYS[::-1].strftime('%m/%d/%Y'), DAYS, 'turned round'),
}


@pytest.mark.parametrize('kind', STAMPS)
def test_time_stamps(tmp_path, kind):
    written, meant, said = STAMPS[kind]
    bars, notes = load(tmp_path, frame(written))
    expect(bars, meant, close=CLOSE[::-1] if kind == 'newest first' else CLOSE)
    assert said in notes


def test_day_and_month_are_known_or_asked_for(tmp_path):
    "Days up to 12: bars of minutes that jump by months are refuted; one day alone is refused."
    early = QUARTERS[QUARTERS.day <= 12]
    table = frame()[: len(early)].assign(date=early.strftime('%d/%m/%Y %H:%M'))
    bars, notes = load(tmp_path, table)
    assert (bars.timestamps == early).all() and 'day first' in notes
    one = table[:8]
    with pytest.raises(
        UserError, match=r"x.csv: line 2, column date: '01/06/2023 09:35' can be read as .*dayfirst: true"
    ):
        load(tmp_path, one)
    assert (load(tmp_path, one, dayfirst=True)[0].timestamps == early[:8]).all()
    assert load(tmp_path, one, timestamp_format='%m/%d/%Y %H:%M')[0].timestamps[0] == pd.Timestamp('2023-01-06 09:35')


def test_the_hour_that_autumn_repeats(tmp_path):
    "Both bars stay, in order."
    stamps = pd.date_range('2024-10-31', periods=N, freq='h', tz='America/New_York')
    bars, notes = load(tmp_path, frame([str(t) for t in stamps]))
    expect(bars, stamps.tz_localize(None))
    assert 'daylight saving' in notes
    bars, _ = load(tmp_path, frame([str(t) for t in stamps]), timezone='UTC')
    expect(bars, stamps.tz_convert('UTC').tz_localize(None))


def test_zones_that_jump(tmp_path):
    "A change of offset that no daylight saving makes is refused, and converted where a zone is named."
    moments = pd.date_range('2024-03-04', periods=N, freq='h', tz='UTC')
    written = [str(t.tz_convert('Asia/Shanghai' if i < 80 else 'UTC')) for i, t in enumerate(moments)]
    with pytest.raises(UserError, match='timezone: UTC'):
        load(tmp_path, frame(written))
    expect(load(tmp_path, frame(written), timezone='UTC')[0], moments.tz_localize(None))


def night(start, days):
    "A futures session that begins at 21:00 of the evening before: (what is written, when it is)."
    written, real = [], []
    trading = pd.bdate_range(start, periods=days + 1)
    for before, day in zip(trading, trading[1:]):
        for clock in ('21:00', '21:15', '00:30', '09:00', '09:15', '10:30', '14:45', '14:55'):
            date = before if clock > '20' else before + pd.Timedelta(days=1) if clock < '06' else day
            written.append((f'{day:%Y/%m/%d}', clock.replace(':', '')))
            real.append(pd.Timestamp(f'{date:%Y-%m-%d} {clock}'))
    return written, real


@pytest.mark.parametrize('newest_first', [False, True])
def test_nights_stamped_with_the_trading_day(tmp_path, newest_first):
    "The order of the file is kept, the real date is given, and that is said."
    written, real = night('2024-01-01', 20)
    table = frame([d for d, _ in written]).assign(time=[c for _, c in written])
    bars, notes = load(tmp_path, table[::-1] if newest_first else table)
    expect(bars, real)
    assert 'night sessions' in notes and '44 bars' in notes


def test_a_date_that_holds_the_clock_too(tmp_path):
    table = frame(HOURS.strftime('%Y-%m-%d %H:%M:%S')).assign(time=HOURS.strftime('%H:%M:%S'))
    expect(load(tmp_path, table)[0], HOURS)
    with pytest.raises(UserError, match='say which column holds the time'):
        load(tmp_path, table.assign(time='09:30:00'))


def text(values, form='{:,.2f}', swap=False, group=','):
    "Numbers as a locale writes them."
    written = [form.format(v) for v in values]
    if swap:
        written = [w.replace(',', '_').replace('.', ',').replace('_', '.') for w in written]
    return [w.replace(',' if not swap else '.', group) for w in written] if group not in ',' else written


def written_prices(scale=1, **how):
    "Bars whose prices are text."
    table = frame()
    return table.assign(**{c: text(table[c] * scale, **how) for c in ('open', 'high', 'low', 'close')})


def test_numbers(tmp_path):
    "Every column by its own notation; groups are checked."
    for how, sep, says in (
        (dict(scale=100), ',', '1,234.5'),
        (dict(scale=100, swap=True), ';', '1.234,5'),
        (dict(scale=100, swap=True), '\t', '1.234,5'),
        (dict(scale=100, swap=True, group='\u202f'), ';', '1 234,5'),
        (dict(scale=100, group='\u2019'), ';', "1'234.5"),
    ):
        bars, notes = load(tmp_path, written_prices(**how), sep=sep)
        expect(bars, DAYS, close=CLOSE * 100)
        assert says in notes
    table = written_prices(swap=True).assign(volume=1000.5 + np.arange(N))
    expect(load(tmp_path, table, sep=';')[0], DAYS, volume=1000.5 + np.arange(N))


def test_words_around_numbers(tmp_path):
    table = frame(volume=[f'{v / 1000:.3f}K' if v < 1100 else f'{v / 1e6:.6f}M' for v in frame().volume])
    table['close'] = [f'${c:.2f}' for c in CLOSE]
    for c in ('open', 'high', 'low'):
        table[c] = [f'${v:.2f}' for v in table[c]]
    expect(load(tmp_path, table)[0], DAYS, volume=frame().volume)
    chinese = frame(
        volume=[f'{v / 1e4:.4f}万' for v in frame().volume], amount=[f'{a / 1e8:.8f}亿' for a in CLOSE * 1e5]
    )
    expect(load(tmp_path, chinese)[0], DAYS, volume=frame().volume, amount=CLOSE * 1e5)
    odd = frame().astype(dict(volume=str))
    odd.loc[7, 'volume'] = '1.2K'
    with pytest.raises(UserError, match=r"line 9, column volume: '1.2K' is not a number like the others"):
        load(tmp_path, odd)


def test_one_cell_decides_nothing(tmp_path):
    "A comma in one row is that row's mistake."
    for cell in ('100,3', '1,003'):
        table = frame().astype(dict(open=str))
        table.loc[100, 'open'] = cell
        for sep in (',', ';'):
            with pytest.raises(UserError, match=rf"line 102, column open: '{cell}' is not a number like the others"):
                load(tmp_path, table, sep=sep)


def test_thousands_that_could_be_decimals(tmp_path):
    "38,157 in a file of semicolons is asked for."
    table = written_prices(scale=381.57, form='{:,.0f}').drop(columns='volume')
    with pytest.raises(UserError, match=r'can be 38\.\d+ or 38\d+, .* say decimal: '):
        load(tmp_path, table, sep=';')
    bars, _ = load(tmp_path, table, sep=';', thousands=',', decimal='.')
    np.testing.assert_allclose(bars.close, CLOSE * 381.57, atol=0.5)


def test_volume_and_amount(tmp_path):
    rate, notes = load(tmp_path, frame(turnover=2.07))
    np.testing.assert_allclose(rate.amount, rate.volume * rate[['open', 'high', 'low', 'close']].mean(axis=1))
    assert 'turnover is not taken as the amount' in notes and 'columns: {amount: turnover}' in notes
    swapped, notes = load(tmp_path, frame(vol=(1000 + np.arange(N)) * CLOSE).rename(columns=dict(volume='amount')))
    expect(swapped, DAYS, volume=1000 + np.arange(N), amount=(1000 + np.arange(N)) * CLOSE)
    assert 'swapped' in notes
    ticks = frame(volume=0, tickvol=1000 + np.arange(N)).rename(columns=dict(volume='<VOL>', tickvol='<TICKVOL>'))
    expect(load(tmp_path, ticks)[0], DAYS, volume=1000 + np.arange(N))
    alone = frame().rename(columns=dict(volume='amount'))
    bars, notes = load(tmp_path, alone)
    assert (bars.volume == 0).all() and 'columns: {volume: amount}' in notes
    expect(load(tmp_path, alone, columns=dict(volume='amount'))[0], DAYS, volume=1000 + np.arange(N))


def test_symbols_under_another_name(tmp_path):
    "A column that tells duplicates apart is named; the repair does not delete a stock."
    both = pd.concat([frame().assign(Name='AAL'), frame().assign(Name='ZTS')])
    for repair in ((), 'drop_duplicates'):
        with pytest.raises(UserError, match='column Name tells them apart.*symbol_column: Name'):
            load(tmp_path, both, repair=repair)
    both.to_csv(tmp_path / 'x.csv', index=False)
    assert list(load_klines(tmp_path / 'x.csv', symbol_column='Name').frames) == ['AAL', 'ZTS']
    with pytest.raises(UserError, match='column interval holds several sizes of bars'):
        load(tmp_path, pd.concat([frame().assign(interval='1d'), frame(HOURS).assign(interval='1h')]))
    with pytest.raises(UserError, match='bars of two sizes'):
        load(tmp_path, pd.concat([frame(), frame(pd.date_range('2024-02-01', periods=N, freq='h'))]))
    with pytest.raises(UserError, match='leap of decades'):
        load(tmp_path, frame([pd.Timestamp('1970-01-01'), *DAYS[1:]]))


def test_lines_above_the_header(tmp_path):
    body = frame().to_csv(index=False)
    for above in ('https://example.org\n', 'a title, with a comma\n\n', 'sep=,\n'):
        (tmp_path / 'x.csv').write_text(above + body)
        klines = load_klines(tmp_path / 'x.csv')
        expect(klines['x'], DAYS)
        assert 'above the header skipped' in ' '.join(klines.notes)


def test_a_hostile_file_is_answered(tmp_path):
    "No line, however it is made, keeps a reader busy."
    for content in ('\n' * 40, ' \t' * 10**6, ',' * 10**6, '"' * 10**6, '(' * 10**5 + ',' * 9, 'x' * 10**7):
        (tmp_path / 'x.csv').write_text(content)
        with pytest.raises(UserError, match='x.csv'):
            load_klines(tmp_path / 'x.csv')


def test_all_ways_read_the_same_bars(tmp_path, trained):
    "check, forecast, evaluation's data and a frame of text: the same file, the same bars, the same sentences."
    from kronos_nb.check_data import check_data
    from kronos_nb.data.bars import frame_bars

    table = frame([f'{d:%d/%m/%Y}' for d in DAYS])
    bars, notes = load(tmp_path, table)
    report = check_data(tmp_path / 'x.csv', lookback_window=16, predict_window=4, train_ratio=0.7, val_ratio=0.15)
    assert set(report.notes) == set(load_klines(tmp_path / 'x.csv').notes)
    same, _ = frame_bars(table.astype(str), 'the history')
    pd.testing.assert_frame_equal(same.frame, bars)
    out = tmp_path / 'forecast.csv'
    command = ['kronos_nb.forecast_files', '--model', trained[0] / 'experiments/small', '--data', tmp_path / 'x.csv']
    result = run('-m', *command, '--paths', '2', '--horizon', '2', '--out', out)
    assert result.returncode == 0, result.stderr
    assert 'day first' in result.stdout
    assert str(pd.read_csv(out).timestamps[0]) == f'{DAYS[-1] + pd.offsets.BDay():%Y-%m-%d}'


def test_repairs_and_symbols_of_forecasts(tmp_path, trained):
    "What training repaired can be forecast, and a picture of BTC/USDT has a name."
    command = [
        'kronos_nb.forecast_files',
        '--model',
        trained[0] / 'experiments/small',
        '--paths',
        '2',
        '--horizon',
        '2',
    ]
    twice = pd.concat([frame(), frame()[-1:]])
    twice.to_csv(tmp_path / 'x.csv', index=False)
    result = run('-m', *command, '--data', tmp_path / 'x.csv')
    assert result.returncode == 2 and 'repair with drop_duplicates' in result.stderr
    result = run('-m', *command, '--data', tmp_path / 'x.csv', '--repair', 'drop_duplicates')
    assert result.returncode == 0 and 'drop_duplicates removed 1 rows' in result.stdout, result.stderr
    coins = pd.concat([frame().assign(symbol=s) for s in ('BTC/USDT', 'ETH/USDT')])
    coins.to_csv(tmp_path / 'coins.csv', index=False)
    result = run('-m', *command, '--data', tmp_path / 'coins.csv', '--plot', tmp_path / 'fan.png')
    assert result.returncode == 0, result.stderr
    assert len(re.findall('fan_(?:BTC|ETH)', ' '.join(p.name for p in tmp_path.iterdir()))) == 2
