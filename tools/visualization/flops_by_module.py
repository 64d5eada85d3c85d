"""Where the FLOPs of the patch mergings go, as bars for several models (SPM, Figure 6(a)).

A bar for the model and one for each of --beside, split into the kinds of modules of its mergings.
--as-published counts the work of the official code, as the paper does. Needs no data and no
weights.
"""

import argparse
from collections.abc import Sequence

from matplotlib.axes import Axes

from spm_mm.engine import (
    Complexity,
    add_picture_arguments,
    measure,
    read_picture_arguments,
    run_tool,
)
from spm_mm.errors import UserError
from spm_mm.visualization import save_chart


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, '', '')
    parser.add_argument(
        '--as-published', action='store_true', help='count the work of the official code'
    )
    args = parser.parse_args(argv)
    models = read_picture_arguments(args)
    bars = {}
    for model in models:
        name = model.name.partition(',')[0]
        bars[name] = merging_flops(measure(model.cfg, as_published=args.as_published))
        if not bars[name]:
            raise UserError(f'the backbone of {name} has no merging')
        for part, flops in bars[name].items():
            print(f'{name}: {part}: {flops:.3f} G')
        print(f'{name}: all mergings: {sum(bars[name].values()):.3f} G')

    def draw(axes: Axes) -> None:
        bottom = dict.fromkeys(bars, 0.0)
        for part in dict.fromkeys(part for bar in bars.values() for part in bar):
            heights = [bar.get(part, 0.0) for bar in bars.values()]
            axes.bar([*bars], heights, 0.5, [*bottom.values()], label=part)
            bottom = {n: b + h for (n, b), h in zip(bottom.items(), heights, strict=True)}
        for i, total in enumerate(bottom.values()):
            axes.text(i, total, f'{total:.3f} G', ha='center', va='bottom')
        axes.margins(y=0.08)
        axes.legend()

    save_chart(args.out, draw, 'FLOPs of the patch mergings', ('', 'FLOPs (G MACs)'))
    print(f'wrote {args.out}')


def merging_flops(counted: Complexity) -> dict[str, float]:
    """MACs in G of each kind of module, over all mergings; those below 1 M are one part."""
    parts: dict[str, float] = {}
    for name in counted.params:
        if name.startswith('mergings.'):
            for part, (_, macs) in counted.split(f'backbone.{name}').items():
                parts[part] = parts.get(part, 0.0) + macs / 1e9
    small = sum(flops for flops in parts.values() if flops < 1e-3)
    return {
        **{part: flops for part, flops in parts.items() if flops >= 1e-3},
        **({'other': small} if small else {}),
    }


if __name__ == '__main__':
    run_tool(main)
