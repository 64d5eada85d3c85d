"""Write what the compiled operators of mmcv 2.1.0 give on the CPU, into ``compiled.safetensors``.

In an environment with compiled mmcv: ``python -m tests.mmcv_ops.make_fixtures``.
"""

from pathlib import Path

import mmcv._ext
from safetensors.torch import save_file

from tests.mmcv_ops.cases import ON_CPU

FIXTURES = Path(__file__).parent / 'compiled.safetensors'


def main() -> None:
    if mmcv._ext.__file__.endswith('.py'):
        raise SystemExit('mmcv is not compiled here')
    save_file(
        {
            f'{name}/{part}': value.contiguous()
            for name, case in ON_CPU.items()
            for part, value in case('cpu').items()
        },
        FIXTURES,
        metadata={'mmcv': mmcv.__version__},
    )


if __name__ == '__main__':
    main()
