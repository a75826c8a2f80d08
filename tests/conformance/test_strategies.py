"""Every built-in strategy keeps the contract that is checked for those of others."""

import pytest

from transeg.testing import parametrize_with_checks


@parametrize_with_checks("transeg", kind="strategy", slow=pytest.mark.slow)
def test_contract(check):
    check()
