"""What a GPU makes of this package, beside the published code on the same card: one JSON line per row.

    OUT=gpu_results python benchmarks/gpu.py             # every row that OUT/gpu.jsonl does not have yet
    OUT=/tmp/try python benchmarks/gpu.py --tiny         # the same code on tiny models, on any machine

Rows stand in order of importance, and one that fails does not stop the rest. Forecasts begin and end
with normalised bars: encode, generate, decode. Weights are random and of the published shapes; medians are compared.
It needs the published code: pip install -e '.[parity]' in an environment of its own, or as benchmarks/gpu.sh tells.
"""

import argparse
import gc
import json
import os
import platform
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from model import Kronos as Reference
from model import KronosTokenizer as ReferenceTokenizer
from model.kronos import auto_regressive_inference

from kronos_nb.config import load_config
from kronos_nb.data.windows import Batch
from kronos_nb.forecasting.engine import TorchDecoder, decode_paths, encode_context, generate
from kronos_nb.forecasting.sampling import Sampling
from kronos_nb.models.kronos import KRONOS_SIZES, Kronos
from kronos_nb.models.tokenizer import TOKENIZER_SIZES, KronosTokenizer
from kronos_nb.training.launch import make_accelerator
from kronos_nb.training.stages import predictor_stage
from kronos_nb.training.step import compile_blocks, make_optimizer, train_step

ROOT = Path(__file__).parent.parent
CUDA = torch.cuda.is_available()
DEVICE = 'cuda' if CUDA else 'cpu'
TOP_P = 0.9
ROWS = {}  # name -> function of no arguments that returns the figures of a row

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--tiny', action='store_true', help='tiny models and few bars: does the script run?')
parser.add_argument('--seconds', type=float, default=280, help='no row begins later than this')
parser.add_argument('--only', default='', help='rows whose names contain this')
ARGS = parser.parse_args()
OUT = Path(os.environ.get('OUT', 'gpu_results'))


def row(f):
    "Make a function a row of the table."
    ROWS[f.__name__] = f
    return f


def sync():
    "Wait for the device."
    if CUDA:
        torch.cuda.synchronize()


def seconds(f, n=5, warm=2):
    "Median seconds of f(), and each."
    for _ in range(warm):
        f()
    taken = []
    for _ in range(1 if ARGS.tiny else n):
        sync()
        start = time.perf_counter()
        f()
        sync()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)), taken


def shape(size):
    "Constructor arguments of a predictor."
    small = dict(n_layers=2, d_model=64, n_heads=4, ff_dim=64)
    return KRONOS_SIZES[size] | (small if ARGS.tiny else {})


def models(size, dtype=torch.float32):
    "Tokenizer and predictor, with the same random weights every time."
    torch.manual_seed(0)
    tokenizer, model = KronosTokenizer(**TOKENIZER_SIZES['base']), Kronos(**shape(size))
    return tokenizer.eval().to(DEVICE, dtype), model.eval().to(DEVICE, dtype)


def references(tokenizer, model):
    "The published modules with these weights."
    theirs = ReferenceTokenizer(**TOKENIZER_SIZES['base']), Reference(**shape(model.size))
    for a, b in zip(theirs, (tokenizer, model)):
        a.load_state_dict(b.state_dict())
    return [m.eval().to(DEVICE) for m in theirs]


def example(series, paths, context, horizon):
    "Normalised bars, time features and uniforms, on the device."
    g = torch.Generator().manual_seed(0)
    x = torch.randn(series, context, 6, generator=g)
    stamp = [torch.randint(0, n, (series, context + horizon), generator=g) for n in (60, 24, 7, 32, 13)]
    u = torch.rand(series, paths, horizon, 2, generator=g)
    return x.to(DEVICE), torch.stack(stamp, -1).to(DEVICE), u.to(DEVICE)


@torch.inference_mode()
def ours(tokenizer, model, x, stamp, u, max_context=512):
    "A forecast: (B, paths, horizon, 6)."
    contexts = encode_context(tokenizer, x)
    new = generate(model, contexts, stamp, u, max_context, Sampling(top_p=TOP_P))
    return decode_paths(tokenizer, contexts, new, max_context)


