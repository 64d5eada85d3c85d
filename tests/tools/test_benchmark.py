BENCHMARK = 'tools/analysis_tools/benchmark.py'
CONFIG = 'configs/mmseg/fpn_pvt_tiny_dtm_camvid.py'


def test_merging_beside_another(run_tool) -> None:
    done = run_tool(
        BENCHMARK, CONFIG, f'{CONFIG}:ConvMerging', '--shape', '64', '64', '--mode', 'train',
        '--repeat', '1', '--batch', '2',
    )  # fmt: skip
    rows = [line.split('|')[1:-1] for line in done.stdout.splitlines() if 'fpn_pvt' in line]
    assert [row[1].strip() for row in rows] == ['its own', 'ConvMerging']
    assert all(float(row[4]) > 0 for row in rows)


def test_bad_input(run_tool) -> None:
    assert 'does not exist' in run_tool(BENCHMARK, 'nothing.py', status=2).stderr
    done = run_tool(BENCHMARK, CONFIG, '--repeat', '0', status=2)
    assert '--repeat and --shape must be at least 1' in done.stderr
