"""One file for each training library: ``PACKAGES`` it needs, ``NAME``, and ``fit(workload)``, one whole training.

Each trains the workload's network with Adam on one thread and validates after every epoch, as its
own documentation shows, with progress bars, loggers and checkpoints off where it has them.
"""
