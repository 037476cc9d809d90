"Write README.md from nbs/index.ipynb: its prose and code, without Quarto and the same bytes every time."
import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def cell_markdown(cell):
    "A cell as markdown: prose as it is, code fenced, directives left out."
    text = re.sub(r'^#\|.*\n?', '', ''.join(cell['source']), flags=re.M).strip()
    if cell['cell_type'] == 'markdown': return text
    return f'```python\n{text}\n```' if text else ''


def readme(notebook=ROOT/'nbs/index.ipynb'):
    "The README's text."
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    shown = [c for c in cells if not re.match(r'#\|\s*(hide|default_exp)', ''.join(c['source']))]
    parts = [p for p in map(cell_markdown, shown) if p]
    text = '\n\n'.join([parts[0], '<!-- Generated from nbs/index.ipynb by docs/readme.py: edit the notebook. -->', *parts[1:]])
    return re.sub(r'\(images/', '(nbs/images/', text) + '\n'


if __name__ == '__main__': (ROOT/'README.md').write_text(readme(), encoding='utf-8')