def reference(tokenizer, model, x, stamp, paths, horizon):
    "The published forecast: the mean of its paths."
    C, s = x.shape[1], stamp.float()
    past, future = s[:, :C], s[:, C : C + horizon]
    return auto_regressive_inference(tokenizer, model, x, past, future, 512, horizon, 5, 1.0, 0, TOP_P, paths)


def against_reference(size, series, paths, context, horizon, whole):
    "Figures of a forecast beside the published one; unless `whole`, the latter is timed for one and two bars."
    if ARGS.tiny:
        series, paths, context, horizon = min(series, 2), min(paths, 3), 20, 10
    tokenizer, model = models(size)
    model.size = size
    x, stamp, u = example(series, paths, context, horizon)
    first, _ = seconds(lambda: ours(tokenizer, model, x, stamp, u), 1, 0)
    total, runs = seconds(lambda: ours(tokenizer, model, x, stamp, u))
    one, _ = seconds(lambda: ours(tokenizer, model, x, stamp, u[:, :, :1].contiguous()))
    theirs = references(tokenizer, model)
    if whole:
        slow, _ = seconds(lambda: reference(*theirs, x, stamp, paths, horizon), 3, 1)
    else:
        a, b = (seconds(lambda n=n: reference(*theirs, x, stamp, paths, n), 1, n == 1)[0] for n in (1, 2))
        slow = a + (horizon - 1) * (b - a)
    return dict(
        size=size,
        series=series,
        paths=paths,
        context=context,
        horizon=horizon,
        dtype='float32',
        ours_s=total,
        runs=runs,
        first_call_s=first,
        ms_per_bar=1000 * total / horizon,
        ms_per_step=1000 * (total - one) / (horizon - 1),
        reference_s=slow,
        ratio=slow / total,
        reference_bars='all' if whole else 'scaled from 1 and 2 bars',
    )


@row
def card():
    "The machine."
    found = dict(torch=torch.__version__, python=platform.python_version(), cores=os.cpu_count())
    if CUDA:
        p = torch.cuda.get_device_properties(0)
        found |= dict(card=p.name, memory_gib=p.total_memory / 2**30, cuda=torch.version.cuda)
    return found


def copy_rate(mib=4096):
    "Bytes per second of a copy on the device, read and written."
    a = torch.empty(2**20 * (1 if ARGS.tiny else mib), dtype=torch.uint8, device=DEVICE)
    b = torch.empty_like(a)
    return 2 * a.numel() / seconds(lambda: b.copy_(a), 9)[0]


def product_rate(n=8192, dtype=torch.bfloat16):
    "Operations per second of a square matrix product."
    n = 256 if ARGS.tiny else n
    a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, 9, 3)[0]


@row
def peaks():
    "What products and copies reach here."
    return dict(bf16_tflops=product_rate() / 1e12, copy_tb_s=copy_rate() / 1e12)


@row
def small_one_path():
    return against_reference('small', 1, 1, 400, 112, True)


@row
def mini_one_path():
    return against_reference('mini', 1, 1, 400, 112, True)


@row
def small_100_paths():
    return against_reference('small', 1, 100, 400, 48, False)


@row
def mini_64_series():
    return against_reference('mini', 64, 32, 400, 24, False)


def parity_of(dtype, size, paths):
    "Share of a forecast's tokens that the CPU makes too, and whether two runs agree to the bit."
    context, horizon = (20, 6) if ARGS.tiny else (200, 24)
    torch.manual_seed(0)
    model = Kronos(**shape(size)).eval().to(dtype)
    x, stamp, u = (t.cpu() for t in example(2, paths, context, horizon))
    tokenizer = KronosTokenizer(**TOKENIZER_SIZES['base']).eval()
    contexts = encode_context(tokenizer, x, torch.tensor([context, context - 9]), 'torch')
    # by PyTorch on the CPU too: that it agrees with the compiled loops is proved without a GPU
    cpu = torch.stack(generate(model, contexts, stamp, u, 512, Sampling(top_p=TOP_P), 'torch'))
    contexts = type(contexts)(*(t.to(DEVICE) for t in contexts))
    model, stamp, u = model.to(DEVICE), stamp.to(DEVICE), u.to(DEVICE)
    first, second = (torch.stack(generate(model, contexts, stamp, u, 512, Sampling(top_p=TOP_P))) for _ in range(2))
    TorchDecoder.graphs = False
    plain = torch.stack(generate(model, contexts, stamp, u, 512, Sampling(top_p=TOP_P)))
    TorchDecoder.graphs = True
    same = (first.cpu() == cpu).double().mean().item()
    return same, torch.equal(first, second), torch.equal(first, plain)


