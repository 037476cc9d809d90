"Weights are whole or refused: whatever is taken from a file or put into it is named."

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kronos_nb.errors import UserError
from kronos_nb.models.kronos import Kronos
from kronos_nb.models.tokenizer import KronosTokenizer

SHAPES = {
    Kronos: dict(
        s1_bits=4,
        s2_bits=4,
        n_layers=1,
        d_model=8,
        n_heads=2,
        ff_dim=12,
        ffn_dropout_p=0.0,
        attn_dropout_p=0.0,
        resid_dropout_p=0.0,
        token_dropout_p=0.0,
        learn_te=True,
    ),
    KronosTokenizer: dict(
        d_in=6,
        d_model=8,
        n_heads=2,
        ff_dim=12,
        n_enc_layers=2,
        n_dec_layers=2,
        ffn_dropout_p=0.0,
        attn_dropout_p=0.0,
        resid_dropout_p=0.0,
        s1_bits=4,
        s2_bits=4,
        beta=0.05,
        gamma0=1.0,
        gamma=1.1,
        zeta=0.05,
        group_size=4,
    ),
}


@pytest.fixture(params=list(SHAPES), ids=lambda cls: cls.__name__)
def saved(request, tmp_path):
    "A model's class, the folder it is saved in, and its tensors."
    cls = request.param
    cls(**SHAPES[cls]).save_pretrained(tmp_path)
    tensors = {k: v.clone() for k, v in load_file(tmp_path / 'model.safetensors').items()}  # not the file's own memory
    return cls, tmp_path, tensors


def refused(cls, folder, tensors=None, words=''):
    "Loading fails with a sentence that holds the words."
    if tensors is not None:
        save_file(tensors, folder / 'model.safetensors')
    with pytest.raises(UserError) as e:
        cls.from_pretrained(folder)
    assert words in str(e.value), str(e.value)


def test_every_tensor_counts(saved):
    "Taken away, of another shape or type, or with one number that is none: each is named."
    cls, folder, tensors = saved
    for name, t in tensors.items():
        refused(cls, folder, {k: v for k, v in tensors.items() if k != name}, name)
        refused(cls, folder, tensors | {name: torch.zeros(*t.shape, 2)}, name)
        if t.is_floating_point():
            refused(cls, folder, tensors | {name: torch.zeros(t.shape, dtype=torch.int32)}, name)
            for value in (torch.nan, torch.inf):
                spoiled = t.clone()
                spoiled.view(-1)[-1] = value
                refused(cls, folder, tensors | {name: spoiled}, name)
    refused(cls, folder, tensors | {'extra.weight': torch.zeros(2)}, 'extra.weight')


def test_names_of_wrapped_models(saved):
    "What DistributedDataParallel and torch.compile put before every name is understood."
    cls, folder, tensors = saved
    for prefix in ('module.', '_orig_mod.', 'module._orig_mod.'):
        save_file({prefix + k: v for k, v in tensors.items()}, folder / 'model.safetensors')
        again = cls.from_pretrained(folder).state_dict()
        assert all(torch.equal(again[k], v) for k, v in tensors.items())
    first = next(iter(tensors))
    refused(cls, folder, {(f'module.{k}' if k == first else k): v for k, v in tensors.items()}, first)


def test_a_configuration_is_checked_before_memory_is_taken(saved):
    cls, folder, _ = saved
    layers = 'n_layers' if cls is Kronos else 'n_enc_layers'
    good = json.loads((folder / 'config.json').read_text())
    for key, value in (
        ('n_heads', 0),
        (layers, 10**7),
        ('d_model', 10**9),
        ('d_model', 'wide'),
        ('ff_dim', -1),
        ('s1_bits', 400),
        ('ffn_dropout_p', -0.5),
        ('ffn_dropout_p', float('nan')),
        ('d_model', None),
        ('ff_dim', 65536),
        (layers, 3),
    ):
        (folder / 'config.json').write_text(json.dumps(good | {key: value}))
        refused(cls, folder)
    for text in ('', '[]', '{', 'null', '<html>', json.dumps({k: v for k, v in good.items() if k != 'd_model'})):
        (folder / 'config.json').write_text(text)
        refused(cls, folder)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes(saved, data):
    "A file with a byte changed, cut off or appended is refused, or holds other numbers: nothing else can be."
    cls, folder, tensors = saved
    save_file(tensors, folder / 'model.safetensors')
    raw = bytearray((folder / 'model.safetensors').read_bytes())
    how = data.draw(st.sampled_from(['byte', 'cut', 'more', 'header']))
    at = data.draw(st.integers(0, len(raw) - 1 if how != 'header' else 300))
    if how in ('byte', 'header'):
        raw[at] ^= data.draw(st.integers(1, 255))
    elif how == 'cut':
        del raw[at:]
    else:
        raw += b'x' * (at + 1)
    (folder / 'model.safetensors').write_bytes(raw)
    try:
        model = cls.from_pretrained(folder)
    except UserError:
        return
    assert model.state_dict().keys() == tensors.keys()
    assert all(np.isfinite(t.float().numpy()).all() for t in model.state_dict().values())


def test_files_that_are_no_weights(saved):
    "A page of the web, a pointer to large files, a pickle, nothing."
    cls, folder, tensors = saved
    torch.save(tensors, folder / 'pickle')
    pointer = b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'
    for content in (b'', b'<html></html>', pointer, (folder / 'pickle').read_bytes()):
        (folder / 'model.safetensors').write_bytes(content)
        refused(cls, folder, words='not the weights')
