"A portfolio's numbers computed again by hand, and controls: noise, a planted signal, one that peeks, another order."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kronos_nb.portfolio.backtest import (
    RULES,
    Market,
    Rules,
    backtest,
    decide,
    measure,
    run_account,
    run_benchmark,
    scaled,
    tradable,
)
from kronos_nb.portfolio.factor import factor_table, ic_by_delay, ic_table, quantile_table, suspicion, turnover_table

BARS, SYMBOLS = 250, 40


def make_market(seed=0, bars=BARS, symbols=SYMBOLS):
    "Random walks with gaps between close and open, and the returns from open to open."
    rng = np.random.default_rng(seed)
    days, names = pd.bdate_range('2022-01-03', periods=bars), [f'S{i:03}' for i in range(symbols)]
    steps = 0.015 * rng.standard_normal((bars, 2, symbols))
    logs = np.cumsum(steps.reshape(-1, symbols), 0).reshape(bars, 2, symbols)
    opens, closes = (pd.DataFrame(50 * np.exp(logs[:, i]), days, names) for i in (0, 1))
    return Market(opens, closes, closes * 0 + 1e6)


def series(wide):
    "A wide table as scores."
    return wide.stack().rename_axis(['datetime', 'instrument'])


def earned(market):
    "What a score of bar t can earn in one bar: from the open of t + 1 to that of t + 2."
    return market.opens.shift(-2) / market.opens.shift(-1) - 1


def noise(market, seed=1):
    "Scores that know nothing."
    values = np.random.default_rng(seed).standard_normal(market.closes.shape)
    return pd.DataFrame(values, market.closes.index, market.closes.columns)


def planted(market, strength):
    "Scores that know a part of what can be earned."
    known = earned(market)
    return series((strength * known / known.stack().std()).fillna(0) + noise(market))


# ---- the same numbers by hand


def by_hand(scores, market, rules):
    "An account in plain Python: dictionaries, one symbol at a time."
    wide = scores.unstack()
    closes, opens, days = market.closes, market.opens, list(market.closes.index)
    cash, shares, equity = rules.capital, {}, {days[0]: rules.capital}
    for t, day in enumerate(days[:-1]):
        now = days[t + 1]
        if t % rules.every == 0:
            score, o, last = wide.loc[day], opens.loc[now], closes.loc[day]
            change = o / last - 1

            def can(symbol, buying):
                if market.volumes.loc[now, symbol] == 0:
                    return False
                if rules.limit is None:
                    return True
                return change[symbol] < rules.limit if buying else change[symbol] > -rules.limit

            order = sorted(score.index, key=lambda s: (-score[s], s))
            free = rules.top - len(shares)
            fresh = [s for s in order if s not in shares][: rules.drop + free]
            ranked = [s for s in order if s in shares or s in fresh]
            sold = [s for s in ranked[-rules.drop :] if s in shares]
            bought = fresh[: len(sold) + free]
            worth = cash + sum(n * (o[s] if o[s] > 0 else last[s]) for s, n in shares.items())
            for s in sold:
                if can(s, False):
                    value = shares.pop(s) * o[s]
                    cash += value - max(rules.sell_cost * value, rules.min_fee) - rules.slippage * value
            bought = [s for s in bought if can(s, True)]
            if bought:
                asked = worth / rules.top
                money = cash - rules.min_fee * len(bought)
                value = asked * min(1, max(0, money) / (asked * len(bought) * (1 + rules.buy_cost + rules.slippage)))
                for s in bought:
                    shares[s] = value / o[s]
                    cash -= value + max(rules.buy_cost * value, rules.min_fee) + rules.slippage * value
        equity[now] = cash + sum(n * closes.loc[now, s] for s, n in shares.items())
    return pd.Series(equity)