@row
def parity():
    "CPU and device with equal uniforms."
    found = {}
    for dtype in (torch.float64, torch.float32):
        for paths in (1, 8):
            name = f'{str(dtype).removeprefix("torch.")}, {paths} paths'
            same = parity_of(dtype, 'mini', paths)
            found[name] = dict(zip(('same_tokens', 'twice_the_same', 'replayed_as_plain'), same))
    return found


def floor_of_a_bar(model, series, paths, context, horizon):
    "Seconds that the products and the cache's bytes of a bar would take alone, at this card's measured rates."
    d, layers = model.d_model, model.n_layers
    weights = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and 'emb' not in n.split('.')[-2])
    products = 2 * weights * series * paths / product_rate()
    positions = series * (context + paths * horizon / 2)
    cache = positions * 2 * d * (layers + 1) * next(model.parameters()).element_size() / copy_rate(1024)
    return products, cache


@row
def base_1024_series():
    "base, 1,024 series of 32 paths in bfloat16: how near the card's own limits?"
    tokenizer, model = models('base', torch.bfloat16)
    context, horizon, paths, series = (20, 10, 3, 4) if ARGS.tiny else (400, 24, 32, 1024)
    while True:
        try:
            x, stamp, u = example(series, paths, context, horizon)
            with torch.inference_mode():
                contexts = encode_context(tokenizer, x.bfloat16())
            run = lambda n: generate(model, contexts, stamp, u[:, :, :n].contiguous(), 512, Sampling(top_p=TOP_P))  # noqa: E731
            total, _ = seconds(lambda: run(horizon), 1, 1)
            one, _ = seconds(lambda: run(1), 1, 1)
            break
        except torch.cuda.OutOfMemoryError:
            series //= 2
            gc.collect()
            torch.cuda.empty_cache()
    memory = torch.cuda.max_memory_allocated() / 2**30 if CUDA else None
    gc.collect()
    step, parts = (total - one) / (horizon - 1), floor_of_a_bar(model, series, paths, context, horizon)
    names = dict(size='base', series=series, paths=paths, context=context, horizon=horizon, dtype='bfloat16')
    return names | dict(
        total_s=total,
        prefill_and_first_bar_s=one,
        ms_per_step=1000 * step,
        products_ms=1000 * parts[0],
        cache_ms=1000 * parts[1],
        share_of_floor=sum(parts) / step,
        peak_gib=memory,
    )


def training_batch(B):
    "Windows of 561 bars on the device."
    T, g = 33 if ARGS.tiny else 561, torch.Generator().manual_seed(0)
    x = torch.randn(B, T, 6, generator=g).clamp_(-5, 5)
    stamp = torch.stack([torch.randint(0, n, (B, T), generator=g) for n in (60, 24, 7, 32, 13)], -1)
    return Batch(x, stamp).to(DEVICE)


def settings(**training):
    "A configuration that trains here."
    data = dict(data_path=str(ROOT / 'data/us_daily'))
    experiment, architecture = dict(pre_trained=False), dict(tokenizer='base', predictor='mini')
    device = dict(use_cuda=CUDA)
    return load_config(
        dict(data=data, training=training, experiment=experiment, architecture=architecture, device=device)
    )


def training_step(size, B, compiled, precision='bf16'):
    "A function that does one step of stage 2, and the model."
    cfg = settings(mixed_precision=precision if CUDA else 'no')
    torch.manual_seed(0)
    tokenizer, model = KronosTokenizer(**TOKENIZER_SIZES['base']).eval().to(DEVICE), Kronos(**shape(size))
    stage, acc = predictor_stage(cfg, model, tokenizer.requires_grad_(False)), make_accelerator(cfg)
    opt, _ = make_optimizer(stage.model, cfg, stage.learning_rate, 1000)
    if compiled:
        compile_blocks(stage.model)
    stage.model, opt = acc.prepare(stage.model, opt)
    stage.model.train()
    batch = training_batch(B)
    return (lambda: train_step(stage, acc, opt, [batch])), model, tokenizer, batch.x.shape[1]


