"""Tables of bars as vendors write them: one writer, and a table of dialects.

A dialect is data: the names of its columns, how it writes stamps and numbers, what separates fields, what stands above
the header. `write` makes a file of known bars; whoever reads it must find the same bars, or refuse the file."""

import csv
import io
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

ROLES = 'stamp open high low close volume amount symbol'.split()


def plain(value, decimals):
    "1234.5"
    return f'{value:.{decimals}f}'


def grouped(value, decimals):
    "1,234.5"
    return f'{value:,.{decimals}f}'


def european(value, decimals):
    "1.234,5"
    return grouped(value, decimals).translate(str.maketrans(',.', '.,'))


def comma(value, decimals):
    "1234,5"
    return plain(value, decimals).replace('.', ',')


def french(value, decimals):
    "1 234,5"
    return grouped(value, decimals).translate(str.maketrans(',.', '\u202f,'))


def swiss(value, decimals):
    "1'234.5"
    return grouped(value, decimals).replace(',', '\u2019')


def indian(value, decimals):
    "1,23,456.7"
    whole, _, rest = plain(value, decimals).partition('.')
    head, tail = whole[:-3], whole[-3:]
    pairs = [head[max(0, i - 2) : i] for i in range(len(head), 0, -2)][::-1]
    return ','.join([*pairs, tail]) + (f'.{rest}' if rest else '')


def dollars(value, decimals):
    "$1234.5"
    return f'${plain(value, decimals)}'


def wan(value, decimals):
    "12.3456万"
    return f'{value / 1e4:.8f}'.rstrip('0').rstrip('.') + '万'


def millions(value, decimals):
    "1.234567M"
    return f'{value / 1e6:.9f}M'


def roc(t):
    "113/01/02"
    return f'{t.year - 1911}/{t:%m/%d}'


def chinese(t):
    "2024年1月2日 9时30分"
    return f'{t.year}年{t.month}月{t.day}日' + (f' {t.hour}时{t.minute:02}分' if t.hour or t.minute else '')


def unpadded(t):
    "2024/1/2 9:30"
    return f'{t.year}/{t.month}/{t.day}' + (f' {t.hour}:{t.minute:02}' if t.hour or t.minute else '')


