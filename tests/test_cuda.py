"The same things on a CUDA device; skipped, and said so, where there is none."

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')

from conftest import small_config

from kronos_nb.config import load_config
from kronos_nb.forecasting.engine import Contexts, generate
from kronos_nb.forecasting.sampling import draw_uniforms
from kronos_nb.models.kronos import KRONOS_SIZES, Kronos
from kronos_nb.models.tokenizer import TOKENIZER_SIZES, KronosTokenizer
from kronos_nb.train_sequential import train_sequential
from kronos_nb.training.launch import choose_precision, make_accelerator


def test_paths_are_those_of_the_cpu():
    "Same uniforms, nearly the same logits: nearly all tokens agree, and all do when greedy and float64."
    torch.manual_seed(0)
    model = Kronos(**KRONOS_SIZES['mini']).eval().double()
    tokenizer = KronosTokenizer(**TOKENIZER_SIZES['base']).eval().double()
    x, stamp = torch.randn(2, 64, 6).double(), torch.randint(1, 7, (2, 72, 5))
    contexts = Contexts(*tokenizer.encode(x, half=True))
    u = draw_uniforms(0, [0, 1], 4, 8)
    here = generate(model, contexts, stamp, u, 64)
    there = generate(model.cuda(), Contexts(contexts.s1.cuda(), contexts.s2.cuda()), stamp.cuda(), u, 64)
    for a, b in zip(here, there):
        assert torch.equal(a, b.cpu())


@pytest.mark.parametrize('precision', ['no', 'auto', 'fp16'])
def test_trains_and_goes_on(tmp_path, precision):
    "A run stopped between the stages goes on, learns, and forecasts."
    cfg = load_config(
        small_config(tmp_path, device=dict(use_cuda=True), training=dict(mixed_precision=precision, epochs=2))
    )
    assert make_accelerator(cfg).device.type == 'cuda'
    if precision == 'auto':
        assert choose_precision(cfg, True)[0] == ('bf16' if torch.cuda.get_device_capability()[0] >= 8 else 'fp16')
    first = train_sequential(cfg, skip_basemodel=True)
    both = train_sequential(cfg)
    assert both.tokenizer.best_loss == first.tokenizer.best_loss
    losses = both.basemodel.history.train_loss.dropna()
    assert losses.iloc[-1] < losses.iloc[0] and both.scores['CRPS, %'].notna().all()
