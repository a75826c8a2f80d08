"""mmengine hooks that every run has."""
