"""A client of the registry API v2, with the extensions and the refusals of Google's registries."""
