"""Turn coloured, palette or 16-bit label pictures into the index masks that MMSegmentation reads.

IN is searched with all its folders; OUT receives the same tree of PNG files. With --colors, a file of
lines `R G B NAME`, each colour becomes the number of its line from 0, and a class named void (or
--void) becomes 255. Without it the numbers stay, and must be 0 to 255.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.progress import track

from spm_mm.engine import run_tool
from spm_mm.errors import UserError

IGNORED = 255
PICTURES = ('.png', '.bmp', '.tif', '.tiff', '.gif')
WEIGHTS = np.array([1 << 16, 1 << 8, 1])


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to that gets the name ``path`` if all goes well, and is removed if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial)
        raise


def read_colors(path: Path) -> dict[str, tuple[int, int, int]]:
    """Names and colours of a file with lines `R G B NAME`, in its order.

    Raises:
        UserError: If a line is something else, or a name or colour comes twice.
    """
    if not path.is_file():
        raise UserError(f'{path} does not exist')
    colors: dict[str, tuple[int, int, int]] = {}
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        if not line.strip():
            continue
        *parts, name = line.split(maxsplit=3)
        if len(parts) != 3 or not all(part.isdigit() and int(part) < 256 for part in parts):
            raise UserError(f'{path}, line {number}: expected R G B NAME, got {line!r}')
        color = tuple(map(int, parts))
        name = name.strip()
        if name in colors or color in colors.values():
            raise UserError(f'{path}, line {number}: {line!r} comes twice')
        colors[name] = color
    return colors


def color_to_index(
    mask: np.ndarray, colors: dict[tuple[int, int, int], int], file: object
) -> np.ndarray:
    """Numbers (H, W) for a mask (H, W, 3) of colours.

    Raises:
        UserError: If the mask has a colour that is not among ``colors``.
    """
    codes, places = np.unique(mask.astype(np.int64) @ WEIGHTS, return_inverse=True)
    known = {int(np.dot(color, WEIGHTS)): index for color, index in colors.items()}
    for code in codes.tolist():
        if code not in known:
            color = (code >> 16, code >> 8 & 255, code & 255)
            raise UserError(f'{file} has the colour {color}, which is no class')
    numbers = np.array([known[code] for code in codes.tolist()], np.uint8)
    return numbers[places].reshape(mask.shape[:2])


def read_mask(path: Path) -> np.ndarray:
    """A label picture as numbers (H, W), or as colours (H, W, 3); palette pictures give numbers.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode in ('RGBA', 'CMYK', 'YCbCr'):
                picture = picture.convert('RGB')
            return np.array(picture)
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f'{path} cannot be read: {error}') from error


def to_index(path: Path, colors: dict[tuple[int, int, int], int] | None) -> np.ndarray:
    """Read a label picture as an index mask.

    Raises:
        UserError: If it does not fit ``colors``, or has a number that 8 bits do not hold.
    """
    mask = read_mask(path)
    if mask.ndim == 3:
        if colors is None:
            raise UserError(f'{path} is coloured: --colors FILE must say what the colours mean')
        return color_to_index(mask, colors, path)
    if mask.min() < 0 or mask.max() > IGNORED:
        raise UserError(f'{path} has the label {int(mask.max())}: 0 to {IGNORED} are allowed')
    return mask.astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', metavar='IN', type=Path, help='folder of label pictures')
    parser.add_argument('output', metavar='OUT', type=Path, help='folder to write; must not exist')
    parser.add_argument('--colors', type=Path, help='file of lines R G B NAME')
    parser.add_argument('--void', default='void', help='class that is ignored (default void)')
    args = parser.parse_args(argv)
    colors = None
    if args.colors:
        names = read_colors(args.colors)
        void = {name: color for name, color in names.items() if name.lower() == args.void.lower()}
        classes = [name for name in names if name not in void]
        colors = {names[name]: index for index, name in enumerate(classes)}
        colors.update(dict.fromkeys(void.values(), IGNORED))
        print('classes in order: ' + ', '.join(classes))
    files = sorted(p for p in args.input.rglob('*') if p.suffix.lower() in PICTURES)
    if not files:
        raise UserError(f'{args.input} holds no label picture ({", ".join(PICTURES)})')
    if args.output.exists():
        raise UserError(f'{args.output} exists already: name another folder, or remove it')
    with whole_folder(args.output) as out:
        for path in track(files, 'converting'):
            target = (out / path.relative_to(args.input)).with_suffix('.png')
            mask = to_index(path, colors)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(target)
    print(f'wrote {len(files)} masks to {args.output}')


if __name__ == '__main__':
    run_tool(main)