def training_work(model, tokenizer, B, T):
    "Operations of a step: two per weight and position, the causal half of the attention, thrice; and the tokenizer's."

    def work(m, d, layers, passes):
        weights = sum(p.numel() for n, p in m.named_parameters() if p.ndim == 2 and 'emb' not in n.split('.')[-2])
        return passes * (2 * weights * B * T + layers * 2 * B * T * T * d)

    return work(model, model.d_model, model.n_layers + 1, 3) + work(tokenizer, 256, 3, 1) / 2


def training_row(size, compiled, B=160):
    "A training step of a size."
    B = 2 if ARGS.tiny else B
    while True:
        try:
            if CUDA:
                torch.cuda.reset_peak_memory_stats()
            step, model, tokenizer, T = training_step(size, B, compiled)
            first, _ = seconds(step, 1, 0)
            taken, runs = seconds(step, 9, 3)
            break
        except torch.cuda.OutOfMemoryError:
            step = model = None
            B //= 2
            gc.collect()
            torch.cuda.empty_cache()
    rate = training_work(model, tokenizer, B, T) / taken
    return dict(
        size=size,
        windows=B,
        bars=T,
        compiled=compiled,
        ms=1000 * taken,
        first_s=first,
        windows_per_s=B / taken,
        tflops=rate / 1e12,
        share_of_peak=rate / product_rate(),
        peak_gib=torch.cuda.max_memory_allocated() / 2**30 if CUDA else None,
    )


@row
def train_small():
    return training_row('small', False)


@row
def train_base():
    return training_row('base', False)


@row
def train_mini():
    return training_row('mini', False)


