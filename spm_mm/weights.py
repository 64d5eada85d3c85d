"""Published weights by name: download, check, convert, keep.

``configs/weights.yaml`` lists them. A config names one as ``checkpoint='spm_mm://NAME'``.
"""

import contextlib
import difflib
import errno
import hashlib
import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import yaml
from filelock import FileLock
from mmengine.runner.checkpoint import CheckpointLoader
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from spm_mm.checkpoint_files import describe
from spm_mm.errors import UserError

__all__ = [
    'Published',
    'cache_dir',
    'download',
    'fetch',
    'is_published',
    'load_index',
    'resolve',
    'unknown_name',
]

SCHEME = 'spm_mm://'
WEB = ('http', 'https')
ATTEMPTS = 3
TIMEOUT = 30
"""Seconds without an answer."""
PIECE = 1 << 20


@dataclass(frozen=True)
class Published:
    """A row of the index."""

    name: str
    model: str
    task: str
    source: str
    """Where the row comes from."""
    licence: str
    url: str | None = None
    """As its authors publish it; None where it is not known here."""
    page: str | None = None
    """Where to look for it."""
    file: str | None = None
    sha256: str | None = None
    """The hash or, as its authors give it, the first digits of it."""
    size: int | None = None
    """In bytes."""
    config: str | None = None
    """Our config that loads it."""
    figures: dict[str, float] = field(default_factory=dict)
    """As printed by the source."""
    checked: bool = False
    """Whether somebody has downloaded it from this address for this index."""


def index_path() -> Path:
    """``configs/weights.yaml`` of the checkout, or the one that was installed with the package."""
    here = Path(__file__).parent
    paths = (here.parent / 'configs' / 'weights.yaml', here / '.mim' / 'configs' / 'weights.yaml')
    return next((path for path in paths if path.is_file()), paths[0])


def load_index(path: str | Path | None = None) -> dict[str, Published]:
    """Read the index of published weights.

    Args:
        path: A file in the form of ``configs/weights.yaml``; None for that.

    Returns:
        The rows by name.

    Raises:
        UserError: If there is no such file, or a row does not fit.
    """
    path = Path(path or index_path())
    if not path.is_file():
        raise UserError(f'the index of published weights, {path}, does not exist')
    content = yaml.safe_load(path.read_text())
    rows = {}
    for source, group in content.items():
        shared = {key: value for key, value in group.items() if key != 'weights'}
        for name, row in group['weights'].items():
            try:
                published = Published(name=f'{source}/{name}', **(shared | row))
            except TypeError as error:
                raise UserError(
                    f'{path}: the row {name} of {source} does not fit: {error}'
                ) from error
            if published.file is None and published.url:
                file = Path(urlsplit(published.url).path).name
                published = Published(**(vars(published) | {'file': file}))
            for part in (published.name, published.file or ''):
                if '..' in Path(part).parts or Path(part).is_absolute():
                    raise UserError(f'{path}: {part!r} is no name of a file')
            rows[published.name] = published
    return rows


def cache_dir() -> Path:
    """Where weights are kept: ``SPM_MM_CACHE``, or ``spm_mm`` in the user's folder for caches."""
    if given := os.environ.get('SPM_MM_CACHE'):
        return Path(given).expanduser()
    base = os.environ.get('XDG_CACHE_HOME')
    return (Path(base) if base else Path.home() / '.cache') / 'spm_mm'


def resolve(name_or_path: str | Path, index: str | Path | None = None) -> Path:
    """Path of a checkpoint under our names.

    Args:
        name_or_path: Name in the index, with or without ``spm_mm://`` before it, or a file.
        index: See :func:`load_index`.

    Raises:
        UserError: If it is neither, or :func:`fetch` fails.

    Example:
        >>> resolve('spm_mm://timm/pvt_v2_b0.in1k')  # doctest: +SKIP
    """
    text = str(name_or_path)
    if not text.startswith(SCHEME) and Path(text).is_file():
        return Path(text)
    return fetch(text.removeprefix(SCHEME), index)


def is_published(name: str) -> bool:
    """Whether the index has weights of this name, and there is no file that is called so."""
    if not index_path().is_file() or name not in load_index():
        return False
    return not Path(name).exists()


def unknown_name(name: str, names: Iterable[str]) -> str:
    """What to say of a name that the index does not have."""
    near = ' or '.join(map(repr, difflib.get_close_matches(name, list(names), n=3)))
    hint = f'did you mean {near}? ' if near else ''
    return f'no published weights {name!r}: {hint}tools/model_converters/fetch.py --list shows all'


