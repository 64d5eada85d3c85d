"""Download published weights, check their hash, convert them, and print where the result is."""

import argparse
import os
from pathlib import Path

from spm_mm.engine import run_tool
from spm_mm.errors import UserError
from spm_mm.weights import cache_dir, fetch, load_index


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='SPM_MM_WEIGHTS names a mirror (URL) or a folder to take the files from.',
    )
    parser.add_argument('names', metavar='NAME', nargs='*', help='name in the index')
    parser.add_argument('--list', metavar='WORD', nargs='?', const='', help='names that hold WORD')
    parser.add_argument('--index', metavar='FILE', help='default: configs/weights.yaml')
    parser.add_argument(
        '--cache', metavar='DIR', type=Path, help=f'default: SPM_MM_CACHE, or {cache_dir()}'
    )
    args = parser.parse_args()
    if args.cache:
        os.environ['SPM_MM_CACHE'] = str(args.cache)
    if args.list is not None:
        for name, row in load_index(args.index).items():
            if args.list in name:
                figures = ', '.join(f'{what} {value}' for what, value in row.figures.items())
                state = (
                    f'no address, see {row.page or row.source}'
                    if row.url is None
                    else ''
                    if row.checked
                    else 'not checked'
                )
                print(
                    '; '.join(
                        filter(None, (name, row.model, row.task, figures, row.licence, state))
                    )
                )
        return
    if not args.names:
        raise UserError('name weights to fetch; --list shows them')
    for name in args.names:
        print(fetch(name, args.index))


if __name__ == '__main__':
    run_tool(main)
