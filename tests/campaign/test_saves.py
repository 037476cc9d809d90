"""Saves that die at every single call, and checkpoints whose contents are wrong under right digests: nothing but the
step at hand is lost, and no error but a sentence comes out. KRONOS_CAMPAIGN sets the number of examples (50 in the
ordinary tests)."""

import copy
import io
import json
import os
import shutil
from collections import Counter

import pytest
import torch
from dying import deaths, dies
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sized import sized
from torch import nn

from kronos_nb.errors import UserError, atomic_write
from kronos_nb.models.hub import save_model
from kronos_nb.models.kronos import KRONOS_SIZES, Kronos
from kronos_nb.training.checkpoint import (
    Checkpoints,
    digest,
    require_like,
    require_optimizer,
    require_schedule,
    rng_state,
    set_rng_state,
)

FILES = ['checkpoint.json', 'model.safetensors', 'state.pt']
tally = Counter()
examples = sized(50)
pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='a death is a fork here')


@pytest.fixture(scope='module', autouse=True)
def report():
    "Print the tally at the end."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked child has no other threads
    yield
    torch.set_num_threads(threads)
    print('\nsaves:', ', '.join(f'{n} {k}' for k, n in tally.items()))


def write(folder, step, keep, which=''):
    "Save a step whose weights and state say which step it is."
    net = nn.Linear(2, 2)
    nn.init.constant_(net.weight, step)
    return Checkpoints(folder, keep).save(step, net, dict(step=step, which=which), dict(batch_size=8))


def newest(folder):
    "(step, which) of what a run would go on from; it is whole."
    path, weights, state, _ = Checkpoints(folder).newest()
    assert sorted(os.listdir(path)) == FILES
    assert (weights['weight'] == state['step']).all()
    assert not Checkpoints(folder).set_aside(), 'a death damages nothing'
    return state['step'], state['which']


@pytest.mark.parametrize('keep', [1, 3])
@pytest.mark.parametrize(
    'before, step, possible',
    [
        ((), 5, {None, (5, 'new')}),
        ((5, 10), 15, {(10, 'old'), (15, 'new')}),
        ((5, 10), 10, {(10, 'old'), (10, 'new')}),  # saved again
        ((5, 10, 15), 10, {(15, 'old'), (10, 'new'), (10, 'old')}),  # gone back to an older one
    ],
    ids=['the first', 'the next', 'the same again', 'an earlier one'],
)
def test_a_death_costs_the_step_at_hand(tmp_path, keep, before, step, possible):
    folder = tmp_path / 'checkpoints'

    def prepare():
        shutil.rmtree(folder, ignore_errors=True)
        for s in before:
            write(folder, s, 9, 'old')

    def seen(number, died):
        tally['deaths in a checkpoint' if died else 'checkpoints through'] += 1
        found = newest(folder) if Checkpoints(folder).newest() else None
        assert found in (possible if died else {(step, 'new')}), (number, found)
        write(folder, step, keep, 'again')
        assert newest(folder) == (step, 'again'), number
        names = os.listdir(folder)
        assert len(names) <= keep and all(n.startswith('step-') for n in names), (number, names)

    assert deaths(prepare, lambda: write(folder, step, keep, 'new'), seen) > 10


def test_a_death_while_tidying_up_after_a_death(tmp_path):
    "Every call of a save, and then every call of the start after it: with one checkpoint kept, it is never lost."
    folder = tmp_path / 'checkpoints'
    first, through = 0, False
    while not through:
        first += 1 if examples.max_examples > 50 else 6
        second, tidied = 0, False
        while not tidied:
            second += 1
            shutil.rmtree(folder, ignore_errors=True)
            write(folder, 10, 1, 'old')
            through = not dies(first, lambda: write(folder, 10, 1, 'new'))
            tidied = not dies(second, lambda: Checkpoints(folder, 1).newest())
            tally['deaths after deaths'] += 1
            assert newest(folder) in {(10, 'old'), (10, 'new')}, (first, second)
            assert os.listdir(folder) == ['step-00000010'], (first, second)


SMALL = KRONOS_SIZES['mini'] | dict(d_model=8, n_heads=2, ff_dim=8, n_layers=1, s1_bits=2, s2_bits=2)


@pytest.mark.parametrize('other', [{}, dict(ff_dim=16)], ids=['the same shape', 'another shape'])
def test_a_death_costs_no_best_model(tmp_path, other):
    "The old model or the new one, and no mixture."
    folder = tmp_path / 'best_model'
    old, new = Kronos(**SMALL), Kronos(**SMALL | other)

    def seen(number, died):
        tally['deaths in a model' if died else 'models through'] += 1
        if not folder.is_dir():  # between two renames: whoever saves next sees to it
            save_model(old, folder)
        found = load_file(folder / 'model.safetensors')
        same = (m for m in (old, new) if all(torch.equal(found[k], v) for k, v in m.state_dict().items()))
        model = next(same)
        assert json.loads((folder / 'config.json').read_text())['ff_dim'] == model.transformer[0].ffn.w1.out_features
        assert died or model is new
        save_model(new, folder)
        assert os.listdir(tmp_path) == ['best_model'], number

    def prepare():
        shutil.rmtree(folder, ignore_errors=True)
        save_model(old, folder)

    assert deaths(prepare, lambda: save_model(new, folder), seen) > 5


