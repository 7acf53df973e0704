"""Whole federations in one process and in virtual time: the same engines and services over an in-memory network."""
