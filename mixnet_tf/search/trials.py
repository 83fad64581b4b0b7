"""Chooses the next network to measure: Optuna's NSGA-II over a space, in a storage that workers share."""

from collections.abc import Callable, Sequence
from typing import Any

from mixnet_tf.search.front import Trial
from mixnet_tf.search.space import SearchSpace
from mixnet_tf.search.storage import no_experimental_warnings, open_study, optuna

_MEASURED = "measured"  # the attribute of a finished trial that holds its measurements
_MOST_REPEATS = 200  # proposals in a row that were measured before, after which the search ends


class Trials:
    """The networks that a search has tried, and proposals for the next ones.

    No network is measured twice: a network that was measured before is looked up. If a worker is killed, its trial is
    given to another worker a minute later. Networks above the largest cost are skipped.

    Args:
        space: The space.
        name: Name of the study in its storage.
        storage: Address, as for `open_study`.
        cost: A function from a choice to its cost.
        population: Population of NSGA-II; None: networks are drawn at random.
        seed: Seed of the draws. Each trial derives its own from it, so that a resumed search does not repeat draws.
        max_cost: The largest cost of a network to measure; None: any.
        first: Choices to try before others.
    """

    def __init__(
        self,
        space: SearchSpace,
        name: str,
        storage: str | None,
        cost: Callable[[Sequence[int]], float],
        population: int | None,
        seed: int,
        max_cost: float | None = None,
        first: Sequence[Sequence[int]] = (),
    ) -> None:
        self._space, self._cost, self._max_cost = space, cost, max_cost
        self._study = open_study(name, storage, ["minimize", "minimize"], _SeededByTrial(population, seed))
        for choice in first:
            self._study.enqueue_trial(self._params(choice), skip_if_exists=True)

    def measured(self) -> list[Trial]:
        """The networks measured so far, in order, each once."""
        found = {}
        for trial in self._study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
            choice = self._choice(trial.params)
            if _MEASURED in trial.user_attrs and choice not in found:
                found[choice] = Trial(choice, trial.values[1], trial.user_attrs[_MEASURED])
        return list(found.values())

    def measure_next(self, measure: Callable[[Sequence[int]], dict[str, float]]) -> bool:
        """Measures one more network.

        Args:
            measure: A function from a choice to a dict that has "cross_entropy". If it raises an error, the network
                is tried again next, by whichever process comes first.

        Returns:
            Whether there was a network to measure.
        """
        found = []

        def measure_and_note(choice):
            measured = measure(choice)
            found.append(choice)
            return measured

        for _ in range(_MOST_REPEATS):
            with no_experimental_warnings():
                self._study.optimize(lambda trial: self._values(trial, measure_and_note), n_trials=1)
            if found:
                return True
        return False

    def _values(self, trial, measure):
        """The objectives of a trial: cross-entropy and cost."""
        choice = tuple(
            trial.suggest_categorical(name, list(range(len(each.values))))
            for name, each in zip(self._names(), self._space.alternatives, strict=True)
        )
        cost = self._cost(choice)
        if self._max_cost is not None:
            trial.set_constraint("max_cost", cost - self._max_cost)
            if cost > self._max_cost:
                return float("inf"), cost
        known = {each.choice: each.measured for each in self.measured()}
        if choice in known:
            return known[choice]["cross_entropy"], cost
        running = self._study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
        if any(each.number < trial.number and self._choice(each.params) == choice for each in running):
            raise optuna.TrialPruned("Another worker measures it.")
        try:
            measured = measure(choice)
        except BaseException:
            self._study.enqueue_trial(trial.params)
            raise
        trial.set_user_attr(_MEASURED, measured)
        return measured["cross_entropy"], cost

    def _names(self):
        return [f"{each.stage}.{each.field}" for each in self._space.alternatives]

    def _params(self, choice):
        return dict(zip(self._names(), choice, strict=True))

    def _choice(self, params):
        """The choice of a trial's parameters; None if not all are drawn yet."""
        names = self._names()
        return tuple(params[name] for name in names) if all(name in params for name in names) else None


class _SeededByTrial(optuna.samplers.BaseSampler):
    """NSGA-II or random draws, seeded by each trial's number; a new sampler would repeat its draws."""

    def __init__(self, population: int | None, seed: int) -> None:
        self._population, self._seed = population, seed
        self._of_trial: tuple[int | None, Any] = (None, None)

    def _sampler(self, trial):
        if self._of_trial[0] != trial.number:
            seed = (self._seed * 1_000_003 + trial.number) % 2**32
            if self._population is None:
                sampler = optuna.samplers.RandomSampler(seed=seed)
            else:
                sampler = optuna.samplers.NSGAIISampler(population_size=self._population, seed=seed)
            self._of_trial = (trial.number, sampler)
        return self._of_trial[1]

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self._sampler(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Sequence[float] | None) -> None:
        self._sampler(trial).after_trial(study, trial, state, values)
