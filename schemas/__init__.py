"""The wire contract: topics, messages, weight blobs and metrics, readable alone."""
