"What is in a built page: its links, what it loads, its anchors, its text."

from html.parser import HTMLParser

LOADS = dict(
    script='src',
    img='src',
    iframe='src',
    source='src',
    video='src',
    audio='src',
    embed='src',
    object='data',
    input='src',
    track='src',
)
VOID = set('area base br col embed hr img input link meta source track wbr'.split())


class Reader(HTMLParser):
    """Collects `links` and `loads` (addresses), `ids`, and `sections` of the article: [id, text] from one heading's
    section to the next."""

    def __init__(self, html):
        super().__init__()
        self.links, self.loads, self.ids, self.sections = [], [], set(), []
        self.article, self.silent = 0, 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        a = {k: v or '' for k, v in attrs}
        if 'id' in a:
            self.ids.add(a['id'])
        if tag == 'a' and 'name' in a:
            self.ids.add(a['name'])
        if tag in ('a', 'area') and 'href' in a:
            self.links.append(a['href'])
        if tag == 'link' and not {'canonical', 'next', 'prev', 'index', 'search', 'author', 'copyright'} & set(
            a.get('rel', '').split()
        ):
            self.loads.append(a.get('href', ''))
        elif tag == 'link' and 'canonical' not in a.get('rel', ''):
            self.links.append(a.get('href', ''))
        if a.get(LOADS.get(tag)):
            self.loads.append(a[LOADS[tag]])
        self.loads += [s.split()[0] for s in a.get('srcset', '').split(',') if s.strip()]
        if tag == 'article':
            self.article += 1
            self.sections.append(['', ''])
        if self.article and (tag == 'section' or tag == 'dt') and 'id' in a:
            self.sections.append([a['id'], ''])
        if tag in ('script', 'style') or tag == 'a' and 'headerlink' in a.get('class', ''):
            self.silent += 1
            self._quiet = tag

    def handle_endtag(self, tag):
        if tag == 'article':
            self.article -= 1
        if self.silent and tag == self._quiet:
            self.silent -= 1

    def handle_data(self, data):
        if self.article and not self.silent:
            self.sections[-1][1] += data


def sections(html):
    "[(id, text)] of a page's article."
    return [(i, ' '.join(t.split())) for i, t in Reader(html).sections if t.strip()]
