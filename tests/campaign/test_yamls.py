"""Configurations damaged at random: a sentence, or a configuration that is saved and read back as it was.
KRONOS_CAMPAIGN sets the number of examples (500 in the ordinary tests)."""

from collections import Counter

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from sized import sized

from kronos_nb.config import FinetuneConfig, describe_config, load_config, save_config
from kronos_nb.errors import UserError

KEYS = [key for key, _, _ in describe_config()]
VALUES = r"""
2024-02-30¦2024-01-01¦2024-01-01T25:61:00Z¦0x_¦0b¦0o9¦1_0¦1:60¦-.inf¦.nan¦1e400¦-0¦~¦yes¦no¦''¦""¦[]¦{}¦[[]]¦[1, 2]
{a: 1}¦*x¦&x 1¦!!binary aGk=¦!!binary !¦!!set {a}¦!!omap [a: 1]¦!!python/object:os.system x¦!!int x¦!!float x¦!!bool x
!!timestamp x¦!!null x¦!!str 1¦"\0"¦"\ud800"¦"\x1b[31m"¦../../x¦/tmp/x¦C:\x¦~nobody/x¦'  '¦a/b¦.¦..¦#¦%¦@¦`¦>¦|¦? a
Asia/Nowhere¦../../etc/passwd¦{exp_name}¦'{exp_name}'¦{0}¦%s¦<b>¦<<: {}¦{<<: {a: 1}, a: 2}¦{1: 2}¦{null: 1}¦{[a]: b}
"""
VALUES = VALUES.strip().replace('\n', '¦').split('¦')
VALUES += ['9' * 5000, '-' + '9' * 30, '0x' + 'f' * 5000, ':'.join(['59'] * 3000), '1.' + '1' * 5000, 'x' * 5000]
VALUES += ['[' * 40 + ']' * 40, '[' * 3000, '{a: ' * 500, '- ' * 500 + 'a', '"' + 'a' * 9, 'é' * 300]
VALUES += ['[&a x' + ', *a' * 400 + ']']
BOMB = 'a0: &a0 [x, x]\n' + ''.join(f'a{i+1}: &a{i+1} [{", ".join([f"*a{i}"] * 9)}]\n' for i in range(12))
GOOD = dict(
    data=dict(data_path='klines', lookback_window=40, predict_window=8, max_context=48, columns=dict(close='last')),
    training=dict(epochs=2, batch_size=8, seed=1, freeze_predictor=['embedding.*']),
    model_paths=dict(exp_name='ali', base_path='out'),
    experiment=dict(pre_trained=False),
    architecture=dict(tokenizer='base', predictor=dict(d_model=64, n_heads=2)),
)
tally = Counter()
quiet = sized(500, share=2, deadline=10_000)  # of each of the two tests
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates())
nested = st.recursive(plain, lambda v: st.lists(v, max_size=3) | st.dictionaries(plain, v, max_size=3), max_leaves=6)


def answer(path, overrides=None):
    "Read a configuration: a sentence of one kind of error, or what survives being written."
    tally['tried'] += 1
    try:
        config = load_config(path, overrides)
    except UserError as e:
        tally['refused'] += 1
        assert 0 < len(str(e)) < 5000 and 'Traceback' not in str(e)
        return None
    assert isinstance(config, FinetuneConfig)
    assert config.model_paths.tokenizer_best != config.model_paths.basemodel_best
    save_config(config, path.parent / 'saved.yaml')
    assert load_config(path.parent / 'saved.yaml') == config
    tally['valid'] += 1
    return config


DAMAGE = 'value value key twice section-twice indent tab cut byte insert bomb encoding'.split()


def damage(text, how, at, value, byte):
    "The bytes of a YAML, one thing in it changed."
    lines = text.split('\n')
    i = at % len(lines)
    if how == 'value':
        lines[i] = lines[i].partition(':')[0] + ': ' + value
    elif how == 'key':
        lines.insert(i, f'  {KEYS[at % len(KEYS)].rpartition(".")[2]}: {value}')
    elif how == 'twice':
        lines.insert(i, lines[i])
    elif how == 'section-twice':
        lines += ['data:', '  data_path: other', f'  {value}']
    elif how == 'indent':
        lines[i] = ' ' * (at % 5) + lines[i]
    elif how == 'tab':
        lines[i] = '\t' + lines[i].lstrip()
    elif how == 'bomb':
        lines = [BOMB, *lines]
    content = '\n'.join(lines).encode('utf-8', 'surrogatepass')
    place = at % (len(content) + 1)
    if how == 'cut':
        return content[:place]
    if how in ('byte', 'insert'):
        return content[:place] + bytes([byte]) + content[place + (how == 'byte') :]
    if how == 'encoding':
        known = ['utf-16', 'utf-32', 'utf-8-sig', 'utf-7', 'cp500', 'utf-16-le']
        return content.decode('utf-8', 'replace').encode(known[at % 6], 'replace')
    return content


@quiet
@given(
    how=st.lists(st.sampled_from(DAMAGE), min_size=1, max_size=3),
    at=st.integers(0, 10**6),
    value=st.sampled_from(VALUES) | st.text(max_size=30),
    byte=st.integers(0, 255),
)
@example(how=['value'], at=1, value='!!timestamp x', byte=0)
def test_damaged_files(tmp_path, how, at, value, byte):
    content = yaml.safe_dump(GOOD, sort_keys=False)
    for step, kind in enumerate(how):
        text = content if isinstance(content, str) else content.decode('utf-8', 'replace')
        content = damage(text, kind, at // (step + 1), value, byte)
    path = tmp_path / 'my.yaml'
    path.write_bytes(content)
    answer(path)


@quiet
@given(
    values=st.dictionaries(st.sampled_from(KEYS), nested, max_size=4),
    more=st.dictionaries(st.text(max_size=8), nested, max_size=1),
    override=st.none() | st.sampled_from(VALUES) | st.text(max_size=20),
    key=st.sampled_from(KEYS) | st.text(max_size=12),
)
def test_values_of_every_kind(tmp_path, values, more, override, key):
    "Whatever stands under a key, in a file, in a dictionary, in a flag."
    sections = {name: dict(section) for name, section in GOOD.items()} | more
    for name, value in values.items():
        section, _, last = name.partition('.')
        at = sections.setdefault(section, {})
        if isinstance(at, dict):
            at[last] = value
    overrides = None if override is None else [f'{key}={override}']
    path = tmp_path / 'my.yaml'
    try:
        path.write_text(yaml.safe_dump(sections, allow_unicode=True), encoding='utf-8')
    except (UnicodeEncodeError, TypeError, yaml.YAMLError):  # what PyYAML cannot write, nobody has on disk
        return
    answer(path, overrides)
    tally['dictionaries'] += 1
    try:
        load_config(sections, overrides)
    except UserError as e:
        assert len(str(e)) < 5000


@pytest.mark.parametrize('content', ['', '# none', '---', '- a', '3', '"data"', 'data: 3', '--- a\n--- b', '\0', '\t'])
def test_other_files(tmp_path, content):
    path = tmp_path / 'my.yaml'
    path.write_text(content)
    with pytest.raises(UserError, match='my.yaml'):
        load_config(path)


@pytest.fixture(scope='module', autouse=True)
def report():
    "Print the tally at the end."
    yield
    print('\nconfigurations:', ', '.join(f'{n} {k}' for k, n in tally.items()))
