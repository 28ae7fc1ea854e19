"""What is used of torch's inside, and nowhere else in the core.

torch may change such parts in any release, without notice. So each stands behind a function here that says what it
stands for, in which versions it was seen, and what happens without it: the usual way where there is one, else an
`IncompatibleVersion`. ``tests/test_compat.py`` finds private names that are used anywhere else.
"""
