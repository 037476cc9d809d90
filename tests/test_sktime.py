"The forecaster for sktime passes sktime's own tests of its interface; a panel of symbols trains one model."

import numpy as np
import pandas as pd
import pytest

from kronos_nb.data.synthetic import synthetic_klines

checks = pytest.importorskip('sktime.utils.estimator_checks')
from kronos_nb.adapters.sktime import KronosForecaster  # noqa: E402

QUICK = [
    'test_constructor',
    'test_clone',
    'test_get_test_params',
    'test_raises_not_fitted_error',
    'test_fit_idempotent',
    'test_predict_proba',
    'test_hierarchical_with_exogenous',
]


def failures(tests=None):
    "(how many of sktime's tests ran, those that failed with what they said)."
    results = checks.check_estimator(KronosForecaster, tests_to_run=tests, verbose=False)
    return len(results), {name: str(said)[:300] for name, said in results.items() if said != 'PASSED'}


def test_the_interface_of_a_forecaster():
    ran, failed = failures(QUICK)
    assert ran > 20 and not failed


@pytest.mark.heavy
def test_everything_sktime_asks_of_a_forecaster():
    ran, failed = failures()
    assert ran > 800 and not failed


def test_symbols_do_not_touch_each_other():
    "What is forecast for a symbol does not depend on its neighbours."
    frames = {f'S{i}': synthetic_klines(80, 'B', seed=i).set_index('timestamps') for i in range(3)}
    panel = pd.concat(frames, names=['symbol'])[['open', 'high', 'low', 'close']]
    forecaster = KronosForecaster(sample_count=4, lookback=40)
    together = forecaster.fit(panel).predict(fh=[1, 4])
    for name in frames:
        alone = forecaster.clone().fit(panel.loc[name]).predict(fh=[1, 4])
        np.testing.assert_allclose(together.loc[name], alone, rtol=1e-5)


@pytest.mark.heavy
def test_cross_validation_of_a_tuned_forecaster():
    "A fold sees nothing of the next one: bars that come later change no forecast."
    from sktime.forecasting.model_evaluation import evaluate
    from sktime.split import ExpandingWindowSplitter

    y = synthetic_klines(160, 'B', seed=3).set_index('timestamps').close
    other = y.copy()
    other.iloc[-5:] *= 1.1
    tuned = KronosForecaster(epochs=1, lookback=16, sample_count=4, settings=('training.samples_per_epoch=32',))
    cv = ExpandingWindowSplitter(fh=[1, 2, 3, 4, 5], initial_window=150, step_length=5)
    runs = [evaluate(tuned, cv, s, return_data=True, strategy='refit', error_score='raise') for s in (y, other)]
    assert len(runs[0]) == 2
    pd.testing.assert_series_equal(runs[0].y_pred.iloc[0], runs[1].y_pred.iloc[0])
    pd.testing.assert_series_equal(runs[0].y_pred.iloc[1], runs[1].y_pred.iloc[1])
