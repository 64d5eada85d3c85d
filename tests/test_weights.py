"""Published weights by name, against a server on this machine."""

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.runner.checkpoint import CheckpointLoader

from spm_mm import weights
from spm_mm.backbones import PVTv2
from spm_mm.errors import UserError
from spm_mm.models import create_model
from spm_mm.weights import cache_dir, fetch, load_index, resolve
from tests.parity.fixtures import make_state_dict, read_fixture

NAME = 'test/pvt_v2_b0'


class Server(ThreadingHTTPServer):
    """Serves one file, and can cut connections, forget ranges, send another file."""

    def __init__(self, content: bytes) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.ranges, self.cut_after, self.tag = content, [], [], '"one"'
        self.status = 200

    @property
    def address(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server
        if self.path.startswith('/moved/'):
            self.send_response(302)
            self.send_header('Location', f'{server.address}/{self.path.removeprefix("/moved/")}')
            self.end_headers()
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        asked = self.headers.get('Range')
        server.ranges.append(asked)
        start = 0
        if asked and self.headers.get('If-Range') == server.tag:
            start = int(asked.removeprefix('bytes=').rstrip('-'))
            if start >= len(server.content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(server.content) - start))
        if server.tag:
            self.send_header('ETag', server.tag)
        self.end_headers()
        stop = start + server.cut_after.pop(0) if server.cut_after else None
        self.wfile.write(server.content[start:stop])

    def log_message(self, *args: object) -> None: ...


@pytest.fixture(scope='module')
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fixture = read_fixture(Path(__file__).parent / 'parity/oracles/pvt_v2_b0.json')
    path = tmp_path_factory.mktemp('official') / 'pvt_v2_b0.pth'
    torch.save(make_state_dict(fixture), path)
    return path


