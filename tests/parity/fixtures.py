"""Reads the reference fixtures: what the official models put out, with weights made from names.

The format is explained in ``oracles/index.json``.
"""

import json
import zlib
from collections.abc import Mapping
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


def make_inputs(spec: Mapping[str, Any]) -> list[Tensor | list[Tensor]]:
    """Draw the inputs of a run: an image, a map, or a list of maps; for SG-Former's attention a map in
    the channels-last layout and, where one is given, its significance."""
    rng = np.random.RandomState(spec['seed'])
    if 'shapes' in spec:
        return [
            [torch.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in spec['shapes']]
        ]
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


def distances(output: Tensor, expected: Mapping[str, Any]) -> dict[str, float]:
    """Relative distances of an output from the stored figures of the official one.

    The stored values are compared by relative L2 distance, the L2 norm relatively, and the mean in
    units of the root mean square.
    """
    assert list(output.shape) == expected['shape'], (output.shape, expected['shape'])
    flat = output.detach().double().flatten().numpy()
    if 'values' in expected:
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
