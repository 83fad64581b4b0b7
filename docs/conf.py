"""The documentation as a site: README, guides, the notebook executed, and a page of the API for each package."""

import inspect
import pathlib
import re
import shutil

import mixnet_tf

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parent
# Sphinx reads this folder alone: what is beside it comes as a copy, whose links lead to where things are in the site.
_COPIES = {
    "README.md": "_readme.md",
    "CONTRIBUTING.md": "_contributing.md",
    "examples/quickstart.ipynb": "_quickstart.ipynb",
}
_NOT_IN_IT = r"\[([^\]]+)\]\((?:examples/web|LICENSE|SECURITY\.md|CHANGELOG\.md)\)"  # what stays as words

project = html_title = "mixnet_tf"
author = "the authors of mixnet_tf"
version = release = mixnet_tf.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_readme.md"]
html_theme = "furo"
myst_heading_anchors = 3
nb_execution_mode = "off"  # its outputs are those that a test compares
autodoc_member_order = "bysource"
autodoc_typehints = "description"  # a signature shows names and defaults alone
autodoc_typehints_description_target = "documented_params"
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of a NamedTuple are described once


def _site_links(text):
    """Links from the root of the project as links from this folder."""
    text = re.sub(_NOT_IN_IT, r"\1", text)
    for source, copy in _COPIES.items():
        text = text.replace(f"]({source}", f"]({'index.md' if source == 'README.md' else copy}")
    return text.replace("](docs/", "](")


def _copy():
    for source, copy in _COPIES.items():
        if source.endswith(".md"):
            (_HERE / copy).write_text(_site_links((_ROOT / source).read_text()))
        else:
            shutil.copy(_ROOT / source, _HERE / copy)


def _in_a_guide(app, name, content):
    del app, name
    content[0] = (
        content[0].replace("](../README.md", "](index.md").replace("](../CONTRIBUTING.md", "](_contributing.md")
    )


def _is_field(app, kind, name, member, skip, options):
    """Leaves out the fields of a NamedTuple, which its docstring describes."""
    del app, kind, name, options
    return True if type(member).__name__ == "_tuplegetter" else skip


def _of_init(app, kind, name, member, options, arguments, result):
    """The arguments of a Keras class, where Sphinx finds those of the class that Keras derives it from."""
    del app, name, options
    if kind == "class" and arguments == "(*args, **kwargs)":
        parameters = list(inspect.signature(member.__init__).parameters.values())[1:]
        shown = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
        return str(inspect.Signature(shown)), result
    return None


def setup(app):
    """What Sphinx calls before it reads."""
    _copy()
    app.connect("autodoc-skip-member", _is_field)
    app.connect("autodoc-process-signature", _of_init)
    app.connect("source-read", _in_a_guide)
