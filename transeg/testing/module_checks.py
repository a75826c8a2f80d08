"""What the package of every plugin must do."""

from __future__ import annotations

from transeg.testing.subject import Subject


def hooks_can_be_called(subject: Subject) -> None:
    """Its package can be imported, and the hooks in it are hooks of transeg."""
    _, failures = subject.registry.plugin_hooks()
    own = [failure for failure in failures if f"the plugin {subject.component.package} are" in failure]
    subject.expect(
        not own,
        "a package that can be imported, with hooks that transeg.core.hookspecs has",
        " ".join(own),
        "Mend its __init__.py: every run imports it for its hooks.",
    )


CHECKS = (hooks_can_be_called,)
