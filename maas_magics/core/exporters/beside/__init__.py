"""Conversions of torch's programs by libraries that cannot live in this process: each is a script for another one."""
