import gzip
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

TOOL = 'tools/dataset_converters/idx_to_folders.py'


def idx(array: np.ndarray) -> bytes:
    shape = struct.pack(f'>{array.ndim}I', *array.shape)
    return bytes((0, 0, 8, array.ndim)) + shape + array.tobytes()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / 'idx'
    folder.mkdir()
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    for part in ('train', 't10k'):
        (folder / f'{part}-images-idx3-ubyte.gz').write_bytes(gzip.compress(idx(images)))
        (folder / f'{part}-labels-idx1-ubyte').write_bytes(idx(np.uint8([7, 0, 7])))
    return folder


def test_pictures_lie_in_the_folders_of_their_classes(source, tmp_path, run_tool) -> None:
    out = tmp_path / 'out'
    run_tool(TOOL, source, out)
    files = sorted(str(path.relative_to(out)) for path in out.rglob('*.png'))
    assert files == [
        f'{p}/{n}.png' for p in ('test', 'train') for n in ('0/00001', '7/00000', '7/00002')
    ]
    picture = cv2.imread(str(out / 'train/7/00002.png'), cv2.IMREAD_UNCHANGED)
    assert (picture == np.arange(40, 60).reshape(4, 5)).all()
    done = run_tool(TOOL, source, out, status=2)
    assert 'exists already' in done.stderr


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('train-images-idx3-ubyte.gz', b'no gzip', 'cannot be decompressed'),
        ('t10k-labels-idx1-ubyte', b'\x00\x00', 'no IDX file'),
        ('t10k-labels-idx1-ubyte', idx(np.uint8([1, 2, 3]))[:-1], 'holds 2'),
        ('t10k-labels-idx1-ubyte', idx(np.uint8([1, 2])), 'do not fit'),
        ('t10k-labels-idx1-ubyte', None, 'neither'),
    ],
)
def test_bad_files_write_nothing(
    source, tmp_path, load_tool, monkeypatch, name, content, message
) -> None:
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_bytes(content)
    tool = load_tool(TOOL)
    monkeypatch.setattr('sys.argv', ['tool', str(source), str(tmp_path / 'out')])
    with pytest.raises(ValueError, match=message):
        tool.main()
    assert {path.name for path in tmp_path.iterdir()} == {'idx'}
