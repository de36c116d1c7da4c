"""Build the documentation site in both languages, offline, and check every page of it.

    python tools/site.py build/site

The folder is ready for any static host. No page loads anything from another address.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """Anchors, links and loaded files of one page."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])


def problems(site: Path) -> list[str]:
    """Broken links, and files that a page would load from elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: loads {url}" for url in page.loaded if urlsplit(url).scheme in ("http", "https")]
        for url in [*page.links, *page.loaded]:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{name}: {url} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name}: {url} has no such place")
    return found


def main() -> None:
    """Build English at the root and Japanese in ja/."""
    site = Path(sys.argv[1])
    shutil.rmtree(site, ignore_errors=True)
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-E", "-c", str(ROOT / "docs")]
    for source, out, tags in ((ROOT / "docs", site, []), (ROOT / "docs" / "ja", site / "ja", ["-t", "ja"])):
        doctrees = site.with_name(f"{site.name}-doctrees") / out.name
        if subprocess.run([*sphinx, *tags, "-d", str(doctrees), str(source), str(out)], check=False).returncode:
            sys.exit(f"the pages of {source} have warnings")
    (site / ".nojekyll").touch()
    if found := problems(site):
        sys.exit("\n".join(found))
    print(f"{len(list(site.rglob('*.html')))} pages in {site}; open {site / 'index.html'}")


if __name__ == "__main__":
    main()
