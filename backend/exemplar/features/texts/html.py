"""Markup → the text that its reader sees. Nothing is fetched, run or expanded; no tree is built."""

from lxml import etree

from exemplar.features.texts.beginning import MAX_CHARACTERS

# More markup than this before the text has begun, or elements within elements, is no page that anybody annotates.
MAX_MARKUP = 1_000_000
MAX_DEPTH = 500
# An end tag is looked for among all elements that are open, so their number is looked at in between.
CHUNK = 8_192
UNSEEN = frozenset({"script", "style", "template", "noscript", "head", "svg", "math", "iframe", "object", "select"})
INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "cite", "code", "em", "font", "i", "kbd", "mark", "q", "s", "small", "span"}
    | {"strong", "sub", "sup", "u", "var", "wbr"}
)


def text_of_html(markup: str) -> str:
    """Return the beginning of the text that markup shows, in one line; images by what is said in their stead.

    >>> text_of_html("<p>Two <b>wo</b>rds</p><script>no()</script><p>More &amp; more")
    'Two words More & more'
    """
    if not markup or markup.isspace():  # which the parser does not take
        return ""
    seen = _Seen()
    parser = etree.HTMLParser(target=seen, no_network=True, remove_comments=True, remove_pis=True)
    markup = markup[:MAX_MARKUP].encode("utf-8", "backslashreplace").decode()
    for start in range(0, len(markup), CHUNK):
        parser.feed(markup[start : start + CHUNK])
        if seen.n_characters > MAX_CHARACTERS or seen.depth > MAX_DEPTH:
            break
    parser.close()
    return " ".join("".join(seen.parts).split())[:MAX_CHARACTERS]


class _Seen:
    """What a reader sees of a document, gathered while it is read; a parser's target as lxml knows it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.n_characters = 0
        self.depth = 0
        self._hidden: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if tag in UNSEEN:
            self._hidden.append(tag)
        elif tag not in INLINE:
            self.data(" " + attributes.get("alt", "") + " ")

    def end(self, tag: str) -> None:
        self.depth -= 1
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        elif tag not in INLINE:
            self.data(" ")

    def data(self, text: str) -> None:
        if not self._hidden:
            self.parts.append(text)
            self.n_characters += len(text.strip())

    def close(self) -> None:
        """Say that nothing is made of it: lxml asks."""