def test_a_death_costs_no_file(tmp_path):
    "The old file or the new one, and nothing of it is there after the next."
    path = tmp_path / 'metrics.csv'

    def put(text):
        with atomic_write(path) as aside:
            aside.write_text(text)

    def seen(number, died):
        tally['deaths in a file' if died else 'files through'] += 1
        assert path.read_text() in {'old', 'new'} and (died or path.read_text() == 'new')
        dies(0, lambda: put('next'))  # another process
        assert path.read_text() == 'next' and os.listdir(tmp_path) == ['metrics.csv'], number

    assert deaths(lambda: path.write_text('old'), lambda: put('new'), seen) >= 5


class Holder:
    "A model and what it is trained with, which take a checkpoint as the trainer does."

    def __init__(self):
        torch.manual_seed(0)
        self.net = nn.Linear(3, 2)
        self.opt = torch.optim.AdamW(self.net.parameters(), 1e-3)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.opt, lambda step: 1.0)
        self.step()

    def step(self):
        self.net(torch.ones(1, 3)).sum().backward()
        self.opt.step()
        self.schedule.step()

    def state(self):
        return dict(optimizer=self.opt.state_dict(), schedule=self.schedule.state_dict(), rng=rng_state())

    def use(self, path, weights, state, identity):
        require_like(weights, self.net.state_dict(), 'the weights')
        require_schedule(state['schedule'], self.schedule)
        require_optimizer(state['optimizer'], self.opt)
        set_rng_state(state['rng'])
        self.net.load_state_dict(weights)
        self.opt.load_state_dict(state['optimizer'])
        self.schedule.load_state_dict(state['schedule'])


def places(tree, at=()):
    "Every place in nested dicts and lists."
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    for k, v in items:
        if not (at[:1] == ('rng',) and isinstance(k, int) and k > 2):  # thousands of words, all alike
            yield from places(v, (*at, k))


def put(tree, at, value):
    "The tree with another value at a place."
    if not at:
        return value
    k, *rest = at
    if isinstance(tree, dict):
        return tree | {k: put(tree[k], rest, value)}
    return type(tree)(put(v, rest, value) if i == k else v for i, v in enumerate(tree))


WRONG = [None, 'words', [], {}, -1, 2**70, float('nan'), torch.zeros(5), torch.full((2, 3), torch.nan), (), True, b'x']


def save_twice(tmp_path):
    "What is trained, its checkpoints, and the newer of the two that there are."
    folder = tmp_path / 'checkpoints'
    shutil.rmtree(folder, ignore_errors=True)
    holder, saved = Holder(), Checkpoints(folder)
    saved.save(5, holder.net, holder.state(), {})
    return holder, saved, saved.save(10, holder.net, holder.state(), {})


@examples
@given(data=st.data())
def test_wrong_contents_under_right_digests(tmp_path, data):
    "One value of a state is another under a right digest: it is taken and works, or it is set aside for the older one."
    holder, saved, path = save_twice(tmp_path)
    state, about = holder.state(), json.loads((path / 'checkpoint.json').read_text())
    at = data.draw(st.sampled_from(list(places(state))))
    value = data.draw(st.sampled_from(WRONG))
    buffer = io.BytesIO()
    torch.save(put(copy.deepcopy(state), at, value), buffer)
    (path / 'state.pt').write_bytes(buffer.getvalue())
    about['digests']['state.pt'] = digest(buffer.getvalue())
    (path / 'checkpoint.json').write_text(json.dumps(about))
    found, *_ = saved.newest(holder.use)
    tally[f'wrong states, {"taken" if found == path else "set aside"}'] += 1
    assert (found == path) == path.is_dir()
    holder.step()
    assert all(torch.isfinite(p).all() for p in holder.net.parameters()), (at, value)


@examples
@given(data=st.data())
def test_damaged_bytes(tmp_path, data):
    "A byte of any file changed, with or without the digest made anew: used, set aside, or a sentence."
    holder, saved, path = save_twice(tmp_path)
    name, about = data.draw(st.sampled_from(FILES)), json.loads((path / 'checkpoint.json').read_text())
    content = bytearray((path / name).read_bytes())
    at = data.draw(st.integers(0, min(len(content), 4000) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    (path / name).write_bytes(content)
    if name != 'checkpoint.json' and data.draw(st.booleans()):
        about['digests'][name] = digest(bytes(content))
        (path / 'checkpoint.json').write_text(json.dumps(about))
    try:
        found, *_ = saved.newest(holder.use)
        tally[f'damaged bytes, {"taken" if found == path else "set aside"}'] += 1
    except UserError:
        tally['damaged bytes, a sentence'] += 1
