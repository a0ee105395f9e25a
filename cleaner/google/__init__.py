"""The outside world: Google's registries and APIs, over HTTP."""
