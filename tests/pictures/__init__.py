"""The pictures in docs/images that show the package at work: `nox -s pictures`."""
