"""Faust and aiokafka with this service's changes, which use private parts: docs/decisions/0005."""
