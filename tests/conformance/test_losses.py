"""Every built-in segmentation loss keeps the contract that is checked for those of others."""

from transeg.testing import parametrize_with_checks


def of_losses(check):
    return check.subject.component.entry.role == "segmentation"


@parametrize_with_checks("transeg", kind="loss", where=of_losses)
def test_contract(check):
    check()
