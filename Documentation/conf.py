# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Sphinx: the documents by MyST, and the reference of the docstrings of the built modules."""
from pathlib import Path

# Imported here, or autodoc would take the stubs beside them for the modules.
import pyverbs.providers.mlx5.mlx5dv_devx_umem
import pyverbs.providers.mlx5.mlx5dv_dm_caps  # noqa: F401

project = 'mlx5 device memory and DEVX user memory for pyverbs'
release = version = (Path(__file__).parents[1] / 'buildlib/version.txt').read_text().strip()
extensions = ['myst_parser', 'sphinx.ext.autodoc']
# Anchors of headings, as GitHub makes them.
myst_heading_anchors = 3
html_theme = 'alabaster'
html_theme_options = {'page_width': 'auto', 'body_max_width': '60em'}
html_copy_source = False
autodoc_default_options = {'members': True, 'show-inheritance': True}
# A constructor's arguments and errors are told by __init__.
autoclass_content = 'both'
autodoc_member_order = 'bysource'
# What the documents point to that is no document: programs, and pages of the tree's top.
suppress_warnings = ['myst.xref_missing']


def blank_line_before_fields(app, what, name, obj, options, lines):
    """pyverbs' docstrings have none between the text and :param; docutils wants one."""
    for k in range(len(lines) - 1, 0, -1):
        before = lines[k - 1]
        if lines[k].startswith(':') and before and not before.startswith((':', ' ')):
            lines.insert(k, '')


def setup(app):
    """Called by Sphinx."""
    app.connect('autodoc-process-docstring', blank_line_before_fields)
