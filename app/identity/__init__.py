"""Identity: accounts, and the tokens that tell who asks."""
