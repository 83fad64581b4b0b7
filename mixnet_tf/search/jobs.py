"""Long work that the processes of a search divide: each job is done once, by whichever process comes first."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from mixnet_tf.progress import Progress
from mixnet_tf.search.storage import no_experimental_warnings, open_study, optuna

_POLL = 1.0  # seconds
_JOB, _RESULT = "job", "result"  # attributes of a trial
_STATES = optuna.trial.TrialState


def do_once(
    name: str,
    storage: str | None,
    jobs: Sequence[str],
    do: Callable[[str], Any],
    stop_if_asked: Callable[[], None],
    progress: Progress,
) -> dict[str, Any]:
    """Does the jobs that are not done yet, and waits for those that other processes do.

    Args:
        name: Name of the study in its storage.
        storage: Address, as for `open_study`.
        jobs: Names of the jobs, all different.
        do: A function from a job's name to its result, a value for JSON. If it raises an error, the job is left to the
            next process that asks for one.
        stop_if_asked: Called before each job and while others work; it raises an error to stop.
        progress: Shows that the process waits for others.

    Returns:
        Dict from each job's name to its result, from this or another process.
    """
    study = open_study(name, storage, ["minimize"])
    there = {trial.user_attrs.get(_JOB) for trial in study.get_trials(deepcopy=False)}
    for job in jobs:
        if job not in there:
            _enqueue(study, job)
    while not all(job in _done(study) for job in jobs):
        stop_if_asked()
        if _is_waiting(study):
            with no_experimental_warnings():
                study.optimize(lambda trial: _do(study, trial, do), n_trials=1)
        else:
            with progress("Waiting for another process, or for a minute after it was killed"):
                while not _is_waiting(study) and _states(study, _STATES.RUNNING):
                    stop_if_asked()
                    time.sleep(_POLL)
    done = _done(study)
    return {job: done[job] for job in jobs}


def _is_waiting(study):
    """Whether there is a job that no process works on."""
    with no_experimental_warnings():
        optuna.storages.fail_stale_trials(study)
    return bool(_states(study, _STATES.WAITING))


def _states(study, state):
    return study.get_trials(deepcopy=False, states=[state])


def _do(study, trial, do):
    job = trial.user_attrs.get(_JOB)
    running = _states(study, _STATES.RUNNING)
    elsewhere = any(each.number < trial.number and each.user_attrs.get(_JOB) == job for each in running)
    if job is None or elsewhere or job in _done(study):
        raise optuna.TrialPruned("Another process was faster.")
    try:
        trial.set_user_attr(_RESULT, do(job))
    except BaseException:
        _enqueue(study, job)
        raise
    return 0.0


def _done(study):
    return {trial.user_attrs[_JOB]: trial.user_attrs[_RESULT] for trial in _states(study, _STATES.COMPLETE)}


def _enqueue(study, job):
    study.enqueue_trial({}, user_attrs={_JOB: job})
