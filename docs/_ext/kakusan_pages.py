"""Sphinx extension: equations with their code and tests, examples, source pages, help texts, Japanese search, languages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path, PurePosixPath

from docutils import nodes
from docutils.parsers.rst import Directive
from examples import fill
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.search import SearchLanguage
from sphinx.util import logging

from harness.equations import ANCHOR, ROOT, Place, place_of, proofs_of

SHOWN_TESTS = 2
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()((?:\.\./|\./)*[\w][\w./-]*|(?:\.\./)+[\w./-]*)(#[\w.-]+)?(?=\))")
WORDS = {"en": ("code", "tests", "and {} more"), "ja": ("コード", "テスト", "ほか{}件")}
logger = logging.getLogger(__name__)


# Equations


class EquationDirective(Directive):
    """A formula, links to its statements, to the code that computes it and to the tests that hold it."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"code": str}  # noqa: RUF012
    has_content = True

    def run(self):
        """Nodes of the equation; a warning, which fails the build, if code or tests are gone."""
        env = self.state.document.settings.env
        language = env.config.language
        statements = tuple(self.arguments[0].split())
        try:
            code, tests = [place_of(name) for name in self.options["code"].split()], proofs_of(statements)
        except ValueError as error:
            logger.warning("equation: %s", error, location=(env.docname, self.lineno))
            code, tests = [], []
        text = "\n".join(self.content)
        formula = nodes.math_block(text, text)
        formula["nowrap"], formula["number"], formula["label"], formula["docname"] = False, None, None, env.docname
        code_word, test_word, more = WORDS[language]
        line = nodes.paragraph(classes=["equation-links"])
        for statement in statements:
            line += _site_link(f"{_up(language)}theory.html#{statement}", statement)
            line += nodes.Text(" ")
        line += nodes.Text(f"· {code_word}: ")
        for place in code:
            line += [_source_link(place, place.name.removeprefix("kakusan.")), nodes.Text(" ")]
        line += nodes.Text(f"· {test_word}: ")
        for place in tests[:SHOWN_TESTS]:
            line += [_source_link(place, place.name), nodes.Text("; " if place != tests[:SHOWN_TESTS][-1] else " ")]
        if len(tests) > SHOWN_TESTS:
            line += _site_link(f"{_up(language)}evidence.html", more.format(len(tests) - SHOWN_TESTS))
        return [nodes.container("", formula, line, classes=["equation"])]


def _up(language: str) -> str:
    return "../" if language == "ja" else ""


def _site_link(target: str, text: str) -> nodes.reference:
    return nodes.reference(text, text, refuri=f"site:{target}", internal=True)


def _source_link(place: Place, text: str) -> nodes.reference:
    return _site_link(f"_source/{place.file}.html#L-{place.line}", text)


def inline_math(translator, node):
    """Formula in a line; docs/_static/math.js renders it."""
    translator.body.append(f'<span class="math">{escape(node.astext())}</span>')
    raise nodes.SkipNode


def display_math(translator, node):
    """Formula of its own lines."""
    translator.body.append(f'<div class="math">{escape(node.astext())}</div>\n')
    raise nodes.SkipNode


# Links between pages, languages and files of the repository


def rewrite_links(app, docname, content):
    """Point links that leave this language's pages to the site's copy of their file."""
    here = Path(app.srcdir) / PurePosixPath(docname).parent

    def rewritten(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        target = (here / path).resolve()
        inside = target.is_relative_to(app.srcdir) and not (
            app.config.language == "en" and target.is_relative_to(DOCS / "ja")
        )
        statement = (
            ANCHOR.fullmatch(f'<a id="{anchor[1:]}"></a>') is not None
        )  # raw HTML, of which Sphinx knows nothing
        if not target.exists() or (inside and target.suffix in (".md", ".png", ".svg") and not statement):
            return match[0]
        if target.suffix == ".md" and target.is_relative_to(DOCS):
            page = target.relative_to(DOCS).with_suffix(".html")
            return f"site:{_up(app.config.language)}{page}{anchor}"
        if target.is_dir():
            return f"site:_source/{target.relative_to(ROOT)}/index.html"
        return f"site:_source/{target.relative_to(ROOT)}.html{anchor}"

    content[0] = LINK.sub(rewritten, fill(ROOT / "examples", content[0]))
    if docname == "index":
        pages = sorted(path.stem for path in Path(app.srcdir).glob("*.md"))
        others = [
            page
            for page in pages
            if page != "index" and not re.search(rf"^(?:.*<)?{page}>?$", content[0], re.MULTILINE)
        ]
        content[0] = content[0].replace("OTHER-PAGES", "\n".join(others))


def resolve_site_links(app, doctree, docname):
    """Turn site: addresses into relative ones, and remember the files to show."""
    root = "../" * docname.count("/")
    for node in doctree.findall(nodes.reference):
        target = node.get("refuri", "")
        if target.startswith("site:"):
            target = target.removeprefix("site:")
            if target.startswith("_source/"):
                app.env.kakusan_sources.add(target.removeprefix("_source/").split(".html")[0].removesuffix("/index"))
            node["refuri"] = root + target
            node["internal"] = True


def write_sources(app, error):
    """Write one highlighted page for each file of the repository that a page links to."""
    if error or app.builder.name != "html":
        return
    formatter = HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True, style="friendly")
    for name in sorted(app.env.kakusan_sources):
        path, out = ROOT / name, Path(app.outdir) / "_source" / name
        if path.is_dir():
            inside = sorted(child.name for child in path.iterdir() if not child.name.startswith((".", "__")))
            body, out = "<ul>" + "".join(f"<li>{escape(child)}</li>" for child in inside) + "</ul>", out / "index.html"
        else:
            try:
                body = highlight(path.read_text(encoding="utf-8"), get_lexer_for_filename(path.name), formatter)
            except (ClassNotFound, UnicodeDecodeError):
                body = f"<pre>{escape(path.read_text(encoding='utf-8', errors='replace'))}</pre>"
            out = out.with_name(f"{out.name}.html")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(
            SOURCE_PAGE.format(name=escape(name), style=formatter.get_style_defs(), body=body), encoding="utf-8"
        )


