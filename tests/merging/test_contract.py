import pytest

from tests import testing


@pytest.mark.parametrize('name', testing.mergings())
def test_merging(name: str) -> None:
    testing.check_merging(name)
