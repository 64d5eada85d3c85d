"""How like the grid of a convolution the clusters of a cluster merging are (HAFA, section 4.4).

The paper says that the clusters of SIA in the first stage have over 95 % similarity with direct
convolution and does not say which similarity. Two are printed, as means over pictures, between the
clusters and squares of 2 x 2 cells: the Rand index, the share of pairs of cells on which both agree
(together or apart), and the adjusted Rand index, which is 0 for chance. With thousands of small
clusters nearly all pairs are apart in both, so the Rand index alone is near 1 in any case; the
third number, that of random clusters of the same sizes, shows it.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from spm_mm.engine import add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.visualization import (
    find_pictures,
    load_backbone,
    read_image,
    token_clusters,
    uniform_aggregation,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(
        parser, 'pictures', 'picture, or folder of pictures', '.csv', beside=False
    )
    parser.add_argument('--number', type=int, default=100, help='how many pictures at most')
    args = parser.parse_args(argv)
    (model,) = read_picture_arguments(args)
    backbone = load_backbone(model.cfg, model.checkpoint, args.device)
    rng = np.random.default_rng(0)
    found: dict[int, list[tuple[float, float, float]]] = {}
    files = find_pictures(args.pictures, args.number)
    for path in track(files, 'pictures'):
        _, image = read_image(path, model.cfg, args.size)
        for stage, clusters in token_clusters(backbone, image.to(args.device)).items():
            squares = uniform_aggregation(clusters.shape, 2)
            plain, adjusted = rand_indices(clusters, squares)
            chance, _ = rand_indices(rng.permutation(clusters.ravel()), squares.ravel())
            found.setdefault(stage, []).append((plain, adjusted, chance))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, 'w') as file:
        file.write('before_stage,pictures,rand_index,adjusted_rand_index,rand_index_of_chance\n')
        for stage, values in found.items():
            plain, adjusted, chance = np.mean(values, axis=0)
            file.write(f'{stage},{len(values)},{plain:.6f},{adjusted:.6f},{chance:.6f}\n')
            print(
                f'before stage {stage}: Rand index {plain:.2%} (random clusters: {chance:.2%}),'
                f' adjusted {adjusted:.3f}'
            )
    print(f'wrote {args.out}')


def rand_indices(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Rand index and adjusted Rand index of two clusterings (Hubert and Arabie, 1985).

    Args:
        one: Number of the cluster of each cell, any shape.
        other: Likewise, of the same shape.
    """
    pairs = one.size * (one.size - 1) / 2
    _, joint = np.unique(np.stack((one.ravel(), other.ravel())), axis=1, return_counts=True)
    both, in_one, in_other = (
        float((counts * (counts - 1) / 2).sum())
        for counts in (joint, np.bincount(one.ravel()), np.bincount(other.ravel()))
    )
    plain = (pairs + 2 * both - in_one - in_other) / pairs
    expected, most = in_one * in_other / pairs, (in_one + in_other) / 2
    return plain, 1.0 if most == expected else (both - expected) / (most - expected)


if __name__ == '__main__':
    run_tool(main)
