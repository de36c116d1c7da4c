"""Sphinx configuration of both languages: `-t ja` builds docs/ja, otherwise docs is built without it."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent / "src"), str(DOCS.parent / "tests")]
os.environ["COLUMNS"] = "100"  # width of the help texts

import kakusan  # noqa: E402

JAPANESE = tags.has("ja")  # noqa: F821

project = "kakusan"
release = kakusan.__version__
copyright = "The kakusan developers"
html_title = "kakusan 拡散モデル PyTorch" if JAPANESE else "kakusan 拡散: diffusion models in PyTorch"
language = "ja" if JAPANESE else "en"
root_doc = "index"
exclude_patterns = ["_build", "_ext", "_static", "_templates", "benchmarks"] + ([] if JAPANESE else ["ja"])
suppress_warnings = ["myst.header"]  # history in log.md skips levels

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "kakusan_pages"]
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
myst_url_schemes = ["http", "https", "mailto", "site"]  # site: is a page or a file of this site, from its root
myst_fence_as_directive = ["equation"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of signatures; the pages check names of this library themselves

html_math_renderer = "katex"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = ["katex/katex.min.js", "math.js", "keyboard.js"]
templates_path = ["_templates"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_use_index = not JAPANESE
html_last_updated_fmt = None
html_theme_options = {"navigation_with_keys": False, "top_of_page_buttons": []}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
