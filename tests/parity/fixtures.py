"""Reads the reference fixtures: what the official models put out, with weights made from names.

The format is explained in ``oracles/index.json``.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

RULES = {
    'nbt': lambda rng, shape: np.zeros(shape),
    'rv': lambda rng, shape: rng.uniform(0.5, 1.5, shape),
    'rm': lambda rng, shape: 0.1 * rng.standard_normal(shape),
    'ns': lambda rng, shape: 1 + 0.1 * rng.standard_normal(shape),
    'b': lambda rng, shape: 0.1 * rng.standard_normal(shape),
    'w': lambda rng, shape: rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])),
    'p': lambda rng, shape: 0.02 * rng.standard_normal(shape),
}


def read_fixture(path: Path) -> dict[str, Any]:
    """Read a fixture; a missing one fails the test that needs it."""
    assert path.is_file(), f'{path} is missing'
    return json.loads(path.read_text())


def make_state_dict(fixture: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rebuild the official model's state dict, without what its constructor computes ("fixed")."""
    salt = fixture.get('salt') or ''
    state_dict = {}
    for name, shape, rule, scale, fixed in fixture['state']:
        if fixed:
            continue
        rng = np.random.RandomState(zlib.crc32((salt + name).encode()))
        values = np.asarray(RULES[rule](rng, tuple(shape)) * scale)
        dtype = np.int64 if rule == 'nbt' else np.float32
        state_dict[name] = torch.from_numpy(values.astype(dtype))
    return state_dict


def make_inputs(spec: Mapping[str, Any]) -> list[Any]:
    """Draw the inputs of a run: an image, a map, or a list of maps; for SG-Former's attention a map in
    the channels-last layout and, where one is given, its significance. For HAFA's parts a map on the
    ``grid`` that is given, or what :func:`_draw_tokens` draws."""
    rng = np.random.RandomState(spec['seed'])
    if 'shapes' in spec:
        return [
            [torch.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in spec['shapes']]
        ]
    if 'draw' in spec:
        return _draw_tokens(rng, spec)
    if 'grid' in spec:
        b, _, c = spec['shape']
        return [_normal(rng, (b, *spec['grid'], c))]
    inputs = [rng.standard_normal(spec.get('shape') or spec['x'])]
    if 'x' in spec:
        b, _, c = spec['x']
        grid = (spec['H'], spec['W'])
        inputs[0] = inputs[0].reshape(b, *grid, c)
        if 'significance' in spec:
            cells = grid[0] * grid[1]
            drawn = [rng.permutation(cells).astype(np.float32) for _ in range(b)]
            inputs.append(np.stack(drawn).reshape(b, *grid) / np.float32(cells))
    return [torch.from_numpy(values.astype(np.float32)) for values in inputs]


def _draw_tokens(rng: np.random.RandomState, spec: Mapping[str, Any]) -> list[Any]:
    """What HAFA's and TCFormer's functions take, in the order and form that ``spec['draw']`` tells."""
    if 'stage3_grid' in spec:  # the neck: tokens of four stages, the cells of the last one's
        rows, columns = spec['stage3_grid']
        levels = [_normal(rng, shape) for shape in spec['tokens']]
        b, n, _ = spec['tokens'][-1]
        return [levels, _draw_cells(rng, b, n, rows, columns)]
    if 'tokens' in spec:  # the conversions: tokens, a map, the cells of the tokens
        tokens, feature_map = _normal(rng, spec['tokens']), _normal(rng, spec['map'])
        b, n, _ = spec['tokens']
        rows, columns = spec['init_grid']
        cells = _draw_cells(rng, b, n, rows, columns, whole=n == rows * columns)
        return [tokens, feature_map.permute(0, 2, 3, 1), cells]
    x, score = _normal(rng, spec['x']), _normal(rng, spec['score'])
    if 'feature_map' in spec:  # TCFormer's
        return [x, score, _normal(rng, spec['feature_map']).permute(0, 2, 3, 1)]
    b, n, _ = spec['x']  # clusters of tokens that are clusters already
    index = np.concatenate((np.arange(n), rng.randint(0, n, n)))[rng.permutation(2 * n)]
    weight = rng.uniform(0.1, 1, (b, 2 * n, 1)).astype(np.float32)
    return [x, score, torch.from_numpy(index).expand(b, -1), torch.from_numpy(weight)[..., 0]]


def _draw_cells(
    rng: np.random.RandomState, b: int, n: int, rows: int, columns: int, whole: bool = False
) -> Tensor:
    """Which of n tokens each cell belongs to, (B, rows, columns): drawn, or one cell for each."""
    drawn = [
        np.arange(n)
        if whole
        else rng.permutation(np.concatenate((np.arange(n), rng.randint(0, n, rows * columns - n))))
        for _ in range(b)
    ]
    return torch.from_numpy(np.stack(drawn)).view(b, rows, columns)


def _normal(rng: np.random.RandomState, shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def is_table(name: str, expected: Any) -> bool:
    """Whether a stored output is a table of integers (clusters, cells), to be met exactly."""
    return isinstance(expected, list) and name.startswith(('idx_', 'grid_index'))


def fragile_clusters(run: Mapping[str, Any]) -> dict[int, list[int]]:
    """Stored clusters, by image, that hang on the last bits of float32: given, not compared."""
    same = run.get('cluster_checks', {}).get('float64_same_index_each', ())
    return {b: run['outputs']['idx_cluster'][b] for b, holds in enumerate(same) if not holds}


def distances(output: Tensor, expected: Mapping[str, Any]) -> dict[str, float]:
    """Relative distances of an output from the stored figures of the official one.

    The stored values are compared by relative L2 distance, the L2 norm relatively, and the mean in
    units of the root mean square.
    """
    assert list(output.shape) == expected['shape'], (output.shape, expected['shape'])
    flat = output.detach().double().flatten().numpy()
    if 'all' in expected:
        pairs = {'values': (flat, np.asarray(expected['all']))}
    elif 'values' in expected:
        index = np.linspace(0, flat.size - 1, len(expected['values'])).astype(int)
        pairs = {'values': (flat[index], np.asarray(expected['values']))}
    else:
        rows = output.detach().double().numpy()
        first = np.asarray(expected['first64'])
        pairs = {'values': (rows[:, : first.shape[1]], first)}
        pairs['l2_each'] = (np.linalg.norm(rows, axis=1), np.asarray(expected['l2_each']))
    result = {
        name: float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
        for name, (ours, theirs) in pairs.items()
    }
    l2 = float(np.linalg.norm(flat))
    result['l2'] = abs(l2 - expected['l2']) / expected['l2']
    result['mean'] = abs(float(flat.mean()) - expected['mean']) / (l2 / np.sqrt(flat.size))
    return result
