"""What is used of Optuna's inside, and nowhere else in the sweeps."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from maas_magics.api.errors import incompatible


def running_trial(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """A trial that another process began, as one that takes reports: a ``Study`` gives those of new trials alone.

    Private is ``_trial_id``, its number in the storage; ``Trial`` itself is not meant to be made by users. Seen in
    Optuna 4.2 to 5.0.

    Raises
    ------
    IncompatibleVersion
        If Optuna has it no more.
    """
    number = getattr(trial, "_trial_id", None)
    if number is None:
        raise incompatible("optuna", "the number of a trial in its storage", "Resuming a sweep")
    return optuna.trial.Trial(study, number)
