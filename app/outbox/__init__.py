"""The outbox: events as rows, and the relay that publishes them."""