@row
def train_reference_small():
    "The published loop: float32, AdamW, tokens by the published tokenizer."
    B = 2 if ARGS.tiny else 32
    torch.manual_seed(0)
    tokenizer = ReferenceTokenizer(**TOKENIZER_SIZES['base']).eval().to(DEVICE)
    model, batch = Reference(**shape('small')).to(DEVICE).train(), training_batch(B)
    opt, stamp = torch.optim.AdamW(model.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.1), batch.stamp.float()

    def step():
        with torch.no_grad():
            s1, s2 = tokenizer.encode(batch.x, half=True)
        logits = model(s1[:, :-1], s2[:, :-1], stamp[:, :-1])
        model.head.compute_loss(*logits, s1[:, 1:], s2[:, 1:])[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        opt.step()
        opt.zero_grad()

    taken, _ = seconds(step, 5)
    return dict(size='small', windows=B, ms=1000 * taken, windows_per_s=B / taken)


@row
def train_small_compiled():
    return training_row('small', True)


@row
def train_base_compiled():
    return training_row('base', True)


@row
def train_mini_compiled():
    return training_row('mini', True)


def profiled(f, name):
    "The 15 kernels that take longest, written to a file and returned."
    kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * CUDA
    for _ in range(2):
        f()
    sync()
    with torch.profiler.profile(activities=kinds) as p:
        f()
        sync()
    key = 'self_device_time_total' if CUDA else 'self_cpu_time_total'
    table = p.key_averages().table(sort_by=key, row_limit=15, max_name_column_width=70)
    (OUT / f'profile_{name}.txt').write_text(table)
    events = sorted(p.key_averages(), key=lambda e: -getattr(e, key))[:15]
    return [dict(name=e.key[:90], calls=e.count, ms=getattr(e, key) / 1000) for e in events]


@row
def profile_decode_small():
    "Where a forecast of one path spends its time."
    tokenizer, model = models('small')
    x, stamp, u = example(1, 1, *((20, 6) if ARGS.tiny else (400, 48)))
    return dict(top=profiled(lambda: ours(tokenizer, model, x, stamp, u), 'decode_small'))


@row
def profile_decode_base():
    "Where a forecast of many series spends its time."
    tokenizer, model = models('base', torch.bfloat16)
    series, paths, context, horizon = (2, 3, 20, 6) if ARGS.tiny else (256, 32, 400, 24)
    x, stamp, u = example(series, paths, context, horizon)
    with torch.inference_mode():
        contexts = encode_context(tokenizer, x.bfloat16())
    run = lambda: generate(model, contexts, stamp, u, 512, Sampling(top_p=TOP_P))  # noqa: E731
    return dict(top=profiled(run, 'decode_base'))


@row
def profile_train_base():
    "Where a training step of base spends its time."
    return dict(top=profiled(training_step('base', 2 if ARGS.tiny else 64, False)[0], 'train_base'))


@row
def precision():
    "float32 with TF32 off and on, and bfloat16: equal tokens, CRPS on the daily sample, speed."
    import pandas as pd

    from kronos_nb import load_klines
    from kronos_nb.data.columns import BAR_COLS
    from kronos_nb.data.timestamps import time_features
    from kronos_nb.data.windows import lookback_stats, normalise
    from kronos_nb.evaluation.metrics import crps

    horizon, context, paths = (4, 30, 3) if ARGS.tiny else (24, 400, 100)
    bars, stamps, truth = [], [], []
    for frame in load_klines(ROOT / 'data/us_daily').frames.values():
        for end in range(len(frame) - horizon, context, -60)[: 1 if ARGS.tiny else 8]:
            part = frame.iloc[end - context : end + horizon]
            values = part[BAR_COLS].to_numpy(np.float32)
            mean, scale = lookback_stats(values[:context])
            z = normalise(values, mean, scale, 5.0)
            bars.append(z[:context])
            truth.append(z[context:, 3])
            stamps.append(time_features(pd.DatetimeIndex(part['timestamps'])))
    x, stamp = torch.tensor(np.array(bars)).to(DEVICE), torch.tensor(np.array(stamps).astype(np.int64)).to(DEVICE)
    u = torch.rand(len(x), paths, horizon, 2, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    found, base, before = {}, None, torch.get_float32_matmul_precision()
    kinds = (('float32', torch.float32, 'highest'), ('TF32', torch.float32, 'high'))
    for name, dtype, tf32 in (*kinds, ('bfloat16', torch.bfloat16, 'highest')):
        torch.set_float32_matmul_precision(tf32)
        tokenizer, model = models('small', dtype)
        coarse = encode_context(models('small')[0], x)  # the same known tokens for all
        run = lambda: generate(model, coarse, stamp, u, 512, Sampling(top_p=TOP_P))  # noqa: E731, B023
        taken, _ = seconds(run, 3, 1)
        new = torch.stack(run())
        base = new if base is None else base
        z = decode_paths(tokenizer, coarse, tuple(new)).float().cpu().numpy()[..., 3]
        score = float(np.mean(crps(np.array(truth), z)))
        found[name] = dict(same_tokens=(new == base).double().mean().item(), crps=score, s=taken)
    torch.set_float32_matmul_precision(before)
    return found


@row
def small_one_path_compiled():
    "The step with each block's operations fused by torch.compile."
    TorchDecoder.compile = True
    try:
        return against_reference('small', 1, 1, 400, 112, False)
    finally:
        TorchDecoder.compile = False


def free():
    "Forget what the last row left on the device."
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()


def main():
    "Every row that is not there yet."
    OUT.mkdir(parents=True, exist_ok=True)
    path, begun = OUT / 'gpu.jsonl', time.monotonic()
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    there = {d['row'] for d in done if 'error' not in d}
    for name, f in ROWS.items():
        if name in there or ARGS.only not in name:
            continue
        if time.monotonic() - begun > ARGS.seconds:
            print(f'{name}: no time left', flush=True)
            continue
        start = time.monotonic()
        try:
            found = f()
        except Exception as e:  # noqa: BLE001
            found = dict(error=f'{type(e).__name__}: {e}'[:500], trace=traceback.format_exc()[-1500:])
        line = dict(row=name, took_s=round(time.monotonic() - start, 1), **found)
        with path.open('a') as file:
            file.write(json.dumps(line) + '\n')
        print(f'{time.monotonic() - begun:6.1f} s', json.dumps(line)[:900], flush=True)
        free()


if __name__ == '__main__':
    main()
