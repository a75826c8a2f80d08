"""Every built-in command keeps the contract that is checked for those of others."""

from transeg.testing import parametrize_with_checks


@parametrize_with_checks("transeg", kind="command")
def test_contract(check):
    check()
