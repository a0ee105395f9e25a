"""Prunes a container repository's old manifests, and nothing that a kept image needs."""
