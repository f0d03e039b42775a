"""The documentation site: `make docs`, and rosdoc2 by the same settings (rosdoc2.yaml).

The pages are those that read well on a code host, plus what scripts/docs_pages.py makes when the site is built. Nothing
is fetched, neither by the build nor by the pages.
"""

import importlib.util
import sys
from pathlib import Path

# rosdoc2 builds in a copy of this folder, and puts the repository on sys.path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
ROOT = Path(importlib.util.find_spec("pose2rgbd_ros").origin).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import docs_pages  # noqa: E402

project = "pose2rgbd"
author = "pose2rgbd maintainers"
project_copyright = f"{author}, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
templates_path = ["_templates"]
exclude_patterns = ["_templates", "files"]

smartquotes = False  # flags begin with two hyphens
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = [
    "myst.header",  # pages of figures begin their parts at any level
    "misc.highlighting_failure",
]

nitpicky = True
# Types of other libraries have no pages here, nor have ours that are only named in a signature.
nitpick_ignore_regex = [(r"py:(class|data|obj|exc)", r".*")]
add_module_names = False
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
autodoc_mock_imports = [  # what a build farm does not have
    name
    for name in ("torch", "safetensors", "tyro", "rosbags", "onnxruntime", "onnx", "numba", "av", "pycolmap", "isal")
    if importlib.util.find_spec(name) is None
]
napoleon_use_ivar = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "pose2rgbd"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6b8f", "color-brand-content": "#0b6b8f"},
    "dark_css_variables": {"color-brand-primary": "#5cc0e6", "color-brand-content": "#5cc0e6"},
}
linkcheck_timeout = 20

rosdoc2_settings = {"override_theme": False}


def make_pages(app):
    """Before the pages are looked for."""
    docs_pages.write_pages(ROOT, Path(app.srcdir))


def turn_links(app, docname, source):
    """Links into the repository lead to the page of the site, or to a copy of the file."""
    path = Path(app.srcdir, f"{docname}.md")
    page = f"docs/{docname}.md"
    if docname == "index":  # the README is the front page
        readme, files = docs_pages.site_links((ROOT / "README.md").read_text(), "README.md", ROOT, "index.md")
        named = source[0].split()
        others = sorted(page.stem for page in Path(app.srcdir).glob("*.md") if page.stem not in ("index", *named))
        source[0] = source[0].replace("<!-- README -->", readme).replace("<!-- others -->", "\n".join(others))
    elif (ROOT / page).is_file() and path.suffix == ".md":
        source[0], files = docs_pages.site_links(source[0], page, ROOT)
    else:
        return
    if path.stem == "README":
        source[0] += docs_pages.below(path.parent)
    for name in files:
        docs_pages.copy(ROOT / name, Path(app.srcdir, "files", name))


def setup(app):
    """Hooks."""
    app.connect("builder-inited", make_pages)
    app.connect("source-read", turn_links)
