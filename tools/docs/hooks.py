"""Hooks of the documentation site, named in mkdocs.yml.

A page may link to a file of the repository that is no page, such as a config. On the site that link
leads to a copy of the file below ``source/``. CHANGELOG.md and CONTRIBUTING.md, which stand in the
root, become pages, and so do notebooks.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook_pages import read_notebook

LINK = re.compile(r'(\]\()([^)\s#:]+)(#[^)\s]*)?(\))')
CODE = re.compile(r'^(```+|~~~+).*?^\1', re.DOTALL | re.MULTILINE)
# Pages that are files of the root.
FROM_ROOT = {'changelog.md': 'CHANGELOG.md', 'contributing.md': 'CONTRIBUTING.md'}


def root_of(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent


def copy_of(path: str) -> str:
    """Where the copy of a file of the repository stands on the site; every browser shows ``.txt``."""
    return f'source/{path}.txt'


def target_of(page: str, link: str) -> str:
    """What a link of a page leads to, as a path from the root of the repository."""
    folder = '' if page in FROM_ROOT else posixpath.join('docs', posixpath.dirname(page))
    return posixpath.normpath(posixpath.join(folder, link))


def text_of(root: Path, page: str) -> str:
    path = root / FROM_ROOT.get(page, f'docs/{page}')
    return path.read_text() if path.is_file() else read_notebook(path.with_suffix('.ipynb'))[0]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, those of the notebooks, and the copies of what pages link to."""
    root = root_of(config)
    for notebook in [file for file in files if file.src_uri.endswith('.ipynb')]:
        text, pictures = read_notebook(Path(notebook.abs_src_path))
        page = notebook.src_uri.replace('.ipynb', '.md')
        files.append(File.generated(config, page, content=text))
        for name, picture in pictures.items():
            uri = posixpath.join(posixpath.dirname(page), name)
            files.append(File.generated(config, uri, content=picture))
    for page in FROM_ROOT:
        files.append(File.generated(config, page, content=text_of(root, page)))
    copies = {}
    for file in files.documentation_pages():
        for link in LINK.finditer(CODE.sub('', text_of(root, file.src_uri))):
            target = target_of(file.src_uri, link[2])
            if not target.startswith('docs/') and (root / target).is_file():
                copies[copy_of(target)] = root / target
    for uri, path in sorted(copies.items()):
        files.append(File.generated(config, uri, content=path.read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside of docs/ to their copies, and those of the root's pages to pages."""
    uri = page.file.src_uri

    def turn(link: re.Match) -> str:
        target = target_of(uri, link[2])
        if not target.startswith('docs/'):
            if not files.get_file_from_path(copy_of(target)):
                return link[0]
            target = copy_of(target)
        else:
            target = target.removeprefix('docs/').replace('.ipynb', '.md')
        relative = os.path.relpath(target, posixpath.dirname(uri) or '.')
        return f'{link[1]}{relative}{link[3] or ""}{link[4]}'

    parts, end = [], 0
    for block in CODE.finditer(markdown):
        parts += [LINK.sub(turn, markdown[end : block.start()]), block[0]]
        end = block.end()
    return ''.join([*parts, LINK.sub(turn, markdown[end:])])
