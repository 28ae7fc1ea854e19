"""One file for each training library: its ``NAME``, the ``PACKAGES`` it needs, and ``fit(workload)``.

``fit`` is one whole training: Adam, one thread, validation after every epoch, as the library's own
documentation shows it, with progress bars, loggers and checkpoints off where it has them. One that
measures a part of itself answers those CPU seconds; one that cannot build the network raises
`NotImplementedError`.
"""