SOURCE_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title><link rel="icon" href="data:,">
<style>body {{ margin: 1rem; font: 14px/1.45 ui-monospace, monospace; background: #fff; color: #1d2228; }} pre {{ overflow-x: auto; }}
a {{ color: #767676; text-decoration: none; }} :target {{ background: #fff3bf; }} {style}</style></head>
<body><main><h1>{name}</h1>{body}</main></body></html>
"""


def add_languages(app, pagename, templatename, context, doctree):
    """Link the other language: the same page if it exists there, otherwise its start."""
    japanese = app.config.language == "ja"
    other = DOCS if japanese else DOCS / "ja"
    page = pagename if (other / f"{pagename}.md").exists() else "index"
    up = "../" * (pagename.count("/") + japanese)
    target = f"{up}{page}.html" if japanese else f"{up}ja/{page}.html"
    english, nihongo = ("English", target if japanese else ""), ("日本語", "" if japanese else target)
    context["languages"] = [english, nihongo]


# Help texts


class HelpDirective(Directive):
    """The output of `kakusan COMMAND --help` of every command."""

    def run(self):
        """One section for each command."""
        from kakusan.cli.arguments import COMMANDS

        found = []
        for words in [[], *([command] for command in COMMANDS), ["train", "mnist-ddpm"]]:
            title = " ".join(["kakusan", *words])
            section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
            text = _help(words)
            section += [nodes.title(title, title), nodes.literal_block(text, text, language="text")]
            found.append(section)
        return found


def _help(words: list[str]) -> str:
    program = "import sys; from kakusan.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    command = [sys.executable, "-c", program, *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.rstrip()


# Docstrings are plain text with formulas


def escape_docstring(app, kind, name, found, options, lines):
    """Escape what reStructuredText would read as markup, and show `code` as code."""
    example = False
    for number, line in enumerate(lines):
        example = line.lstrip().startswith((">>>", "...")) or (example and line.strip() != "")
        if not example:
            parts = re.split(r"(`[^`]+`)", line)
            lines[number] = "".join(
                f"``{part[1:-1]}``" if part.startswith("`") else re.sub(r"([\\*|]|_(?!\w))", r"\\\1", part)
                for part in parts
            )


# Search


class JapaneseSearch(SearchLanguage):
    """Index of pairs of characters: 潜在変数 is 潜在, 在変 and 変数, in the pages as in the query."""

    lang = "ja"
    language_name = "Japanese"
    run = r"[\u3005-\u30ff\u4e00-\u9fff]+"
    js_splitter_code = r"""
var splitQuery = (query) => (query.match(/[\u3005-\u30ff\u4e00-\u9fff]+|[^\W]+/gu) || []).flatMap((word) =>
  /[\u3005-\u9fff]/.test(word) && word.length > 2
    ? Array.from({ length: word.length - 1 }, (_, i) => word.slice(i, i + 2))
    : [word]);
"""

    def split(self, text: str) -> list[str]:
        """Words of Latin letters, and pairs of neighboring Japanese characters."""
        words = []
        for word in re.findall(rf"{self.run}|[A-Za-z0-9_]+", text):
            pairs = [word[i : i + 2] for i in range(len(word) - 1)] if re.match(self.run, word) else []
            words += pairs or [word]
        return words

    def word_filter(self, stemmed_word: str) -> bool:
        """Keep everything."""
        return len(stemmed_word) > 0


def prepare(app):
    """Empty list of the files to show."""
    app.env.kakusan_sources = set()


def setup(app):
    """Connect everything."""
    app.add_directive("equation", EquationDirective)
    app.add_directive("kakusan-help", HelpDirective)
    app.add_html_math_renderer("katex", (inline_math, None), (display_math, None))
    app.add_lexer("registry", TextLexer)
    app.add_search_language(JapaneseSearch)
    app.connect("builder-inited", prepare)
    app.connect("source-read", rewrite_links)
    app.connect("doctree-resolved", resolve_site_links)
    app.connect("html-page-context", add_languages)
    app.connect("autodoc-process-docstring", escape_docstring, priority=100)
    app.connect("build-finished", write_sources)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
