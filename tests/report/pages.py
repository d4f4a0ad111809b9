"""What a page would fetch, and whether it is well-formed."""

import html.parser
import re

FETCHING = {"src", "srcset", "poster", "background", "action", "data"}


class Reader(html.parser.HTMLParser):
    """Everything a page would fetch, and whether its tags close."""

    void = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self):
        super().__init__()
        self.fetched, self.tags, self.open, self.images = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        for name, value in attrs:
            if name in FETCHING or (name == "href" and tag != "a"):
                self.fetched.append(value)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closes something else"


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


def check_self_contained(text):
    reader = read(text)
    assert reader.open == []
    assert all(value.startswith(("data:image/png;base64,", "data:image/gif;base64,")) for value in reader.fetched)
    assert not {"script", "link", "iframe", "object", "embed"} & set(reader.tags)
    assert not re.search(r"@import|@font-face|url\(", text)
    assert all(image["alt"] for image in reader.images)
    return reader