@pytest.fixture
def server(official: Path) -> Iterator[Server]:
    server = Server(official.read_bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def write_index(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch):
    """An index with one row, and an empty cache."""
    monkeypatch.setenv('SPM_MM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('SPM_MM_WEIGHTS', raising=False)
    row = dict(
        model='PVTv2-B0', task='classification', url=f'{server.address}/pvt_v2_b0.pth',
        sha256=hashlib.sha256(server.content).hexdigest()[:8],
    )  # fmt: skip

    def write(**changes: object) -> Path:
        group = dict(licence='none stated', source='a test', weights={'pvt_v2_b0': row | changes})
        (tmp_path / 'index.yaml').write_text(yaml.safe_dump({'test': group}))
        return tmp_path / 'index.yaml'

    return write


def left_over() -> list[str]:
    return sorted(p.name for p in cache_dir().rglob('*') if p.suffix in ('.part', '.etag'))


def test_downloads_checks_and_converts_once(server: Server, write_index) -> None:
    path = fetch(NAME, write_index(url=f'{server.address}/moved/pvt_v2_b0.pth'))
    model = PVTv2('b0', init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'))
    model.init_weights()
    assert fetch(NAME, write_index()) == resolve(f'spm_mm://{NAME}', write_index()) == path
    assert server.ranges == [None]
    assert left_over() == []
    assert resolve(path) == path


def test_a_cut_connection_goes_on(server: Server, write_index) -> None:
    server.cut_after = [1 << 21, 1 << 20]
    fetch(NAME, write_index())
    assert server.ranges == [None, 'bytes=2097152-', 'bytes=3145728-']


def test_a_later_call_goes_on(server: Server, write_index) -> None:
    server.cut_after = [1 << 20] * 3
    with pytest.raises(UserError, match=r'was cut after 3\.0 MiB, 3 times .* goes on from there'):
        fetch(NAME, write_index())
    assert left_over() == ['pvt_v2_b0.pth.part', 'pvt_v2_b0.pth.part.etag']
    fetch(NAME, write_index())
    assert server.ranges[-1] == 'bytes=3145728-'


@pytest.mark.parametrize('change', ['another file', 'no tag'])
def test_what_may_be_of_another_file_starts_again(server: Server, write_index, change: str) -> None:
    server.cut_after = [1 << 20] * 3
    server.tag = '' if change == 'no tag' else '"zero"'
    with pytest.raises(UserError, match='was cut'):
        fetch(NAME, write_index())
    server.tag = '"one"'
    fetch(NAME, write_index())
    assert left_over() == []


def test_a_part_that_is_the_whole_file(server: Server, write_index) -> None:
    folder = cache_dir() / 'downloads'
    folder.mkdir(parents=True)
    (folder / 'pvt_v2_b0.pth.part').write_bytes(server.content)
    (folder / 'pvt_v2_b0.pth.part.etag').write_text(server.tag)
    fetch(NAME, write_index())


def test_wrong_hash_and_size(server: Server, write_index) -> None:
    with pytest.raises(UserError, match='has 00000000: it is another file'):
        fetch(NAME, write_index(sha256='00000000'))
    assert left_over() == []
    assert list(cache_dir().rglob('*.pth')) == []
    with pytest.raises(UserError, match=rf'has {len(server.content)} bytes, .* has 3'):
        fetch(NAME, write_index(size=3))


def test_no_hash_is_said(write_index, capsys) -> None:
    fetch(NAME, write_index(sha256=None))
    assert 'its authors give no hash, so it is not checked' in capsys.readouterr().err


def test_offline_and_missing(server: Server, write_index) -> None:
    server.status = 404
    with pytest.raises(
        UserError, match=r'404 .*address in the index has not been checked; SPM_MM_W'
    ):
        fetch(NAME, write_index())
    with pytest.raises(
        UserError, match=r'127\.0\.0\.1:9 cannot be reached: .*SPM_MM_WEIGHTS can name'
    ):
        fetch(NAME, write_index(url='http://127.0.0.1:9/pvt_v2_b0.pth', checked=True))
    with pytest.raises(UserError, match='is neither http nor https'):
        fetch(NAME, write_index(url='file:///etc/passwd'))
    assert left_over() == []


def test_unknown_names_and_addresses(write_index) -> None:
    with pytest.raises(UserError, match=rf"'test/b0': did you mean '{NAME}'. .*--list shows all"):
        fetch('test/b0', write_index())
    with pytest.raises(UserError, match=r"weights 'zzz': tools.*--list shows all"):
        fetch('zzz', write_index())
    with pytest.raises(
        UserError, match=r'not known here; look .*source: http://x \(a test\), then .*convert\.py'
    ):
        fetch(NAME, write_index(url=None, page='http://x'))
    with pytest.raises(UserError, match='the row pvt_v2_b0 of test does not fit'):
        fetch(NAME, write_index(colour='red'))
    with pytest.raises(UserError, match=r"'\.\./out\.pth' is no name of a file"):
        fetch(NAME, write_index(file='../out.pth'))


def test_no_space(monkeypatch, write_index) -> None:
    usage = shutil.disk_usage(cache_dir().parent)._replace(free=1 << 20)
    monkeypatch.setattr(weights.shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(UserError, match=r'no space left for weights in .*SPM_MM_CACHE can name'):
        fetch(NAME, write_index())


def test_the_disk_fills_while_it_converts(monkeypatch, write_index) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(weights, '_convert', full)
    with pytest.raises(UserError, match='no space left'):
        fetch(NAME, write_index())


def test_no_permission(monkeypatch, tmp_path: Path, write_index) -> None:
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('SPM_MM_CACHE', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r'cannot be written .*SPM_MM_CACHE can name another'):
        fetch(NAME, write_index())


@pytest.mark.parametrize('mirror', ['folder', 'server'])
def test_mirror(mirror: str, monkeypatch, server: Server, official: Path, write_index) -> None:
    place = str(official.parent) if mirror == 'folder' else f'{server.address}/'
    monkeypatch.setenv('SPM_MM_WEIGHTS', place)
    fetch(NAME, write_index(url='http://127.0.0.1:9/pvt_v2_b0.pth'))
    monkeypatch.setenv('SPM_MM_WEIGHTS', str(official.parent))
    with pytest.raises(UserError, match=r'has no file other\.pth'):
        fetch('test/other', write_index_of_other(write_index))


def write_index_of_other(write_index) -> Path:
    path = write_index(file='other.pth')
    path.write_text(path.read_text().replace('pvt_v2_b0:', 'other:'))
    return path


def test_config_names_published_weights(monkeypatch, write_index) -> None:
    monkeypatch.setattr(weights, 'index_path', partial(write_index))
    found = CheckpointLoader.load_checkpoint(f'spm_mm://{NAME}')['state_dict']
    init = dict(type='Pretrained', checkpoint=f'spm_mm://{NAME}', prefix='backbone.')
    model = PVTv2('b0', init_cfg=init)
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, found[f'backbone.{key}'])


def test_addresses_of_the_same_file_name(server: Server, official: Path, write_index) -> None:
    write_index()
    own = create_model('pvt_v2_b0').state_dict()
    found = []
    for number, place in enumerate('ab'):
        content = io.BytesIO()
        torch.save({key: torch.full_like(value, number) for key, value in own.items()}, content)
        server.content = content.getvalue()
        net = create_model('pvt_v2_b0', pretrained=f'{server.address}/{place}/model.pth')
        found.append(float(net.stem.conv.bias[0]))
    assert found == [0, 1]
    requests = len(server.ranges)
    create_model('pvt_v2_b0', pretrained=f'{server.address}/b/model.pth')
    assert len(server.ranges) == requests


@pytest.mark.parametrize(
    ('content', 'said'), [(b'<html>', 'but a web page'), (b'', 'but an empty file')]
)
def test_an_answer_that_is_no_checkpoint(server: Server, write_index, content, said) -> None:
    server.content = content
    with pytest.raises(UserError, match=f'no checkpoint, {said}'):
        fetch(NAME, write_index(sha256=None))
    with pytest.raises(UserError, match=f'no checkpoint, {said}'):
        create_model('pvt_v2_b0', pretrained=f'{server.address}/model.pth')
    assert not [p for p in cache_dir().rglob('*') if p.is_file() and p.suffix != '.lock']


def test_a_damaged_file_is_removed(server: Server, write_index) -> None:
    whole, server.content = server.content, b'\x80\x02damaged'
    with pytest.raises(UserError, match='the same command downloads it again'):
        fetch(NAME, write_index(sha256=None))
    server.content = whole
    fetch(NAME, write_index(sha256=None))


@pytest.mark.parametrize(
    ('place', 'said'),
    [
        ('ftp://a/b', r'SPM_MM_WEIGHTS must be a folder or an address .* got ftp://a/b'),
        ('nothing', 'SPM_MM_WEIGHTS=nothing is no folder'),
        ('http://a:b', 'is no address of a file'),
        ('http://', 'SPM_MM_WEIGHTS must be a folder or an address'),
    ],
)
def test_wrong_mirrors(monkeypatch, write_index, place: str, said: str) -> None:
    monkeypatch.setenv('SPM_MM_WEIGHTS', place)
    with pytest.raises(UserError, match=said):
        fetch(NAME, write_index())


@pytest.mark.parametrize(
    ('pretrained', 'said'),
    [
        ('timm/pvt_v2_b9.in1k', "does not exist, .* did you mean 'timm/pvt_v2_b"),
        ('s3://a/b.pth', 'a checkpoint is a file, a name in the index'),
        ('http://127.0.0.1:9/ä.pth', 'is no address of a file'),
        ('a' * 5000, 'does not exist'),
        ('shunted/shunted_tiny_in1k', 'source: https://github.com/OliverRensu/Shunted-Transformer'),
    ],
)
def test_pretrained_that_is_not_there(write_index, pretrained: str, said: str) -> None:
    write_index()
    with pytest.raises(UserError, match=said):
        create_model('pvt_v2_b0', pretrained=pretrained)


def test_nan_is_loaded(tmp_path: Path) -> None:
    weights = create_model('pvt_v2_b0').state_dict()
    weights['stem.conv.bias'][0] = torch.nan
    torch.save(weights, tmp_path / 'nan.pth')
    net = create_model('pvt_v2_b0', pretrained=tmp_path / 'nan.pth')
    assert net.stem.conv.bias[0].isnan()


def test_a_model_by_the_name_of_its_weights(monkeypatch, write_index) -> None:
    monkeypatch.setattr(weights, 'index_path', partial(write_index))
    net = create_model('pvt_v2_b0', pretrained=NAME)
    found = CheckpointLoader.load_checkpoint(f'spm_mm://{NAME}')['state_dict']
    assert torch.equal(net.stem.conv.weight, found['backbone.stem.conv.weight'])
    with pytest.raises(UserError, match=r'checkpoint nothing\.pth does not exist'):
        create_model('pvt_v2_b0', pretrained='nothing.pth')


def test_several_processes_download_once(server: Server, write_index) -> None:
    command = 'import sys; from spm_mm.weights import fetch; fetch(*sys.argv[1:])'
    processes = [
        subprocess.Popen([sys.executable, '-c', command, NAME, write_index()]) for _ in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert server.ranges == [None]


def test_every_row_of_the_index() -> None:
    rows = load_index()
    assert len(rows) > 30
    root = Path(__file__).parents[1] / 'configs'
    for row in rows.values():
        assert row.licence
        assert row.source
        assert row.url or row.page, row.name
        assert row.url is None or row.url.startswith('https://'), row.name
        assert row.config is None or (root / f'{row.config}.py').is_file(), row.name
        assert not (row.sha256 and set(row.sha256) - set('0123456789abcdef')), row.name
