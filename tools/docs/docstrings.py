"""Docstrings of the package as the site shows them: an extension of griffe, named in mkdocs.yml.

Docstrings are written for ``help()``, with the roles of reStructuredText. Here these become links.
"""

import re

import griffe

ROLE = re.compile(r':(?:class|func|meth|mod|attr|data|obj):`(~?)([\w.]+)`')
LITERAL = re.compile(r'``(.+?)``', re.DOTALL)


def as_markdown(text: str, path: str) -> str:
    """A docstring in Markdown.

    Args:
        text: The docstring.
        path: Dotted name of what it belongs to, which short names in it are looked up from.
    """

    def link(role: re.Match) -> str:
        short, name = role.groups()
        label = name.rpartition('.')[2] if short else name
        full = name if name.startswith('spm_mm') else f'{path}.{name}'
        return f'<autoref identifier="{full}" optional><code>{label}</code></autoref>'

    text = re.sub(r'^(\s*)Shape: ', r'\1**Shape:** ', text, flags=re.MULTILINE)
    text = re.sub(r'^(\s*)Example:$', r'\1Examples:', text, flags=re.MULTILINE)
    text = re.sub(r'(?<=\w)::$', ':', text, flags=re.MULTILINE)
    return ROLE.sub(link, LITERAL.sub(r'`\1`', text))


class Docstrings(griffe.Extension):
    """Rewrites the docstring of every object that is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring:
            owner = obj.path if obj.is_class or obj.is_module else obj.parent.path
            obj.docstring.value = as_markdown(obj.docstring.value, owner)
