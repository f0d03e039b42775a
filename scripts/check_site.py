"""Whether a built site stands alone: nothing in its pages is fetched from elsewhere, and every link inside leads to a
page and a place in it.

    python scripts/check_site.py build/docs/html
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

FETCHED = {"img": "src", "script": "src", "source": "src", "iframe": "src", "video": "src", "link": "href"}
NO_FILE = ("canonical", "alternate", "author")  # <link rel=...> that only names something


class Page(HTMLParser):
    """What a page fetches, where it leads, and which places it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One element."""
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag in FETCHED and given.get("rel") not in NO_FILE and given.get(FETCHED[tag]):
            self.fetched.append(given[FETCHED[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


def is_elsewhere(address: str) -> bool:
    """Whether an address leads out of the site."""
    return re.match(r"(\w+:)?//", address) is not None


def problems(site: Path) -> list[str]:
    """What is wrong, a line each."""
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site} holds no page"]
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name} fetches {address}" for address in page.fetched if is_elsewhere(address)]
        for link in [*page.fetched, *page.links]:
            address, place = urldefrag(link)
            if is_elsewhere(link) or re.match(r"(mailto|data|javascript):", link):
                continue
            target = (path.parent / unquote(address.partition("?")[0])).resolve() if address else path
            if not target.exists():
                found.append(f"{name} leads to {link}, which does not exist")
            elif place and target in pages and unquote(place) not in pages[target].places:
                found.append(f"{name} leads to {link}, which has no such place")
    for style in sorted(site.rglob("*.css")):
        fetched = re.findall(r"(?:@import\s+|url\()[\"']?((?:https?:)?//[^\"')]+)", style.read_text(errors="replace"))
        found += [f"{style.relative_to(site)} fetches {address}" for address in fetched]
    return found


def main() -> int:
    """Exit status 1 when something is wrong."""
    found = problems(Path(sys.argv[1]).resolve())
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
