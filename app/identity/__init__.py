"""Identity: accounts, and the tokens that say who is asking."""
