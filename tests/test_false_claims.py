"How often a verdict claims what is not there, and how soon it finds what is."

import pytest
from false_claims import binomial_interval, false_claims, power


@pytest.mark.heavy
def test_better_than_is_seldom_claimed_where_there_is_nothing_to_find():
    table = false_claims(25)  # 8 kinds of data without a signal, 25 of each
    assert table.runs.sum() == 200
    for measure in ('CRPS', 'MAE'):
        hits = int(table[measure].sum())
        low, high = binomial_interval(hits, 200)
        print(f'better than, by {measure}: {hits} of 200 (95 % interval {low:.1%} to {high:.1%})')
        assert hits <= 10, table  # 5 %


@pytest.mark.heavy
def test_a_signal_is_found_the_more_often_the_stronger_it_is():
    table = power(12)
    print(table.to_string(index=False))
    assert table.CRPS.iloc[0] <= 2 and table.CRPS.iloc[-1] >= 11
    assert table.CRPS.iloc[-1] > table.CRPS.iloc[1] >= table.CRPS.iloc[0] - 1
