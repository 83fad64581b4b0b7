"""Chooses the next network to measure: Optuna's NSGA-II over a space, in a storage that workers share."""

from collections.abc import Callable, Sequence

from mixnet_tf.search.front import Trial
from mixnet_tf.search.space import SearchSpace
from mixnet_tf.search.storage import no_experimental_warnings, open_study, optuna

_MEASURED = "measured"  # the attribute of a finished trial that holds its measurements
_MAX_REPEATS = 200  # proposals in a row that were measured before, after which the search ends


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
        seed: Seed of the draws; each trial has a seed of its own, which follows from it.
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
        self._population, self._seed = population, seed
        self._study = open_study(name, storage, ["minimize", "minimize"])
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

        for _ in range(_MAX_REPEATS):
            self._study.sampler = self._next_sampler()
            with no_experimental_warnings():
                self._study.optimize(lambda trial: self._values(trial, measure_and_note), n_trials=1)
            if found:
                return True
        return False

    def _next_sampler(self):
        """NSGA-II or random draws, seeded by the number of the next trial; a resumed search would repeat its draws."""
        number = len(self._study.get_trials(deepcopy=False))
        seed = (self._seed * 1_000_003 + number) % 2**32
        if self._population is None:
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.NSGAIISampler(population_size=self._population, seed=seed)

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
