"""What lies outside: Google's registries and APIs, over HTTP."""
