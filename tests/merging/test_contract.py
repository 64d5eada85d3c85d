import pytest

from spm_mm import testing


@pytest.mark.parametrize('name', testing.mergings())
def test_merging(name: str) -> None:
    testing.check_merging(name)
