"""The vocabulary: plain frozen values and two protocols that every other room speaks.

Depends on the standard library and msgspec only.
"""
