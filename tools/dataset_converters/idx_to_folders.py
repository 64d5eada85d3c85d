"""Write the four IDX files of Fashion-MNIST or MNIST as a folder of PNG pictures for each class.

IN holds {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]; Debian's package dataset-fashion-mnist puts
them into /usr/share/datasets/fashion-mnist. OUT receives {train,test}/CLASS/NUMBER.png.
"""

import argparse
import gzip
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from spm_mm.engine import run_tool
from spm_mm.errors import UserError

PARTS = {'train': 'train', 'test': 't10k'}
BYTES = 8  # the code of unsigned bytes in the third byte of an IDX file


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or compressed.

    Raises:
        UserError: If there is no such file, or it is not in that format.
    """
    packed = path.with_name(f'{path.name}.gz')
    if not path.is_file() and not packed.is_file():
        raise UserError(f'neither {path} nor {packed.name} exists')
    try:
        raw = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f'{packed} cannot be decompressed: {error}') from error
    if len(raw) < 4 or raw[:3] != bytes((0, 0, BYTES)) or len(raw) < 4 + 4 * raw[3]:
        raise UserError(
            f'{path} is no IDX file of bytes: it begins with {raw[:4].hex() or "nothing"}'
        )
    shape = np.frombuffer(raw, '>u4', raw[3], 4)
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if data.size != shape.prod(dtype=np.int64):
        raise UserError(f'{path} announces {shape.tolist()} bytes and holds {data.size}')
    return data.reshape(shape)


def read_part(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, H, W) and labels (N,) of one part, checked against one another."""
    images = read_idx(folder / f'{name}-images-idx3-ubyte')
    labels = read_idx(folder / f'{name}-labels-idx1-ubyte')
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise UserError(
            f'{folder}, {name}: pictures {images.shape} and labels {labels.shape} do not fit'
        )
    return images, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', metavar='IN', type=Path, help='folder of the IDX files')
    parser.add_argument('output', metavar='OUT', type=Path, help='folder to write; must not exist')
    args = parser.parse_args()
    if args.output.exists():
        raise UserError(f'{args.output} exists already: name another folder, or remove it')
    parts = {part: read_part(args.input, name) for part, name in PARTS.items()}
    partial = args.output.with_name(f'{args.output.name}.part')
    if partial.exists():
        shutil.rmtree(partial)
    for part, (images, labels) in parts.items():
        for label in np.unique(labels):
            (partial / part / str(label)).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(track(images, part), labels, strict=True)):
            cv2.imwrite(str(partial / part / str(label) / f'{number:05}.png'), image)
    partial.rename(args.output)
    print(f'wrote {", ".join(f"{len(labels)} to {part}" for part, (_, labels) in parts.items())}')


if __name__ == '__main__':
    run_tool(main)