def fetch(name: str, index: str | Path | None = None) -> Path:
    """Download weights of the index, unless they are there, check and convert them.

    ``SPM_MM_WEIGHTS``, a URL or a folder, is looked in instead of the address of the index.

    Args:
        name: Name in the index.
        index: See :func:`load_index`.

    Returns:
        The converted checkpoint in :func:`cache_dir`.

    Raises:
        UserError: If the name or its address is not known, or a step fails; the message says why.
            Nothing half-written is taken for a checkpoint.
    """
    from spm_mm import __version__

    rows = load_index(index)
    if name not in rows:
        raise UserError(unknown_name(name, rows))
    row = rows[name]
    # Another version may convert in another way.
    target = cache_dir() / 'converted' / __version__ / f'{name}.safetensors'
    if target.is_file():
        return target
    with _said(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{target}.lock'):
            if not target.is_file():
                _convert(_original(row), row, target)
    return target


def _convert(original: Path, row: Published, target: Path) -> None:
    from spm_mm.converters import convert_checkpoint, read_checkpoint, write_weights

    try:
        weights = read_checkpoint(original)
    except UserError as error:
        if original.parent != cache_dir() / 'downloads' or _mirror_folder():
            raise
        original.unlink()
        raise UserError(f'{error}; it was removed: the same command downloads it again') from error
    converted = convert_checkpoint(weights)
    if not converted.complete:
        raise UserError(
            f'{row.name} cannot be converted:\n{converted.conversion.report()}\nThe original is'
            f' {original}'
        )
    write_weights(converted.conversion.state_dict, target, converted.source)


def _original(row: Published) -> Path:
    """The file as its authors publish it, from the mirror or the cache if it is there."""
    mirror = os.environ.get('SPM_MM_WEIGHTS')
    if row.file is None:
        where = f': {row.page}' if row.page else ''
        raise UserError(
            f'the address of {row.name} is not known here; look for the file at its source{where}'
            f' ({row.source}), then convert what you downloaded with'
            ' tools/model_converters/convert.py'
        )
    web = mirror and urlsplit(mirror).scheme in WEB and urlsplit(mirror).netloc
    if mirror and '://' in mirror and not web:
        raise UserError(
            f'SPM_MM_WEIGHTS must be a folder or an address with http:// or https://, got {mirror}'
        )
    if folder := _mirror_folder():
        if not folder.is_dir():
            raise UserError(f'SPM_MM_WEIGHTS={mirror} is no folder, and no address with http(s)://')
        path = folder / row.file
        if not path.is_file():
            raise UserError(f'SPM_MM_WEIGHTS={mirror} has no file {row.file}')
        _check(path, row)
        return path
    path = cache_dir() / 'downloads' / row.file
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{path}.lock'):
            if not path.is_file():
                _download(f'{mirror.rstrip("/")}/{row.file}' if mirror else row.url, path, row)
    return path


def download(url: str) -> Path:
    """Download a file that is not in the index, unless it is there.

    Two addresses never share a file, though both may end in the same name.

    Args:
        url: ``http://``, ``https://`` or ``file://``.

    Returns:
        The file, as it was published, in :func:`cache_dir`.

    Raises:
        UserError: If it cannot be downloaded whole.
    """
    parts = urlsplit(url)
    if parts.scheme == 'file':
        return Path(url2pathname(parts.path))
    if parts.scheme not in WEB:
        raise UserError(
            f'checkpoint {url} cannot be loaded: a checkpoint is a file, a name in the index'
            f' ({SCHEME}NAME), or an address with http://, https:// or file://'
        )
    name = Path(unquote(parts.path)).name or 'checkpoint'
    path = cache_dir() / 'urls' / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    if not path.is_file():
        with _said(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f'{path}.lock'):
                if not path.is_file():
                    _download(url, path)
    return path


def _mirror_folder() -> Path | None:
    """The folder that ``SPM_MM_WEIGHTS`` names."""
    mirror = os.environ.get('SPM_MM_WEIGHTS')
    return Path(mirror).expanduser() if mirror and '://' not in mirror else None


def _check(path: Path, row: Published) -> None:
    """Refuse a file that is not what the index says."""
    size = path.stat().st_size
    if row.size is not None and size != row.size:
        raise UserError(f'{path} has {size} bytes, {row.name} has {row.size}')
    if row.sha256 is None:
        print(f'{row.name}: its authors give no hash, so it is not checked', file=sys.stderr)
        return
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    if not digest.hexdigest().startswith(row.sha256):
        raise UserError(
            f'{path.name} has the SHA-256 {digest.hexdigest()}, {row.name} has {row.sha256}: it is'
            ' another file'
        )


def _download(url: str, path: Path, row: Published | None = None) -> None:
    """Download to ``path``, which appears when it is whole and checked; what there is stays."""
    partial = path.with_name(f'{path.name}.part')
    for attempt in range(ATTEMPTS):
        try:
            _receive(url, partial, row)
            break
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt + 1 == ATTEMPTS:
                got = partial.stat().st_size if partial.is_file() else 0
                raise UserError(
                    f'the connection to {url} was cut after {got / 2**20:.1f} MiB, {ATTEMPTS} times'
                    f' ({error or type(error).__name__}); what there is stays in {partial}, and the'
                    ' same command goes on from there'
                ) from error
    try:
        if what := describe(partial):
            raise UserError(f'what {url} sends is no checkpoint, but {what}')
        if row is not None:
            _check(partial, row)
    except UserError:
        partial.unlink()
        raise
    finally:
        _tag(partial).unlink(missing_ok=True)
    os.replace(partial, path)


def _tag(partial: Path) -> Path:
    """Beside a file that is not whole: what the server called this version of it."""
    return partial.with_name(f'{partial.name}.etag')


def _receive(url: str, partial: Path, row: Published | None) -> None:
    """Receive what is missing of a file."""
    if urlsplit(url).scheme not in WEB:
        raise UserError(f'{row.name}: {url} is neither http nor https')
    start = partial.stat().st_size if partial.is_file() else 0
    tag = _tag(partial).read_text() if _tag(partial).is_file() else ''
    headers = {'User-Agent': 'spm_mm'}
    if start and tag:  # without it the rest might be of another file
        headers |= {'Range': f'bytes={start}-', 'If-Range': tag}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except (http.client.InvalidURL, UnicodeError) as error:
        raise UserError(f'{url} is no address of a file: {error}') from error
    except urllib.error.HTTPError as error:
        if error.code == 416:  # as long as the whole file, or longer
            partial.unlink()
            raise ConnectionError(f'the server refuses to go on at byte {start}') from error
        raise UserError(
            f'{url} cannot be downloaded: {error.code} {str(error.reason).splitlines()[0]}'
            f'{_help(row)}'
        ) from error
    except urllib.error.URLError as error:
        raise UserError(
            f'{urlsplit(url).netloc or url} cannot be reached: {error.reason}{_help(row)}'
        ) from error
    with answer:
        continues = answer.status == 206
        offset = answer.headers.get('Content-Range', f'bytes {start}-')
        if continues and not offset.startswith(f'bytes {start}-'):
            partial.unlink()
            raise ConnectionError(f'the server goes on elsewhere than at byte {start}')
        start = start if continues else 0
        length = answer.headers.get('Content-Length')
        total = start + int(length) if length else None
        _tag(partial).write_text(
            answer.headers.get('ETag') or answer.headers.get('Last-Modified') or ''
        )
        if total and total - start > shutil.disk_usage(partial.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with (
            partial.open('ab' if continues else 'wb') as file,
            _bar(partial.stem, start, total) as step,
        ):
            while piece := answer.read(PIECE):
                file.write(piece)
                step(len(piece))
            received = file.tell()
    if total is not None and received < total:
        raise ConnectionError(f'{total - received} bytes are missing')


def _help(row: Published | None) -> str:
    if row is None:
        return ''
    unchecked = '' if row.checked else '; the address in the index has not been checked'
    return f'{unchecked}; SPM_MM_WEIGHTS can name a mirror, or a folder with {row.file}'


@contextlib.contextmanager
def _bar(name: str, start: int, total: int | None) -> Iterator[Any]:
    """A bar of progress on a terminal; what it yields takes the bytes of each step."""
    columns = (
        TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(name, total=total, completed=start)
        yield lambda count: progress.advance(task, count)


@contextlib.contextmanager
def _said(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f'no space left for weights in {cache_dir()}: SPM_MM_CACHE can name another folder'
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise UserError(
                f'{error.filename or folder} cannot be written ({error.strerror}): SPM_MM_CACHE can'
                ' name another folder for weights'
            ) from error
        raise UserError(
            f'weights cannot be kept in {cache_dir()}: {error}; SPM_MM_CACHE can name another folder'
        ) from error


@CheckpointLoader.register_scheme(prefixes=SCHEME, force=True)
def load_published(
    filename: str, map_location: Any = None, logger: Any = 'current'
) -> dict[str, Any]:
    """What mmengine calls for a checkpoint ``spm_mm://NAME``."""
    from safetensors.torch import load_file

    device = map_location if isinstance(map_location, str) else 'cpu'
    return {'state_dict': load_file(resolve(filename), device=device)}
