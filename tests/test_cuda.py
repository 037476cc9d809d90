"The same things on a CUDA device; skipped, and said so, where there is none."

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')

from conftest import small_config

from kronos_nb.config import load_config
from kronos_nb.forecasting.engine import Contexts, TorchDecoder, decode_paths, generate
from kronos_nb.forecasting.sampling import Sampling, draw_uniforms
from kronos_nb.models.kronos import KRONOS_SIZES, Kronos
from kronos_nb.models.tokenizer import TOKENIZER_SIZES, KronosTokenizer
from kronos_nb.train_sequential import train_sequential
from kronos_nb.training.launch import choose_precision, make_accelerator


def on(device, *tensors):
    "The tensors, moved."
    return [t.to(device) for t in tensors]


def forecast(model, device, paths, how, max_context=64, dtype=torch.float64):
    "Tokens of two series of different lengths, 40 and 57 bars, whatever the device, on the CPU."
    g = torch.Generator().manual_seed(0)
    s1, s2 = torch.randint(0, 1024, (2, 2, 57), generator=g)
    stamp = torch.randint(1, 7, (2, 81, 5), generator=g)
    known = Contexts(*on(device, s1, s2, torch.tensor([40, 57])))
    new = generate(
        model.to(device, dtype), known, stamp.to(device), draw_uniforms(0, [0, 1], paths, 24), max_context, how, 'torch'
    )
    return torch.stack(new).cpu()


CHOICES = [
    dict(),
    dict(T=0),
    dict(T=0.8, top_k=100, top_p=0.9),
    dict(s2='reference'),
    dict(window='recompute'),
]


@pytest.mark.parametrize('paths', [1, 4])
@pytest.mark.parametrize('how', CHOICES, ids=str)
def test_paths_are_those_of_the_cpu(how, paths):
    "Equal uniforms: all tokens agree in float64, whether windows slide on the way or not, and 99 % in float32."
    torch.manual_seed(0)
    model, how = Kronos(**KRONOS_SIZES['mini']).eval(), Sampling(**how)
    for max_context in (512, 64):
        here = forecast(model, 'cpu', paths, how, max_context)
        assert torch.equal(here, forecast(model, 'cuda', paths, how, max_context))
    model = model.float()
    here, there = (forecast(model, d, paths, how, 512, torch.float32) for d in ('cpu', 'cuda'))
    assert (here == there).double().mean() >= 0.99


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_recorded_steps_make_the_same_bytes(dtype):
    "Twice, with buffers that another forecast has used in between, and without recording."
    torch.manual_seed(0)
    model = Kronos(**KRONOS_SIZES['mini']).eval().cuda()
    first = forecast(model, 'cuda', 4, Sampling(), 512, dtype)
    other = forecast(model, 'cuda', 4, Sampling(T=2.0), 512, dtype)
    assert not torch.equal(first, other)
    for _ in range(2):
        assert torch.equal(first, forecast(model, 'cuda', 4, Sampling(), 512, dtype))
    TorchDecoder.graphs = False
    try:
        assert torch.equal(first, forecast(model, 'cuda', 4, Sampling(), 512, dtype))
    finally:
        TorchDecoder.graphs = True


def test_new_weights_are_seen():
    "A recorded step reads weights that were trained on since."
    torch.manual_seed(0)
    model = Kronos(**KRONOS_SIZES['mini']).eval().cuda()
    first = forecast(model, 'cuda', 2, Sampling(), 512, torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    second = forecast(model, 'cuda', 2, Sampling(), 512, torch.float32)
    assert not torch.equal(first, second)
    assert (second == forecast(model, 'cpu', 2, Sampling(), 512, torch.float32)).double().mean() >= 0.99


def test_decoded_bars_are_those_of_the_cpu():
    "Tokens to bars."
    torch.manual_seed(0)
    tokenizer = KronosTokenizer(**TOKENIZER_SIZES['base']).eval()
    s1, s2 = torch.randint(0, 1024, (2, 2, 57))
    new = torch.randint(0, 1024, (2, 2, 5, 24))
    here = decode_paths(tokenizer, Contexts(s1, s2), tuple(new))
    there = decode_paths(tokenizer.cuda(), Contexts(*on('cuda', s1, s2)), tuple(new.cuda()))
    torch.testing.assert_close(here, there.cpu(), atol=1e-3, rtol=1e-3)


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
