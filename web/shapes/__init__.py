"""The shapes of query strings, bodies and answers."""
