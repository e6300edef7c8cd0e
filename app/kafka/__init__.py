"""Faust and aiokafka as this service runs them (docs/decisions/0005): private parts are used."""
