"""Calls of `predict*` with arguments of every kind: a forecast that is one, or a sentence.
KRONOS_CAMPAIGN sets the number of examples (500 in the ordinary tests)."""

import datetime
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from sized import sized

from kronos_nb.data.klines import load_klines
from kronos_nb.errors import UserError
from kronos_nb.forecasting.forecast import KronosPredictor
from kronos_nb.models.kronos import KRONOS_SIZES, Kronos
from kronos_nb.models.tokenizer import TOKENIZER_SIZES, KronosTokenizer

BARS = load_klines(ROOT / 'data/us_daily/AAPL.csv').frames['AAPL'][1000:1030].reset_index(drop=True)
FUTURE = list(pd.bdate_range(BARS.timestamps.iloc[-1], periods=5)[1:])
tally = Counter()
odd = [None, True, '', 'x', '3', -1, 0, 0.5, 3, 3.0, 10**30, float('nan'), float('inf'), [], [3], {}, pd.NaT]
odd += [np.float32(0.9), np.int64(3), np.array([1, 2]), datetime.date(2020, 1, 1), 1 + 2j, b'x', object()]
values = st.sampled_from(odd)
stamps = st.sampled_from(
    [FUTURE, FUTURE[::-1], FUTURE[:1] * 4, [*FUTURE[:3], pd.NaT], [*map(str, FUTURE)], ['x'] * 4, [1, 2, 3, 4]]
) | values
damages = 'none none NaT text twice dates nan inf object empty index category complex bool zone tickers symbols'
CHOICES = ['T', 'top_k', 'top_p', 'sample_count', 'seed', 'pred_len', 's2', 'window', 'calendar', 'x_timestamp']


def damage(how, column, row):
    "The bars, one thing in them changed."
    df = BARS.copy()
    if how == 'twice':
        return pd.concat([df, df[[column]]], axis=1)
    if how == 'empty':
        return df[:0]
    if how == 'index':
        return df.set_index('timestamps')
    if how == 'zone':
        return df.assign(timestamps=df.timestamps.dt.tz_localize('Europe/Berlin'))
    if how == 'tickers':
        own = df.set_index('timestamps').rename(columns=str.title)
        return pd.concat({'A': own, 'B': own.drop(own.index[max(0, row - 1)])}, axis=1)  # not the last
    if how == 'symbols':
        return pd.concat([df.assign(symbol='A'), df.assign(symbol='B')]).sort_values('timestamps')
    if how == 'dates':
        return df.assign(**{column: df.timestamps})
    if how == 'category':
        return df.astype({column: 'category'})
    if how in ('complex', 'bool') and column != 'timestamps':
        return df.astype({column: how})
    if how in ('NaT', 'text', 'nan', 'inf', 'object'):
        cell = dict(NaT=pd.NaT, text='x', nan=np.nan, inf=np.inf, object=[1])[how]
        df = df.astype({column: object})
        df.at[row, column] = cell
    return df


@pytest.fixture(scope='module')
def predictor():
    torch.manual_seed(0)
    small = dict(d_model=32, n_heads=2, ff_dim=48)
    tokenizer = KronosTokenizer(**TOKENIZER_SIZES['base'] | small)
    return KronosPredictor(Kronos(**KRONOS_SIZES['mini'] | small | dict(n_layers=1)), tokenizer, 'cpu', max_context=64)


@sized(500, share=2, deadline=20_000)
@given(
    how=st.sampled_from(damages.split()),
    column=st.sampled_from(list(BARS.columns)),
    row=st.integers(0, len(BARS) - 1),
    future=st.just(FUTURE) | stamps,
    choices=st.dictionaries(st.sampled_from(CHOICES), values, max_size=2),
)
def test_any_call(predictor, how, column, row, future, choices):
    tally['tried'] += 1
    try:
        forecast = predictor.predict(
            damage(how, column, row), **dict(y_timestamp=future, pred_len=4, seed=1) | choices, verbose=False
        )
    except UserError as e:
        tally['refused'] += 1
        assert len(str(e)) < 5000
        return
    tally['forecasts'] += 1
    assert isinstance(forecast, dict) == (how in ('tickers', 'symbols'))
    for frame in forecast.values() if isinstance(forecast, dict) else [forecast]:
        assert np.isfinite(frame.to_numpy()).all() and len(frame) >= 1
        assert how != 'zone' or 'x_timestamp' in choices or str(frame.index.tz) == 'Europe/Berlin'
        clock = frame.index.tz_localize(None)
        assert clock.is_monotonic_increasing and clock[0] > BARS.timestamps.iloc[-1]


@pytest.fixture(scope='module', autouse=True)
def report():
    "Print the tally at the end."
    yield
    print('\npredict:', ', '.join(f'{n} {k}' for k, n in tally.items()))