@pytest.mark.parametrize('preset, every', [('plain', 1), ('plain', 5), ('mainland', 1), ('mainland', 3)])
def test_the_equity_curve_by_hand(preset, every):
    "The reference's rules among them: costs of 0.1 % and 0.15 %, at least 5, a limit of 9.5 %."
    market = make_market(bars=80)
    market.opens.iloc[20] = market.closes.iloc[19] * np.linspace(0.85, 1.15, SYMBOLS)  # limits on both sides
    market.volumes.iloc[30:34, ::3] = 0  # suspended
    rules = scaled(Rules(top=8, drop=2, every=every, **RULES[preset]), SYMBOLS)
    scores = series(noise(market))
    account = run_account(decide(scores, market, rules), market, rules)
    expected = by_hand(scores, market, rules)
    np.testing.assert_allclose(account.equity / expected, 1, atol=1e-9)
    assert account.trades.cost.sum() > 0
    bought = account.trades[account.trades.side == 'buy']
    suspended = bought.datetime.isin(market.closes.index[30:34]) & bought.instrument.isin(market.closes.columns[::3])
    assert not suspended.any()


def test_the_rules_of_the_reference():
    "Its qlib_test: 50 held, 5 replaced, 0.1 % and 0.15 %, at least 5, a limit of 9.5 %; on a small universe, by hand."
    market = make_market(bars=15, symbols=60)
    market.opens.iloc[5] = market.closes.iloc[4] * np.where(np.arange(60) % 2, 1.0949, 1.0951)  # half cannot be bought
    market.opens.iloc[9] = market.closes.iloc[8] * 0.9049  # none can be sold
    rules = scaled(Rules(**RULES['mainland']), 300)
    assert (rules.top, rules.drop) == (50, 5)
    assert (rules.buy_cost, rules.sell_cost, rules.min_fee, rules.limit) == (0.001, 0.0015, 5, 0.095)
    scores = series(noise(market))
    account = run_account(decide(scores, market, rules), market, rules)
    np.testing.assert_allclose(account.equity / by_hand(scores, market, rules), 1, atol=1e-9)
    days, trades = market.closes.index, account.trades.assign(symbol=account.trades.instrument.str[1:].astype(int))
    assert (trades[trades.datetime == days[1]].side == 'buy').sum() == 50 == len(trades[trades.datetime == days[1]])
    at_limit = trades[trades.datetime == days[5]]
    assert (at_limit.side == 'sell').any() and (at_limit[at_limit.side == 'buy'].symbol % 2 == 1).all()
    assert not (trades[trades.datetime == days[9]].side == 'sell').any()
    assert trades.groupby(['datetime', 'side']).size().iloc[1:].max() <= 10


def test_factor_numbers_by_hand():
    market = make_market(bars=25, symbols=15)
    scores = planted(market, 0.3)
    table = factor_table(scores, market.opens, [1, 5])
    wide, quantiles = scores.unstack(), table.factor_quantile.unstack()
    for h in (1, 5):
        ahead = market.opens.shift(-1 - h) / market.opens.shift(-1) - 1
        days = quantiles.index  # bars whose returns are known over all periods
        ic = [wide.loc[d].corr(ahead.loc[d]) for d in days]
        ranks = [wide.loc[d].rank().corr(ahead.loc[d].rank()) for d in days]
        found = ic_table(table).loc[h]
        np.testing.assert_allclose([found['IC'], found['rank IC']], [np.mean(ic), np.mean(ranks)], atol=1e-9)
        top = [ahead.loc[d][quantiles.loc[d] == 5].mean() for d in days]
        bottom = [ahead.loc[d][quantiles.loc[d] == 1].mean() for d in days]
        column = quantile_table(table)[f'{h} bars, %']
        np.testing.assert_allclose(column[5], 100 * np.mean(top), atol=1e-9)
        np.testing.assert_allclose(column['spread'], 100 * (np.mean(top) - np.mean(bottom)), atol=1e-9)
        sets = [set(quantiles.columns[quantiles.loc[d] == 5]) for d in days]
        changed = [len(b - a) / len(b) for a, b in zip(sets, sets[h:])]
        np.testing.assert_allclose(turnover_table(table).loc[h, 'highest quantile'], np.mean(changed), atol=1e-9)


