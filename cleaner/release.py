"""The version of this program."""

from __future__ import annotations

# The newest heading of CHANGELOG.md.  pyproject.toml and the Terraform module read it from here.
VERSION = "0.1.0"
