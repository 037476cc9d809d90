"""Check a built site, offline: every link, anchor and picture inside it is there, no page loads anything from
elsewhere, and links to this repository's own files name files that exist."""

import re
import sys
from pathlib import Path
from urllib.parse import unquote

from pagetext import Reader
from stage import GITHUB, ROOT


def check(site):
    "(mistakes, addresses outside the site)."
    site = Path(site).resolve()
    pages = {p: Reader(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html'))}
    mistakes, outside = [], set()
    for path, page in pages.items():
        where = path.relative_to(site)
        for url in page.loads:
            if re.match(r'(https?:)?//', url):
                mistakes.append(f'{where} loads {url[:120]}')
            elif not url.startswith('data:') and not (path.parent / unquote(re.split('[?#]', url)[0])).is_file():
                mistakes.append(f'{where} loads {url[:120]}, which is not there')
        for url in page.links:
            if (
                url.startswith(GITHUB)
                and not (ROOT / unquote(url.removeprefix(GITHUB).partition('#')[0].strip('/'))).exists()
            ):
                mistakes.append(f'{where} links to {url}, and the repository has no such file')
            if re.match(r'[a-z]+:|//', url):
                outside.add(url)
                continue
            file, _, anchor = url.partition('#')
            target = (path.parent / unquote(file.partition('?')[0])).resolve() if file else path
            if not target.is_file():
                mistakes.append(f'{where} links to {url}, which is not there')
            elif anchor and target in pages and unquote(anchor) not in pages[target].ids:
                mistakes.append(f'{where} links to {url}, which has no such anchor')
    for style in site.rglob('*.css'):
        for url in re.findall(r'(?:url\(|@import)\s*["\']?(https?://[^"\')]+)', style.read_text(encoding='utf-8')):
            mistakes.append(f'{style.name} loads {url}')
    return mistakes, outside, len(pages)


if __name__ == '__main__':
    mistakes, outside, n = check(sys.argv[1])
    print(*mistakes, sep='\n', end='\n' if mistakes else '')
    print(
        f'{n} pages, {len(mistakes)} mistakes; {len(outside)} addresses outside the site are left to `make -C docs'
        ' linkcheck`'
    )
    sys.exit(bool(mistakes))
