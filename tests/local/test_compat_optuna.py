"""A trial that another process began can be told of."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from maas_magics.api.errors import IncompatibleVersion
from maas_magics.sweeps.compat import running_trial


def test_a_running_trial_takes_reports_and_its_end() -> None:
    study = optuna.create_study()
    study.ask()
    [frozen] = study.get_trials(states=(TrialState.RUNNING,))
    live = running_trial(study, frozen)
    live.report(2.0, 1)
    study.tell(live, 1.0)
    assert study.trials[0].value == 1.0 and study.trials[0].intermediate_values == {1: 2.0}


def test_an_optuna_without_its_number_is_named() -> None:
    with pytest.raises(IncompatibleVersion, match="Resuming a sweep needs the number of a trial") as caught:
        running_trial(optuna.create_study(), object())  # type: ignore[arg-type]
    assert optuna.__version__ in caught.value.message