def test_bt_finds_the_same_account():
    "Equal weights every five bars, at opens that are closes as well, which is what `bt` can trade at."
    bt = pytest.importorskip('bt')
    market = make_market(bars=60, symbols=6)
    market = replace(market, closes=market.opens)
    scores = series(noise(market))
    rules = scaled(Rules(top=2, drop=2, every=5, trim=True, buy_cost=0, sell_cost=0, slippage=0), 6)
    decisions = decide(scores, market, rules)
    account = run_account(decisions, market, rules)
    weights = pd.DataFrame(decisions.wanted / 2, market.opens.index[decisions.rows], market.opens.columns)
    algos = [bt.algos.RunOnDate(*weights.index), bt.algos.WeighTarget(weights), bt.algos.Rebalance()]
    strategy = bt.Strategy('top', [bt.algos.SelectAll(), *algos])
    run = bt.run(bt.Backtest(strategy, market.opens, integer_positions=False, progress_bar=False))
    theirs = run.prices['top'].reindex(account.equity.index)
    np.testing.assert_allclose(account.equity / account.equity.iloc[0], theirs / theirs.iloc[0], rtol=1e-9)


# ---- controls


@pytest.mark.parametrize('short', [False, True])
@pytest.mark.parametrize('markets, least', [(6, 4), pytest.param(40, 34, marks=pytest.mark.heavy)])
def test_noise_is_no_edge(short, markets, least):
    "Intervals of 95 % hold zero for scores that know nothing, but for a few in twenty."
    free = scaled(Rules(top=8, drop=2, every=5, short=short, buy_cost=0, sell_cost=0, slippage=0), SYMBOLS)
    held = 0
    for seed in range(markets):
        market = make_market(seed)
        scores = series(noise(market, 100 + seed))
        benchmark = None if short else run_benchmark(scores, market, free)
        account = run_account(decide(scores, market, free), market, free)
        table = measure(account, benchmark, market.bars_per_year, 5, draws=200)
        _, low, high = table.loc['excess return p.a.']
        held += low < 0 < high
    assert held >= least


def test_shuffled_scores_lose_the_edge():
    market = make_market()
    scores = planted(market, 0.3)
    shuffled = pd.Series(np.random.default_rng(2).permutation(scores), scores.index)
    free = Rules(top=8, drop=8, buy_cost=0, sell_cost=0, slippage=0)
    assert backtest(scores, market, free).measures.loc['excess return p.a.', ('before costs', 'low')] > 0
    _, low, high = backtest(shuffled, market, free).measures.loc['excess return p.a.', 'before costs']
    assert low < 0 < high


@pytest.mark.parametrize('short', [False, True])
def test_a_planted_signal_dies_at_the_cost_it_should(short):
    "What is earned a bar, over what is traded a bar, is the cost of an order at which nothing is left."
    market = make_market()
    scores = planted(market, 0.3)
    free = dict(top=8, drop=8, short=short, slippage=0)
    found = backtest(scores, market, Rules(**free))
    assert found.verdict.startswith('There is an edge')
    before = found.before.equity.pct_change().iloc[1:]
    base = 0 if short else found.benchmark.equity.pct_change().iloc[1:].mean()
    due = (before.mean() - base) / (2 * found.before.turnover.iloc[1:].mean())
    assert found.break_even == pytest.approx(due, rel=0.1)
    for cost, sign in ((0.9, 1), (1.1, -1)):
        c = cost * found.break_even
        after = backtest(scores, market, Rules(**free, buy_cost=c, sell_cost=c))
        assert np.sign(after.measures.loc['excess return p.a.', ('after costs', 'value')]) == sign
    dear = backtest(scores, market, Rules(**free, buy_cost=2 * found.break_even, sell_cost=2 * found.break_even))
    assert dear.verdict.startswith('Costs eat the edge')


def test_a_signal_that_peeks_is_caught():
    "Scores that know the next bar are suspicious, and cannot be traded for what they seem to be worth."
    market = make_market()
    peeked = series((market.closes.shift(-1) / market.closes - 1).fillna(0))
    assert 'has probably seen that bar' in suspicion(ic_by_delay(peeked, market.closes))
    assert not suspicion(ic_by_delay(planted(market, 0.3), market.closes))
    gap = series((market.opens.shift(-1) / market.closes - 1).fillna(0))  # over before the first order is filled
    found = backtest(gap, market, Rules(top=8, drop=8, buy_cost=0, sell_cost=0, slippage=0))
    assert not found.verdict.startswith('There is an edge')


