"""Jobs: each is done once; an interrupted job is next, and that of a killed process a minute later."""

import contextlib

import pytest

from mixnet_tf.progress import silent
from mixnet_tf.search import jobs, storage

_JOBS = ["a", "b", "c"]


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def _do(address, do, names=_JOBS, progress=silent):
    return jobs.do_once("jobs", address, names, do, lambda: None, progress)


def test_each_job_is_done_once_and_an_interrupted_one_is_left_to_whoever_comes_next(address):
    calls = []

    def do(job):
        calls.append(job)
        if calls == ["a", "b"]:
            raise KeyboardInterrupt
        return {"letter": job}

    with pytest.raises(KeyboardInterrupt):
        _do(address, do)
    expected = {name: {"letter": name} for name in _JOBS}
    assert _do(address, do) == expected and sorted(calls) == ["a", "b", "b", "c"]
    assert _do(address, do) == expected and len(calls) == 4
    assert _do(address, do, ["b", "d"]) == {"b": {"letter": "b"}, "d": {"letter": "d"}} and calls[4:] == ["d"]


def test_a_job_of_a_process_that_was_killed_is_waited_for_and_taken_over(address, monkeypatch):
    monkeypatch.setattr(storage, "_HEARTBEAT", 1)
    monkeypatch.setattr(storage, "_GRACE", 1)
    monkeypatch.setattr(jobs, "_POLL", 0.1)
    study = storage.open_study("jobs", address, ["minimize"])
    with storage.no_experimental_warnings():
        study.enqueue_trial({}, user_attrs={"job": "a"})
        with pytest.warns(UserWarning, match="Heartbeat"):
            trial = study.ask()  # as a process that works on it, with one heartbeat
        study._storage.record_heartbeat(trial._trial_id)
    waited, calls = [], []

    @contextlib.contextmanager
    def progress(name, *arguments, **options):
        waited.append((name, list(calls)))
        with silent(name) as phase:
            yield phase

    assert _do(address, lambda job: calls.append(job) or job, ["a", "b"], progress) == {"a": "a", "b": "b"}
    assert calls == ["b", "a"] and waited == [
        ("Waiting for another process, or for a minute after it was killed", ["b"])
    ]


def test_a_worker_waits_while_another_one_writes(address):
    backend = storage.open_study("jobs", address, ["minimize"])._storage._backend
    with backend.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 120_000  # milliseconds


def test_a_storage_whose_tables_another_process_makes_is_opened_again(address, monkeypatch):
    opened, failing = [], [True, False, True, True, True]

    class Racing(storage.optuna.storages.RDBStorage):
        def __init__(self, *arguments, **options):
            opened.append(arguments)
            if failing[len(opened) - 1]:
                raise RuntimeError("relation already exists")
            super().__init__(*arguments, **options)

    monkeypatch.setattr(storage, "_PAUSE", 0.0)
    monkeypatch.setattr(storage.optuna.storages, "RDBStorage", Racing)
    assert storage.open_study("jobs", address, ["minimize"]).trials == [] and len(opened) == 2
    with pytest.raises(
        ValueError, match="storage: 'mysql://me:\\*\\*\\*@host/s' cannot be opened: relation already exists"
    ):
        storage.open_study("jobs", "mysql://me:secret@host/s", ["minimize"])
