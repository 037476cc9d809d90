"""Kronos, the foundation model for K-lines (candlesticks): fine-tune it, forecast with it, judge it.

    from kronos_nb import load_klines, load_predictor
    predictor, lookback, horizon = load_predictor('experiments/quickstart')
    bars = load_klines('data/us_daily')['IBM'].tail(lookback)
    forecast = predictor.predict_paths(bars, pred_len=horizon, sample_count=100, seed=0)
    forecast.plot()

Every public name stands here, and is imported when it is first used. Alone among the modules this one is written by hand;
nbdev keeps the line of the version in step with `settings.ini` and leaves the rest as it is."""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:  # for type checkers and editors, which do not run `__getattr__`
    from .check_data import check_data as check_data
    from .config import load_config as load_config
    from .data.klines import load_klines as load_klines
    from .data.sessions import future_timestamps as future_timestamps
    from .data.synthetic import synthetic_klines as synthetic_klines
    from .display.explorer import ForecastExplorer as ForecastExplorer
    from .display.monitor import TrainingMonitor as TrainingMonitor
    from .errors import UserError as UserError
    from .evaluate import evaluate as evaluate
    from .explore import explore as explore
    from .find_learning_rate import find_learning_rate as find_learning_rate
    from .finetune_base_model import finetune_base_model as finetune_base_model
    from .finetune_tokenizer import finetune_tokenizer as finetune_tokenizer
    from .forecast_files import forecast_files as forecast_files
    from .forecasting.files import load_predictor as load_predictor
    from .forecasting.forecast import Forecast as Forecast
    from .forecasting.forecast import KronosPredictor as KronosPredictor
    from .get_sample import get_sample as get_sample
    from .init import init as init
    from .models.kronos import Kronos as Kronos
    from .models.tokenizer import KronosTokenizer as KronosTokenizer
    from .portfolio_report import portfolio_report as portfolio_report
    from .search_settings import search_settings as search_settings
    from .serve import serve as serve
    from .signals import signals as signals
    from .train_sequential import train_sequential as train_sequential
    from .training.launch import launch as launch

_MODULES = {  # name -> the module that defines it
    'Forecast': 'forecasting.forecast',
    'ForecastExplorer': 'display.explorer',
    'Kronos': 'models.kronos',
    'KronosPredictor': 'forecasting.forecast',
    'KronosTokenizer': 'models.tokenizer',
    'TrainingMonitor': 'display.monitor',
    'UserError': 'errors',
    'check_data': 'check_data',
    'evaluate': 'evaluate',
    'explore': 'explore',
    'find_learning_rate': 'find_learning_rate',
    'finetune_base_model': 'finetune_base_model',
    'finetune_tokenizer': 'finetune_tokenizer',
    'forecast_files': 'forecast_files',
    'future_timestamps': 'data.sessions',
    'get_sample': 'get_sample',
    'init': 'init',
    'launch': 'training.launch',
    'load_config': 'config',
    'load_klines': 'data.klines',
    'load_predictor': 'forecasting.files',
    'portfolio_report': 'portfolio_report',
    'search_settings': 'search_settings',
    'serve': 'serve',
    'signals': 'signals',
    'synthetic_klines': 'data.synthetic',
    'train_sequential': 'train_sequential',
}


def __getattr__(name):
    "A public name, imported now that it is used."
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)
    globals()[name] = value  # the next time it is found without this function
    return value


def __dir__():
    "What there is, imported or not, without what this module itself needs."
    return sorted({*globals(), *_MODULES} - {'ModuleType', 'TYPE_CHECKING', 'import_module', 'os', 'sys'})


class _Package(ModuleType):
    """This package, in which `evaluate` is the function although a module has the name as well.

    After `import kronos_nb.evaluate` Python sets the package's attribute to the module; the function is kept instead.
    The module is where it always is: `from kronos_nb.evaluate import main`, `sys.modules['kronos_nb.evaluate']`."""

    def __setattr__(self, name, value):
        if isinstance(value, ModuleType) and name in _MODULES:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _choose_wait_policy():
    """Let the waiting threads of a pool's worker sleep: it has siblings on the same cores, and spinning keeps them waiting.

    Alone, spinning is faster; `training.launch` has the figures. Must happen before torch is first imported."""
    processes = sys.modules.get('multiprocessing.process')
    if processes and processes.parent_process() and not os.environ.get('OMP_NUM_THREADS'):
        os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


_choose_wait_policy()


def _follow_launcher():
    """Let a rank of torchrun end when torchrun does, killed or not: must be asked for before seconds go by in imports."""
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        from .processes import die_with_launcher

        die_with_launcher()


_follow_launcher()
