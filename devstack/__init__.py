"""PostgreSQL, Redis, Kafka and the worker on this machine, without Docker and without root."""
