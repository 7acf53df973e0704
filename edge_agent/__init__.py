"""The edge agent: trains on one room's data and sends only weights."""
