"""API keys: their file, scopes, rate limits, and the middleware that checks them."""
