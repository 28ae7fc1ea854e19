"""Encryption of a version's files: keys, envelope, chunks, and the two functions that all others read and write by."""