@pytest.mark.parametrize('short', [False, True])
def test_scores_of_the_future_change_nothing_before(short):
    market, cut = make_market(bars=80), 50
    rules = scaled(Rules(top=8, drop=2, short=short), SYMBOLS)
    scores = noise(market)
    other = scores.copy()
    other.iloc[cut:] = -other.iloc[cut:]
    later = {k: v.copy() for k, v in vars(market).items()}
    later['opens'].iloc[cut + 1 :] *= 1.3
    later['closes'].iloc[cut + 1 :] *= 1.2
    accounts = [
        run_account(decide(series(s), m, rules), m, rules) for s, m in ((scores, market), (other, Market(**later)))
    ]
    a, b = (x.equity.to_numpy() for x in accounts)
    assert (a[: cut + 1] == b[: cut + 1]).all() and (a[cut + 1 :] != b[cut + 1 :]).all()


def test_results_do_not_depend_on_the_order_of_symbols():
    from kronos_nb.config import DataConfig, check_section
    from kronos_nb.data.klines import Klines
    from kronos_nb.data.synthetic import synthetic_klines
    from kronos_nb.data.windows import BarStore
    from kronos_nb.portfolio.backtest import market_of

    cfg = check_section(DataConfig, dict(data_path='x.csv'))
    frames = {f'S{i}': synthetic_klines(100, 'B', seed=i) for i in range(12)}
    results = []
    for names in (list(frames), list(frames)[::-1]):
        market = market_of(BarStore.from_klines(Klines({s: frames[s] for s in names}, [], {}), cfg))
        scores = series(np.round(noise(market), 0))  # many are equal
        scores = scores.sample(frac=1, random_state=len(results))
        results.append(backtest(scores, market, Rules(top=3, drop=1, short=True)))
    assert results[0].after.equity.equals(results[1].after.equity)
    assert results[0].measures.equals(results[1].measures)


def test_a_suspended_symbol_stays_and_an_empty_market_is_refused():
    market = make_market(bars=30, symbols=4)
    market.volumes.iloc[10:] = 0
    can_buy, can_sell = tradable(market)
    assert not can_buy[10:].any() and not can_sell[10:].any() and can_buy[:10].all()
    rules = scaled(Rules(top=2, drop=2), 4)
    account = run_account(decide(series(noise(market)), market, rules), market, rules)
    assert account.trades.datetime.max() < market.closes.index[10]


@pytest.mark.heavy
def test_five_hundred_symbols_and_a_thousand_days(tmp_path):
    from kronos_nb.portfolio.report import report_portfolio

    market = make_market(bars=1000, symbols=500)
    found = report_portfolio(planted(market, 0.05).rename('planted'), market, tmp_path, Rules(**RULES['mainland']))
    assert found.backtest.rules.top == 50 and found.backtest.rules.drop == 5
    assert found.sheet.ic.loc[1, 'rank IC t'] > 5


def test_turnover_is_a_share_whatever_lies_between_decisions():
    market = make_market()
    scores = noise(market)
    for every, kept in ((1, scores.index), (1, scores.index[::7]), (5, scores.index[::3]), (1000, scores.index)):
        found = backtest(series(scores.loc[kept]), market, Rules(top=6, drop=6, every=every))
        orders = found.before.turnover[found.before.turnover > 0]
        value = found.measures.loc['turnover per decision', ('before costs', 'value')]
        assert 0 < value <= 1.02 and abs(value - orders.sum() / found.before.decisions) < 1e-9


def test_what_is_too_poor_to_trade_has_no_edge():
    market = make_market()
    found = backtest(series(noise(market)), market, Rules(capital=1.0, min_fee=5.0))
    assert found.verdict.startswith('Nothing was traded')
