"""The README, in both languages: generated, in step with each other and with what was measured, and true in what can be
looked up."""

import configparser
import re
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / 'docs'))
from readme import PAGES, measured, readme, with_figures

from kronos_nb.config import FinetuneConfig

TEXTS = {page: (ROOT / page).read_text(encoding='utf-8') for page in PAGES.values()}
EACH = pytest.mark.parametrize('page', TEXTS)
LINK = re.compile(r'\]\(([^)\s]+)\)')


def outline(text):
    """What must be the same in every language, section by section: its level, code, tables' shapes and figures, links
    and inline code."""
    found = []
    text = re.sub(r'\[[^\]]*\]\(README[.\w]*\)', '', text)
    for section in re.split(r'^(?=#+ )', re.sub(r'<!--.*?-->', '', text), flags=re.M)[1:]:
        code = re.findall(r'^```.*?^```', section, flags=re.M | re.S)
        prose = re.sub(r'^```.*?^```', '', section, flags=re.M | re.S)
        rows = [line.strip('| ').split(' | ') for line in prose.splitlines() if line.startswith('|')]
        numbers = [sorted(re.findall(r'\d[\d.,]*\d|\d', re.sub(r'`[^`]*`|\([^)]*\)', '', ' '.join(r)))) for r in rows]
        found.append(
            dict(
                level=section.index(' '),
                code=code,
                rows=[len(r) for r in rows],
                numbers=numbers,
                paragraphs=len(re.findall(r'\n\n+(?!\|)\S', prose)),
                links=sorted(LINK.findall(prose)),
                names=sorted(re.findall(r'`[^`]+`', prose)),
            )
        )
    return found


@pytest.mark.parametrize('notebook', PAGES)
def test_it_is_generated(notebook):
    assert TEXTS[PAGES[notebook]] == readme(
        notebook
    ), f'run python docs/readme.py: {PAGES[notebook]} is not what {notebook} says'


def test_the_languages_are_in_step():
    english, chinese = (outline(t) for t in TEXTS.values())
    assert len(english) == len(chinese) > 5
    for one, other in zip(english, chinese):
        assert one == other
    assert '](README.zh.md)' in TEXTS['README.md'][:200] and '](README.md)' in TEXTS['README.zh.md'][:200]


def test_a_difference_between_the_languages_is_found():
    text = TEXTS['README.md']
    for old, new in (
        ('\n## ', '\n### '),
        ('--seed 0', '--seed 1'),
        ('| 2019/11/26 9:40 |', '| 2019/11/26 9:45 |'),
        ('/2508.02739)', '/2508.02740)'),
        ('`--dry-run`', '`--dry`'),
        ('images/forecast.png', 'images/other.png'),
        ('\n| `kronos_get_sample', '\n\n`kronos_get_sample'),
    ):
        assert old in text and outline(text.replace(old, new, 1)) != outline(text), old
    assert outline(text.replace('Nothing here is investment advice.', '')) == outline(
        text
    )  # words are for a reader to compare


@EACH
def test_the_figures_are_those_measured(page):
    assert with_figures(TEXTS[page]) == TEXTS[page], 'run python docs/readme.py: nbs/benchmarks has other figures'
    assert [list(r) for r in measured()] == [
        line.strip('| ').split(' | ')[1:]
        for line in re.search(r'\| × \|\n\|[-|]+\n((?:\|.*\n)+)', TEXTS[page])[1].splitlines()
    ]
    for row in measured():
        shown = f'| {" | ".join(row)} |\n'
        wrong = TEXTS[page].replace(shown, shown.replace(row[0], '1 s'))
        assert wrong != TEXTS[page] and with_figures(wrong) == TEXTS[page]


@EACH
def test_what_it_names_exists(page):
    text = TEXTS[page]
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT / 'settings.ini', encoding='utf-8')
    settings = settings['DEFAULT']
    missing = [
        url
        for url in LINK.findall(text)
        if not re.match(r'[a-z]+:|#', url) and not (ROOT / url.partition('#')[0]).exists()
    ]
    missing += [c for c in re.findall(r'(?<![\w/.])configs/(?!my)[\w.-]+', text) if not (ROOT / c).exists()]
    missing += sorted(
        {c for c in re.findall(r'\bkronos_(?!nb\b)\w+', text) if f'{c}=kronos_nb.' not in settings['console_scripts']}
    )
    missing += [m for m in re.findall(r'python -m kronos_nb\.(\w+)', text) if not (ROOT / f'kronos_nb/{m}.py').exists()]
    missing += [e for e in re.findall(r"pip install -e '\.\[(\w+)\]'", text) if f'{e}_requirements' not in settings]
    sections = FinetuneConfig.model_fields
    missing += [
        f'{s}.{k}'
        for s, k in re.findall(r'`(\w+)\.(\w+)`', text)
        if s in sections and k not in sections[s].annotation.model_fields and k != 'log'
    ]  # training.log is a file
    assert not missing


@pytest.mark.parametrize('page', ['CONTRIBUTING.md', 'CHANGELOG.md', 'LOG.md', *TEXTS])
def test_files_and_names_exist(page):
    "Links lead to files of the repository, and a full name in code is a module or stands in one."
    text = (ROOT / page).read_text(encoding='utf-8')
    missing = [u for u in LINK.findall(text) if not re.match(r'[a-z]+:|#', u) and not (ROOT / u.split('#')[0]).exists()]
    for full in set(re.findall(r'`(kronos_nb(?:\.\w+)+)`', text)) if page == 'CONTRIBUTING.md' else ():
        module, _, name = full.replace('.', '/').rpartition('/')
        source = ROOT / f'{module}.py'
        found = source.exists() and re.search(rf'^(def |class |){name}\b', source.read_text(encoding='utf-8'), re.M)
        if not found and not (ROOT / f'{module}/{name}.py').exists():
            missing.append(full)
    assert not missing
