"""The site's configuration. Sources are staged by `stage.py`; everything a page loads lies beside it, so the site works
from `file://`."""

import importlib.util
import json
import re
import sys
from html import escape
from pathlib import Path
from shutil import copy2

from docutils import nodes
from sphinx.addnodes import desc_signature
from sphinx.search.en import SearchEnglish

sys.path.insert(0, str(Path(__file__).parent))
from pagetext import sections
from stage import GITHUB, ROOT, SETTINGS

NOTEBOOKS = json.loads((ROOT / '_docs/source/notebooks.json').read_text(encoding='utf-8'))

project, author = SETTINGS['title'], SETTINGS['author']
project_copyright = SETTINGS['copyright']
release = version = SETTINGS['version']
extensions = ['myst_nb', 'sphinx.ext.mathjax']

nb_execution_mode = 'off'
nb_output_stderr = 'remove'
nb_merge_streams = True
nb_ipywidgets_js = {}
nb_render_markdown_format = 'gfm'
myst_enable_extensions = ['dollarmath', 'amsmath', 'html_image']
myst_dmath_double_inline = True
myst_heading_anchors = 4
myst_links_external_new_tab = False

add_module_names = False
toc_object_entries_show_parents = 'hide'
modindex_common_prefix = [f"{SETTINGS['lib_path']}."]

smartquotes = False  # an option's hyphens and a value's quotes are what they are

html_theme = 'furo'
html_title = project
html_static_path = ['_static']
html_css_files = ['site.css']
html_js_files = ['site.js']
html_search_scorer = '_static/scorer.js'
html_copy_source = False
html_show_sphinx = False
html_theme_options = dict(
    top_of_page_buttons=['view'],
    light_css_variables={
        'color-brand-primary': '#0b5fa5',
        'color-brand-content': '#0b5fa5',
        'color-brand-visited': '#5b4b9a',
    },
    dark_css_variables={
        'color-brand-primary': '#7cb8f0',
        'color-brand-content': '#7cb8f0',
        'color-brand-visited': '#b3a6e8',
    },
    footer_icons=[dict(name='GitHub', url=SETTINGS['git_url'], html='GitHub', **{'class': ''})],
)
pygments_style, pygments_dark_style = 'xcode', 'github-dark'  # of 4.5 to 1 at least against the page

mathjax_path = 'mathjax.js'
mathjax4_config = None
mathjax3_config = dict(options=dict(enableMenu=False), svg=dict(fontCache='global', scale=0.96))
linkcheck_timeout, linkcheck_workers, linkcheck_retries = 20, 4, 2
linkcheck_anchors = False
linkcheck_ignore = [rf"{re.escape(SETTINGS['git_url'])}/.*"]  # the repository itself: its files are checked by check.py


class SearchBoth(SearchEnglish):
    "English words, and pairs of neighbouring Chinese characters: Chinese has no spaces to split at."

    _pieces = re.compile(r'[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+')
    js_splitter_code = '''
var splitQuery = (query) => (query.match(/[\\u3400-\\u9fff]+|[\\p{Letter}\\p{Number}_]+/gu) || []).flatMap((run) =>
  (run.match(/[\\u3400-\\u9fff]+|[^\\u3400-\\u9fff]+/g)).flatMap((w) =>
    /[\\u3400-\\u9fff]/.test(w) && w.length > 2 ? Array.from({length: w.length - 1}, (_, i) => w.slice(i, i + 2))
      : [w]));
'''

    def split(self, text):
        for piece in self._pieces.findall(text):
            if re.match(r'[\u3400-\u9fff]', piece) and len(piece) > 2:
                yield from (piece[i : i + 2] for i in range(len(piece) - 1))
            else:
                yield piece


def short_ids(app, doctree):
    "Names can be linked to as nbdev links to them: `config.html#load_config`."
    taken = {i for node in doctree.findall(nodes.Element) for i in node.get('ids', ())}
    for node in doctree.findall(desc_signature):
        name = node.get('fullname')
        if name and node['ids'] and name not in taken:
            node['ids'].append(name)


def page(app, name, template, context, doctree):
    "What one page needs and others do not."
    if name in NOTEBOOKS:
        context['theme_source_view_link'] = f'{GITHUB}/{NOTEBOOKS[name]}'
    if name.endswith('_zh') or name.startswith('zh/'):
        context['language'] = 'zh-CN'
    if 'class="chart"' in context.get('body', ''):
        app.add_js_file('plotly.min.js', loading_method='defer')
        app.add_js_file('charts.js', loading_method='defer')
    if name == 'search':
        app.add_js_file('searchtext.js')
        app.add_js_file('search.js')


def libraries(app):
    "Bring the scripts that come with Python packages."
    static = Path(app.outdir) / '_static'
    static.mkdir(parents=True, exist_ok=True)

    def found(package):
        return Path(importlib.util.find_spec(package).origin).parent

    for source, name in (
        (found('plotly') / 'package_data/plotly.min.js', 'plotly.min.js'),
        (found('sphinx-mathjax-offline') / 'static/mathjax/tex-svg-full.js', 'mathjax.js'),
    ):
        if not (static / name).exists() or (static / name).stat().st_size != source.stat().st_size:
            copy2(source, static / name)
    (static / 'searchtext.js').touch()


def search_text(app, error):
    "The text of every page as a script: a page opened from `file://` may not fetch another to show what it found."
    if error or app.builder.name != 'html':
        return
    out, texts = Path(app.outdir), {}
    for doc in app.env.found_docs:
        if (file := out / f'{doc}.html').exists():
            texts[doc] = ''.join(
                f'<div id="{escape(i)}">{escape(t)}</div>' for i, t in sections(file.read_text(encoding='utf-8'))
            )
    (new := out / '_static/searchtext.js.new').write_text(
        'const SITE_TEXT = ' + json.dumps(texts, ensure_ascii=False) + ';\n', encoding='utf-8'
    )
    new.replace(out / '_static/searchtext.js')


def leftovers(app, error):
    "Pages whose notebook has gone go too."
    if error or app.builder.name != 'html':
        return
    made = {*app.env.found_docs, 'genindex', 'py-modindex', 'search'}
    for file in Path(app.outdir).rglob('*.html'):
        if '_static' not in file.parts and file.relative_to(app.outdir).with_suffix('').as_posix() not in made:
            file.unlink()


def setup(app):
    app.add_search_language(SearchBoth)
    app.connect('builder-inited', libraries)
    app.connect('doctree-read', short_ids)
    app.connect('html-page-context', page)
    app.connect('build-finished', leftovers)
    app.connect('build-finished', search_text)
