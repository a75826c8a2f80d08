"""The contracts of components, checked: the suite that every built-in component passes, for those of others.

The test file of a plugin::

    from transeg.testing import parametrize_with_checks

    @parametrize_with_checks("my_package")
    def test_contract(check):
        check()

:func:`checks_of` gives the same checks to programs; `toolkit plugin check` runs them without pytest.
"""

from transeg.testing.collecting import checks_of
from transeg.testing.pytest_cases import parametrize_with_checks
from transeg.testing.subject import Check, ContractError, Subject

__all__ = ["Check", "ContractError", "Subject", "checks_of", "parametrize_with_checks"]
