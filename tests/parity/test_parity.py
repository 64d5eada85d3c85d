"""Ours against the official models: the same outputs for the same weights.

A new family adds its fixtures to ``oracles*/`` and a file to ``twins/``; nothing here changes. The
reference implementations of :mod:`spm_mm.reference` are held to the same figures, and to the official
models' cost.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from spm_mm.converters.base import Classifier
from spm_mm.engine import count_macs
from spm_mm.reference import FORMS, make_reference
from tests.parity.fixtures import (
    distances,
    fragile_clusters,
    is_table,
    make_inputs,
    make_state_dict,
    read_fixture,
)
from tests.parity.twins import OFFICIAL_CODE, OfficialCode

HERE = Path(__file__).parent
REQUIRED = {name: code for code in OFFICIAL_CODE.values() for name in code.fixtures}
# Of the fixture's own float32 noise; the stored figures have 7 digits, which is the floor.
NOISE_FACTOR, NOISE_FLOOR, CEILING = 10, 2e-7, 1e-4


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder = metafunc.config.getoption('--oracles')
    folders = [folder] if folder else sorted(HERE.glob('oracles*'))
    paths = {
        path.stem: path
        for f in folders
        for path in sorted(f.glob('*.json'))
        if path.stem != 'index'
    }
    if folder is None:
        # A missing fixture is a test that fails.
        paths = {
            name: paths.get(name, HERE / 'oracles' / f'{name}.json') for name in REQUIRED
        } | paths
    assert paths, f'no fixtures in {folder}'
    metafunc.parametrize('path', paths.values(), ids=paths)


def find_code(fixture: dict[str, Any], path: Path) -> OfficialCode:
    if path.stem in REQUIRED:
        return REQUIRED[path.stem]
    found = [code for code in OFFICIAL_CODE.values() if fixture['family'] in code.families]
    if not found:
        reason = f'no file in twins/ covers the family {fixture["family"]}'
        # A fixture of this repository must be compared.
        pytest.fail(reason) if HERE in path.parents else pytest.skip(reason)
    return found[0]


@pytest.mark.parametrize('form', ['fast', 'reference'])
def test_parity(path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == 'reference':
        for cls, methods in FORMS.items():
            for method, function in methods.items():
                monkeypatch.setattr(cls, method, function)
    fixture = read_fixture(path)
    code = find_code(fixture, path)
    converter = code.converter
    official = make_state_dict(fixture)
    twin = code.make_twin(fixture['source']['callable'], fixture['config'], official)
    official = {twin.full_key(key): value for key, value in official.items()}
    conversion = converter.convert(official, twin.module)
    assert not conversion.unexpected, conversion.report()
    # What the official model fixes as it is built is not in the fixture: ours comes from our model.
    fixed = {converter.rename(twin.full_key(name)) for name, *_, fixed in fixture['state'] if fixed}
    assert set(conversion.missing) <= fixed, conversion.report()
    parameters = sum(p.numel() for p in twin.module.parameters())
    lost = sum(v.numel() for v in official.values()) - sum(
        v.numel() for v in conversion.state_dict.values()
    )
    # What the dense form has beside the classifier, whose parameters the fixture counts.
    dense = sum(official[twin.full_key(n)].numel() for n in fixture.get('state_only_in_dense', ()))
    assert parameters == fixture['params'] + dense - lost
    assert bool(lost) == bool(conversion.dropped), conversion.report()

    for run in (*fixture['runs'], *([fixture['teacher']] if 'teacher' in fixture else [])):
        training = (run.get('mode') or 'eval').startswith('train')
        twin.module.train(training)
        if not isinstance(run['input'], str):  # else the same as before
            inputs = make_inputs(run['input'])
            inputs += [run[name] for name in ('cluster_num', 'k') if name in run]
            if given := fragile_clusters(run):
                inputs.append(given)
        for dtype, compared in passes(run):
            twin.module.to(dtype)
            # Again for every run: training changes batch statistics.
            twin.module.load_state_dict(conversion.state_dict, strict=not fixed)
            with torch.no_grad():
                outputs = twin.run(*(to_dtype(values, dtype) for values in inputs))
            compare(run, outputs, compared)


def passes(run: dict) -> list[tuple[torch.dtype, dict]]:
    """In what precision ours runs, and the official outputs that it is compared with."""
    outputs = run['outputs']
    # Where float32 noise flips a decision, the fixture has outputs in float64 to compare with.
    if 'outputs_float64' in run:
        return [(torch.float64, run['outputs_float64'])]
    # The noise of a whole model may flip a cluster, too: behind it ours is in float64.
    if 'cluster_checks' in run and 'stage1' in outputs:
        before = ('stage1', 'stage2', 'stage3', 'laa', 'sia_score')
        early = {name: value for name, value in outputs.items() if name.startswith(before)}
        return [(torch.float32, early), (torch.float64, outputs)]
    return [(torch.float32, outputs)]


def compare(run: dict, outputs: dict, compared: dict) -> None:
    """Hold our outputs to the official ones, at the noise of these."""
    gaps = {} if 'outputs_float64' in run else run.get('fp64_gap', {})
    # What has no noise of its own in the fixture has that of the noisiest.
    most = max((gap['rel_l2'] for gap in gaps.values()), default=NOISE_FLOOR)
    for name, expected in compared.items():
        if is_table(name, expected):
            assert outputs[name].tolist() == expected, (run['input'], name)
            continue
        if not isinstance(expected, dict) or 'l2' not in expected:
            continue  # a remark on the official code's structures
        noise = next((g['rel_l2'] for key, g in gaps.items() if name.startswith(key)), most)
        noise = max(noise, NOISE_FLOOR)
        limit = min(NOISE_FACTOR * noise, CEILING)
        for kind, distance in distances(outputs[name], expected).items():
            assert distance <= limit, (run['input'], run.get('mode'), name, kind)


def to_dtype(values: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in another precision, anything else as it is."""
    floating = torch.is_tensor(values) and values.is_floating_point()
    return values.to(dtype) if floating else values


def test_reference_macs(path: Path) -> None:
    """No reference implementation costs more or less than the official model, within 1 %."""
    fixture = read_fixture(path)
    macs = fixture.get('macs', {})
    shape = macs.get('input', [1, 3, 224, 224])
    kinds = ('torch.utils.flop_counter', 'total')  # those of HAFA have a total, the same sum
    counted = [count for kind, count in macs.items() if kind.startswith(kinds)]
    if not counted or not isinstance(shape[0], int):
        pytest.skip('a part of a model, or not counted')
    official_macs = counted[0]
    converter = find_code(fixture, path).converter
    with torch.device('meta'):
        official = {name: torch.empty(size) for name, size, *_ in fixture['state']}
        model = converter.model_for(official)
        model = model if isinstance(model, Classifier) else model.get_submodule('backbone')
        ours = count_macs(make_reference(model.eval()), torch.empty(shape))
    assert ours == pytest.approx(official_macs, rel=0.01)
