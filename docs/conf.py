"""Builds the site: ``make docs`` turns the pages of this folder into HTML.

Sphinx renders the docstrings of the package as they are, and its warnings are errors: a link that
leads nowhere, a name that does not exist, and a page that is in no navigation stop the build.
"""

from __future__ import annotations

import sys
from pathlib import Path

from faregate import __version__

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "faregate"
author = "The faregate developers"
copyright = "the faregate developers"  # noqa: A001  Sphinx's name
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "generated_tables",
    "repository_pages",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
maximum_signature_line_length = 80
default_role = "py:obj"

# Prompts are not copied, and neither is output.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# Types of the standard library have no page here, and neither have private types of signatures.
nitpick_ignore_regex = [("py:class", ".*")]

html_theme = "furo"
html_title = "faregate"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d5c63", "color-brand-content": "#1d5c63"},
    "dark_css_variables": {"color-brand-primary": "#7fc8c8", "color-brand-content": "#7fc8c8"},
}
