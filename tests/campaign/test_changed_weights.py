"""Weights and configurations with bytes, names, types and numbers changed: a sentence, or the very same model.
KRONOS_CAMPAIGN sets the number of examples (200 in the ordinary tests)."""

import json
import struct
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sized import sized

from kronos_nb.config import PredictorArchitecture, TokenizerArchitecture
from kronos_nb.errors import UserError
from kronos_nb.models.kronos import Kronos
from kronos_nb.models.tokenizer import KronosTokenizer

SIZE = dict(d_model=8, n_heads=2, ff_dim=12, s1_bits=4, s2_bits=4)
SHAPES = {
    Kronos: PredictorArchitecture(**SIZE, n_layers=1).model_dump(),
    KronosTokenizer: TokenizerArchitecture(**SIZE, n_enc_layers=2, n_dec_layers=2).model_dump(),
}
tally = Counter()
examples = sized(200, share=4)  # of each of the four tests


@pytest.fixture(scope='module', autouse=True)
def report():
    "Print the tally at the end."
    yield
    print('\nweights:', ', '.join(f'{n} {k}' for k, n in tally.items()))


@pytest.fixture(params=list(SHAPES), ids=lambda cls: cls.__name__)
def saved(request, tmp_path):
    "A model's class, its folder, its tensors, and the bytes of both files."
    cls = request.param
    torch.manual_seed(0)
    cls(**SHAPES[cls]).save_pretrained(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in ('config.json', 'model.safetensors')}
    tensors = {k: t.clone() for k, t in load_file(tmp_path / 'model.safetensors').items()}  # the file gets other bytes
    return cls, tmp_path, tensors, files


def kinds(model):
    "The types of all plain attributes of a model's modules; a whole number may stand for another."
    plain = {int: 'number', float: 'number', bool: 'truth', str: 'text'}
    return {
        f'{name}.{k}': plain[type(v)]
        for name, module in model.named_modules()
        for k, v in vars(module).items()
        if type(v) in plain
    }


def answer(saved, what):
    "Load what is in the folder now: refused with a sentence, or the same model. True if it was loaded."
    cls, folder, tensors, files = saved
    try:
        model = cls.from_pretrained(folder)
    except UserError as e:
        tally[f'{what} refused'] += 1
        assert str(folder) in str(e) and len(str(e)) < 2000, str(e)
        return False
    finally:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    tally[f'{what} loaded'] += 1
    assert kinds(model) == kinds(cls(**SHAPES[cls])), 'a number is a text'
    found = model.state_dict()
    assert found.keys() == tensors.keys()
    for name, t in tensors.items():
        assert found[name].dtype == t.dtype and torch.equal(found[name], t), name
    return True


def damage(data, content, end):
    "Bytes changed, put in, cut out or cut off before `end`."
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, end - 1))
        how = data.draw(st.sampled_from(['change', 'insert', 'remove', 'cut']))
        piece = data.draw(st.binary(min_size=1, max_size=6) | st.sampled_from([b'0', b'"', b'{', b'}', b',', b'-']))
        if how == 'change':
            content[at : at + len(piece)] = piece
        elif how == 'insert':
            content[at:at] = piece
        elif how == 'remove':
            del content[at : at + len(piece)]
        else:
            del content[at:]
            break
    return bytes(content)


@examples
@given(data=st.data())
def test_bytes_of_the_header(saved, data):
    folder, content = saved[1], saved[3]['model.safetensors']
    end = 8 + struct.unpack('<Q', content[:8])[0]
    (folder / 'model.safetensors').write_bytes(damage(data, content, end))
    answer(saved, 'headers')


@examples
@given(data=st.data())
def test_entries_of_the_header(saved, data):
    "A header that is valid JSON, and wrong: types, shapes, offsets and names of one tensor."
    folder, content = saved[1], saved[3]['model.safetensors']
    n = struct.unpack('<Q', content[:8])[0]
    header, rest = json.loads(content[8 : 8 + n]), content[8 + n :]
    name = data.draw(st.sampled_from(sorted(header.keys() - {'__metadata__'})))
    key = data.draw(st.sampled_from(['dtype', 'shape', 'data_offsets', 'name']))
    numbers = st.lists(st.integers(-2, 2**65), max_size=4)
    value = data.draw(
        st.sampled_from(['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'U8', 'BOOL', 'F8_E4M3', 'C64', 'X', '', '\ud800'])
        | numbers
        | st.none()
        | st.text(max_size=5)
    )
    if key == 'name':
        header[str(value)] = header.pop(name)
    else:
        header[name] = header[name] | {key: value}
    text = json.dumps(header).encode()
    (folder / 'model.safetensors').write_bytes(struct.pack('<Q', len(text)) + text + rest)
    answer(saved, 'entries')


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@examples
@given(data=st.data())
def test_configurations(saved, data):
    "A key with another value, no key, another key, or bytes changed."
    cls, folder, _, files = saved
    config = json.loads(files['config.json'])
    how = data.draw(st.sampled_from(['value', 'value', 'value', 'missing', 'more', 'bytes']))
    key = data.draw(st.sampled_from(sorted(config)))
    if how == 'bytes':
        content = damage(data, files['config.json'], len(files['config.json']))
    else:
        if how == 'value':
            config[key] = data.draw(values)
        elif how == 'missing':
            del config[key]
        else:
            config[data.draw(st.text(max_size=9))] = data.draw(values)
        content = json.dumps(config).encode()
    (folder / 'config.json').write_bytes(content)
    answer(saved, 'configurations')


@examples
@given(data=st.data())
def test_one_tensor(saved, data):
    "Taken away, renamed, of another shape or type, or with one number that is none: named in the sentence."
    cls, folder, tensors, files = saved
    name = data.draw(st.sampled_from(sorted(tensors)))
    t = tensors[name]
    how = data.draw(st.sampled_from(['missing', 'renamed', 'shape', 'half', 'int', 'nan', 'inf', 'prefix']))
    others = {k: v for k, v in tensors.items() if k != name}
    if how == 'renamed':
        others[data.draw(st.sampled_from([f'module.{name}', f'{name}.x', name.upper(), 'x']))] = t
    elif how == 'prefix':
        prefix = data.draw(st.sampled_from(['module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.']))
        others = {prefix + k: v for k, v in tensors.items()}
    elif how == 'shape':
        others[name] = data.draw(st.sampled_from([t[None], t[:-1], torch.cat((t, t)), t.flatten()[:1]])).clone()
        if others[name].shape == t.shape:
            return
    elif how in ('half', 'int'):
        halves, whole = [torch.float16, torch.bfloat16, torch.float64], [torch.int32, torch.uint8, torch.bool]
        others[name] = t.to(data.draw(st.sampled_from(halves if how == 'half' else whole)))
    elif how in ('nan', 'inf'):
        if not t.is_floating_point():
            return
        others[name] = t.clone()
        others[name].view(-1)[data.draw(st.integers(0, t.numel() - 1))] = float(how)
    save_file(others, folder / 'model.safetensors')
    if how == 'prefix':
        assert answer(saved, 'tensors')
        return
    if how == 'half' and t.is_floating_point():  # of another precision, and the same numbers but for rounding
        found = cls.from_pretrained(folder).state_dict()[name]
        assert found.dtype == t.dtype and torch.equal(found, others[name].to(t.dtype))
        return
    with pytest.raises(UserError) as e:
        cls.from_pretrained(folder)
    tally['tensors refused'] += 1
    assert name in str(e.value) and 'model.safetensors' in str(e.value), (how, str(e.value))