def mixed_epoch(t):
    "Milliseconds, and microseconds from 2025 on, as Binance has them."
    return str(t.value // (10**6 if t.year < 2025 else 10**3))


def javascript(t):
    "Tue Jan 02 2024 09:30:00 GMT+0800 (China Standard Time)"
    return f'{t:%a %b %d %Y %H:%M:%S} GMT+0800 (China Standard Time)'


def epoch(size):
    "Counts of so many nanoseconds since 1970."
    return lambda t: str(t.value // size)


OHLC = 'Open High Low Close'.split()
CHINESE = '开盘 最高 最低 收盘'.split()


@dataclass
class Dialect:
    "How a vendor writes a table."

    stamp: object = '%Y-%m-%d %H:%M:%S'  # strftime or a function of a stamp; a pair for a date and a clock
    names: list = field(default_factory=lambda: ['timestamp', *OHLC])  # of the stamp (or date, clock) and the prices
    volume: str | None = 'Volume'  # name of the column
    amount: str | None = None
    symbol: str | None = None
    price: object = plain  # how prices are written
    count: object = plain  # how volumes and amounts are
    sep: str = ','
    encoding: str = 'utf-8'
    above: str = ''  # before the header
    newest_first: bool = False
    extra: dict = field(default_factory=dict)  # name of a column nobody needs: what stands in it
    daily: bool = False  # dates alone
    must: bool = True  # may it be refused where at least 60 bars are written?
    keys: dict = field(default_factory=dict)  # what a reader must be told


def names(first, prices=OHLC):
    "Names of the stamp's columns and of the prices."
    return [*([first] if isinstance(first, str) else first), *prices]


DIALECTS = {
    'pandas': Dialect(names=names('timestamps', [c.lower() for c in OHLC]), volume='volume', amount='amount'),
    'pandas, T': Dialect('%Y-%m-%dT%H:%M:%S', names('datetime', [c.lower() for c in OHLC]), volume='volume'),
    'pandas, T and Z': Dialect('%Y-%m-%dT%H:%M:%SZ', names('time', [c.lower() for c in OHLC]), volume='volume'),
    'pandas, microseconds': Dialect('%Y-%m-%d %H:%M:%S.000000'),
    'fixed offset': Dialect('%Y-%m-%d %H:%M:%S+08:00', names('Datetime')),
    'yfinance': Dialect(
        '%Y-%m-%d',
        names('Date'),
        daily=True,
        above='Price,Open,High,Low,Close,Volume\nTicker' + ',IBM' * 5 + '\nDate,,,,,\n',
    ),
    'Yahoo': Dialect('%Y-%m-%d', names('Date'), extra={'Adj Close': '1.0'}, daily=True),
    'Stooq': Dialect(
        '%Y-%m-%d', names('Data', 'Otwarcie Najwyzszy Najnizszy Zamkniecie'.split()), daily=True, must=False
    ),
    'Stooq intraday': Dialect(
        ('%Y%m%d', '%H%M%S'), names(('<DATE>', '<TIME>'), [f'<{c.upper()}>' for c in OHLC]), '<VOL>'
    ),
    'MetaTrader 4': Dialect(('%Y.%m.%d', '%H:%M'), names(('Date', 'Time'))),
    'MetaTrader 5': Dialect(
        ('%Y.%m.%d', '%H:%M:%S'),
        names(('<DATE>', '<TIME>'), [f'<{c.upper()}>' for c in OHLC]),
        '<TICKVOL>',
        sep='\t',
        extra={'<VOL>': '0', '<SPREAD>': '5'},
    ),
    'Dukascopy': Dialect('%d.%m.%Y %H:%M:%S.000', names('Gmt time')),
    'Dukascopy, local': Dialect('%d.%m.%Y %H:%M:%S.000 GMT+0100', names('Local time')),
    'TradingView': Dialect(epoch(10**9), names('time', [c.lower() for c in OHLC])),
    'TradingView, ISO': Dialect('%Y-%m-%dT%H:%M:%S+00:00', names('time', [c.lower() for c in OHLC])),
    'ccxt': Dialect(epoch(10**6), names('timestamp', [c.lower() for c in OHLC]), 'volume'),
    'Binance, named': Dialect(
        mixed_epoch,
        names('open_time', [c.lower() for c in OHLC]),
        'volume',
        'quote_asset_volume',
        extra={'ignore': '0'},
    ),
    'OKX': Dialect(epoch(10**6), names('ts', list('ohlc')), 'vol', newest_first=True),
    'Bybit': Dialect(epoch(10**6), names('startTime', [f'{c.lower()}Price' for c in OHLC]), 'volume', 'turnover'),
    'Kraken': Dialect(epoch(10**9), names('time', [c.lower() for c in OHLC]), 'volume', extra={'trades': '7'}),
    'Coinbase': Dialect(epoch(10**9), names('time', 'open high low close'.split()), 'volume', newest_first=True),
    'nanoseconds': Dialect(epoch(1), names('timestamp')),
    'microseconds': Dialect(epoch(10**3), names('timestamp')),
    'CryptoDataDownload': Dialect(
        '%Y-%m-%d %H:%M:%S',
        names('date', [c.lower() for c in OHLC]),
        'Volume BTC',
        'Volume USDT',
        'symbol',
        above='https://www.CryptoDataDownload.com\n',
        newest_first=True,
    ),
    'Huobi': Dialect(epoch(10**9), names('timestamp', [c.lower() for c in OHLC]), 'amount', 'vol'),
    'Investing.com': Dialect(
        '%m/%d/%Y',
        names('Date', ['Open', 'High', 'Low', 'Price']),
        'Vol.',
        price=grouped,
        count=millions,
        daily=True,
        extra={'Change %': '0.52%'},
        newest_first=True,
        must=False,
    ),
    'Investing.com, named month': Dialect(
        '%b %d, %Y',
        names('Date', ['Open', 'High', 'Low', 'Price']),
        'Vol.',
        count=millions,
        daily=True,
        newest_first=True,
    ),
    'Nasdaq': Dialect(
        '%m/%d/%Y', names('Date', ['Open', 'High', 'Low', 'Close/Last']), price=dollars, daily=True, newest_first=True
    ),
    'US, am and pm': Dialect('%m/%d/%Y %I:%M %p', names('Date'), must=False),
    'US, two-digit year': Dialect('%m/%d/%y %H:%M', names('Date'), must=False),
    'ThinkorSwim': Dialect('%m/%d/%y %H:%M', names('Date/Time'), must=False),
    'Kibot': Dialect(('%m/%d/%Y', '%H:%M'), names(('Date', 'Time')), must=False),
    'TradeStation': Dialect(('%m/%d/%Y', '%H%M'), names(('Date', 'Time')), 'Vol', must=False),
    'Sierra Chart': Dialect(('%Y/%m/%d', '%H:%M:%S'), names(('Date', 'Time'), ['Open', 'High', 'Low', 'Last'])),
    'NinjaTrader': Dialect('%Y%m%d %H%M%S', names('Date'), sep=';', must=False),
    'QuantConnect': Dialect('%Y%m%d %H:%M', names('time', [c.lower() for c in OHLC]), 'volume'),
    'AmiBroker': Dialect(('%Y-%m-%d', '%H:%M:%S'), names(('Date', 'Time')), symbol='Ticker'),
    'MOEX': Dialect(
        ('%Y%m%d', '%H%M%S'),
        names(('<DATE>', '<TIME>'), [f'<{c.upper()}>' for c in OHLC]),
        '<VOL>',
        sep=';',
        symbol='<TICKER>',
        extra={'<PER>': '1'},
        must=False,
    ),
    'Alpha Vantage': Dialect(names=names('timestamp', [c.lower() for c in OHLC]), volume='volume', newest_first=True),
    'Polygon': Dialect(epoch(10**6), names('t', list('ohlc')), 'v', extra={'n': '12'}),
    'Tiingo': Dialect('%Y-%m-%dT00:00:00.000Z', names('date', [c.lower() for c in OHLC]), 'volume', daily=True),
    'Kaggle, Name': Dialect(
        '%Y-%m-%d',
        names('date', [c.lower() for c in OHLC]),
        'volume',
        symbol='Name',
        daily=True,
        keys=dict(symbol_column='Name'),
    ),
    'AkShare': Dialect('%Y-%m-%d', names('日期', CHINESE), '成交量', '成交额', daily=True, extra={'换手率': '2.07'}),
    'Tushare': Dialect(
        '%Y%m%d',
        names('trade_date', [c.lower() for c in OHLC]),
        'vol',
        'amount',
        'ts_code',
        daily=True,
        newest_first=True,
    ),
    'JoinQuant': Dialect(
        names=['', *[c.lower() for c in OHLC]],
        volume='volume',
        amount='money',
        keys=dict(columns={'timestamps': ''}),
        must=False,
    ),
    'RiceQuant': Dialect(
        names=names('datetime', [c.lower() for c in OHLC]),
        volume='volume',
        amount='total_turnover',
        symbol='order_book_id',
    ),
    'Wind': Dialect(
        '%Y-%m-%d',
        names('交易日期', [f'{c}价(元)' for c in CHINESE]),
        '成交量(股)',
        '成交额(元)',
        '证券代码',
        encoding='gb18030',
        price=grouped,
        count=grouped,
        daily=True,
        must=False,
    ),
    'Tongdaxin': Dialect(
        '%Y/%m/%d',
        names('日期', CHINESE),
        '成交量',
        '成交额',
        sep='\t',
        encoding='gb18030',
        above='600519 贵州茅台 日线 前复权\n',
        daily=True,
    ),
    'Tonghuashun': Dialect(
        '%Y-%m-%d', names('时间', CHINESE), '总手', sep='\t', encoding='gb18030', count=wan, daily=True
    ),
    'Chinese words': Dialect(chinese, names('时间', CHINESE), '成交量'),
    'Excel, Chinese': Dialect(unpadded, names('日期时间', CHINESE), '成交量', symbol='代码'),
    'TWSE': Dialect(
        roc,
        names('日期', '開盤價 最高價 最低價 收盤價'.split()),
        '成交股數',
        '成交金額',
        price=grouped,
        count=grouped,
        daily=True,
        must=False,
    ),
    'JPX': Dialect(
        '%Y/%m/%d', names('日付', '始値 高値 安値 終値'.split()), '出来高', encoding='utf-8-sig', daily=True
    ),
    'KRX': Dialect('%Y/%m/%d', names('일자', '시가 고가 저가 종가'.split()), '거래량', daily=True, newest_first=True),
    'NSE India': Dialect('%d-%b-%Y', names('Date'), price=indian, count=indian, daily=True, must=False),
    'BSE India': Dialect(
        '%d-%B-%Y', names('Date', [f'{c} Price' for c in OHLC]), 'Total Volume', daily=True, newest_first=True
    ),
    'German spreadsheet': Dialect(
        '%d.%m.%Y',
        names('Datum', 'Eröffnung Hoch Tief Schluss'.split()),
        'Volumen',
        sep=';',
        price=european,
        count=european,
        daily=True,
        must=False,
    ),
    'German minutes': Dialect('%d.%m.%Y %H:%M', names('Datum'), sep=';', price=comma, must=False),
    'French spreadsheet': Dialect(
        '%d/%m/%Y', names('Date'), sep=';', price=french, count=french, daily=True, must=False
    ),
    'Swiss spreadsheet': Dialect('%d.%m.%Y', names('Datum'), sep=';', price=swiss, count=swiss, daily=True, must=False),
    'British spreadsheet': Dialect('%d/%m/%Y %H:%M', names('Date'), must=False),
    'JavaScript': Dialect(javascript, names('date', [c.lower() for c in OHLC])),
    'yymmddhhmm': Dialect('%y%m%d%H%M', names('time'), must=False),
    'yyyymmddhhmm': Dialect('%Y%m%d%H%M', names('time')),
    'UTF-16': Dialect('%Y-%m-%d %H:%M', names('Date'), sep='\t', encoding='utf-16'),
}


def fields(dialect, t, bar, digits, symbol):
    "A bar's fields by name, in the order of the file."
    forms = dialect.stamp if isinstance(dialect.stamp, tuple) else (dialect.stamp,)
    stamps = [f(t) if callable(f) else t.strftime(f) for f in forms]
    row = dict(zip(dialect.names, stamps))
    for name, value in zip(dialect.names[len(forms) :], bar[:4]):
        row[name] = dialect.price(value, digits)
    for name, value, decimals in ((dialect.volume, bar[4], 0), (dialect.amount, bar[5], 2)):
        if name:
            row[name] = dialect.count(value, decimals)
    if dialect.symbol:
        row[dialect.symbol] = symbol
    return row | dialect.extra


def write(
    dialect: Dialect,
    frame: pd.DataFrame,  # `timestamps` and six numbers
    digits: int,  # decimals of the prices
    symbol: str = 'X1',
) -> bytes:
    "A file of the bars."
    rows = [
        fields(dialect, t, bar, digits, symbol)
        for t, bar in zip(pd.DatetimeIndex(frame.timestamps), frame.iloc[:, 1:].to_numpy())
    ]
    if dialect.newest_first:
        rows.reverse()
    out = io.StringIO()
    writer = csv.writer(out, delimiter=dialect.sep, lineterminator='\n')
    if not dialect.above.startswith('Price,'):
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return (dialect.above + out.getvalue()).encode(dialect.encoding)


SESSIONS = {  # spans of a day's bars
    'round the clock': [('00:00', '23:59')],
    'New York': [('09:30', '15:59')],
    'Hong Kong': [('09:30', '11:59'), ('13:00', '15:59')],
    'futures with a night': [('09:00', '11:29'), ('13:30', '14:59'), ('21:00', '22:59')],
}


def stamps(freq, session, start, n):
    "The first `n` stamps of a market."
    if freq in ('D', 'B', 'W-FRI', 'MS'):
        return pd.date_range(start, periods=n, freq=freq)
    days = pd.date_range(start, periods=400) if session == 'round the clock' else pd.bdate_range(start, periods=400)
    spans, found = SESSIONS[session], []
    for day in days:
        for a, b in spans:
            found.append(pd.date_range(day + pd.Timedelta(f'{a}:00'), day + pd.Timedelta(f'{b}:00'), freq=freq))
        if sum(map(len, found)) >= n:
            break
    return pd.DatetimeIndex(np.concatenate(found))[:n]


def bars(t, seed, level, digits):
    "A random walk at these stamps: prices of so many decimals, whole volumes, amounts that fit."
    g = np.random.default_rng(seed)
    close = level * np.exp(np.cumsum(g.normal(0, 0.005, len(t))))
    opening = np.append(level, close[:-1])
    high = np.maximum(opening, close) * (1 + abs(g.normal(0, 0.002, len(t))))
    low = np.minimum(opening, close) * (1 - abs(g.normal(0, 0.002, len(t))))
    prices = {k: v.round(digits) for k, v in dict(open=opening, high=high, low=low, close=close).items()}
    volume = g.integers(1, 10 ** g.integers(2, 8), len(t)).astype(float)
    amount = (volume * (prices['high'] + prices['low']) / 2).round(2)
    return pd.DataFrame(dict(timestamps=t, **prices, volume=volume, amount=amount))
