"""F7: what a run will cost, from its settings alone: operations and memory of every stage, before anything is compiled.

Products of matrices in validation, in padded last chunks and for prompts read again are left out: a few percent. Every
response has its full length, and every RL run takes all of its iterations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt

from synthetic_rm import comparisons
from synthetic_rm.comparisons import held_out_groups
from synthetic_rm.cost_stages import LABELLED, OPTIMIZED, POOL, PROXIES, SCORED, WORLD, Machine, Stage
from synthetic_rm.devices import share_of
from synthetic_rm.flops import (
    TRAINING,
    layer_flops,
    policy_gradient_flops,
    reading_flops,
    response_flops,
    sampling_flops,
    text_flops,
)
from synthetic_rm.ladder import shape_for_budget
from synthetic_rm.memory import (
    FLOAT,
    USABLE,
    Memory,
    lane_memory,
    parameter_bytes,
    sampling_memory,
    scoring_memory,
    training_memory,
    training_rows,
)
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.scoring import BATCHES
from synthetic_rm.settings import BuildSettings, Settings
from synthetic_rm.training.loop import equal_parts
from synthetic_rm.types import Shape


@dataclass(frozen=True)
class Costs:
    """The stages of a run on a machine, as numbers."""

    settings: Settings
    build: BuildSettings
    """of the world: the release's, or the settings' own"""
    machine: Machine
    snippets: int = 0
    """training snippets; they count where the world or a policy is built"""

    def stages(self) -> list[Stage]:
        """Every stage, in the order in which a run makes them."""
        s = self.settings
        return [
            *(self._world() if s.environment.release is None else ()),
            *(self._initial_policy() if s.policy.size is not None else ()),
            *(self._comparisons() if s.comparisons.labels != "human" else ()),
            *(self._proxies(size) for size in s.proxy.sizes),
            self._pool(),
            self._scores("gold", self.build.gold_size, 1, POOL),
            *(self._scores(f"proxies {size:,}", size, s.proxy.seeds, SCORED) for size in s.proxy.sizes),
            *(self._optimized(size) for size in s.proxy.sizes if s.rl.method is not None),
        ]

    @property
    def usable(self) -> int:
        """Bytes of each device that may be filled."""
        return int(USABLE * self.machine.memory)

    @property
    def resident(self) -> int:
        """Bytes of the models that stay on each device: the policy, the world's reference, gold and backbones."""
        sizes = [self.build.reference_size, self.build.gold_size, *self.build.backbone_sizes]
        shapes = [self._shape(size) for size in sizes] + [self._policy] * (self.settings.policy.size is not None)
        return sum(parameter_bytes(shape) for shape in shapes) // self.machine.model

    @property
    def _prompt(self) -> int:
        return self.settings.environment.prompt_tokens

    @property
    def _response(self) -> int:
        return self.settings.environment.response_tokens

    @property
    def _length(self) -> int:
        return self._prompt + self._response

    @property
    def _reference(self) -> Shape:
        return self._shape(self.build.reference_size)

    @property
    def _policy(self) -> Shape:
        return self._shape(self.settings.policy.size or self.build.reference_size)

    @property
    def _gold(self) -> Shape:
        return self._shape(self.build.gold_size)

    def _shape(self, size: int) -> Shape:
        return shape_for_budget(size, self.settings.environment.vocab)

    def _drawn(self, shape: Shape, prompts: int, samples: int) -> int:
        return sampling_flops(shape, prompts, samples, self._prompt, self._response)

    def _drawing(self, shape: Shape, prompts: int, samples: int) -> Memory:
        """Of the programs that draw so many responses each."""
        mine = share_of(prompts, self.machine.batch)
        return sampling_memory(shape, mine, samples, self._prompt, self._response).times(self.machine.programs)

    def _training(
        self, shape: Shape, rows: int, memory: int, *, text: bool, unit: int = 1, copies: int = 1
    ) -> tuple[int, Memory, int]:
        """(operations of a batch of so many rows, memory, rows at once); rows come in units that are never parted."""
        machine, length = self.machine, self._length - text
        flops = TRAINING * (text_flops if text else reading_flops)(shape, rows, length)
        fit = training_rows(shape, length, memory, predicts=text, copies=copies, devices=machine.model)
        parts = equal_parts(rows // unit, machine.batch * max(1, min(machine.rows, fit) // unit))
        at_once = share_of(rows // unit // parts, machine.batch) * unit
        taken = training_memory(shape, length, at_once, predicts=text).shared(machine.model)
        return flops, taken.times(copies), at_once

    def _world(self) -> Iterator[Stage]:
        build, advice = self.build, "environment.build.reference_size, gold_size or backbone_sizes"
        models = [(build.reference_size, build.reference_steps), (build.gold_size, build.gold_steps)]
        models += [(size, build.backbone_steps) for size in build.backbone_sizes]
        for size, steps in dict.fromkeys(models):
            flops, memory, rows = self._training(self._shape(size), build.batch, self.usable, text=True)
            yield Stage(f"language model {size:,}", steps * flops, memory, advice, WORLD, rows=rows)
        flops, memory, rows = self._training(self._reference, build.batch, self.usable, text=True)
        yield Stage("reference", self._tuning_steps * flops, memory, advice, WORLD, rows=rows)
        unit, drawn = build.gold_group_size, build.calibration_samples
        flops, memory, rows = self._training(self._gold, build.gold_batch * unit, self.usable, text=False, unit=unit)
        flops *= build.gold_groups // build.gold_batch
        flops += self._drawn(self._reference, drawn // 2, 2) + reading_flops(self._gold, drawn, self._length)
        yield Stage("gold", flops, memory, advice, WORLD, rows=rows)

    @property
    def _tuning_steps(self) -> int:
        return max(1, int(self.build.sft_epochs * self.snippets) // self.build.batch)

    def _initial_policy(self) -> Iterator[Stage]:
        """A policy of another size than the reference's, trained and tuned as that is."""
        flops, memory, rows = self._training(self._policy, self.build.batch, self.usable - self.resident, text=True)
        flops *= self.build.reference_steps + self._tuning_steps
        yield Stage("policy", flops, memory, "policy.size", (*WORLD, "policy"), self.resident, rows)

    def _comparisons(self) -> Iterator[Stage]:
        s = self.settings.comparisons
        flops = self._drawn(self._reference, s.num, s.group_size) + reading_flops(
            self._gold, s.num * s.group_size, self._length
        )
        memory = self._drawing(self._reference, max(2, comparisons.ROWS // s.group_size), s.group_size)
        yield Stage("comparisons", flops, memory, "environment.build.reference_size", LABELLED, self.resident)

    def _proxies(self, size: int) -> Stage:
        proxy, s, shape = self.settings.proxy, self.settings.comparisons, self._shape(size)
        held_out = held_out_groups(s.num, s.held_out)
        learnt = min(s.num - held_out, proxy.num_comparisons or s.num)
        steps = max(1, int(learnt * proxy.epochs) // proxy.batch)
        width = min(proxy.vmap_width, proxy.seeds)
        copies = width * min(ceil(proxy.seeds / width), self.machine.programs)
        kept, data = self._beside_proxies(size)
        batch = proxy.batch * s.group_size
        flops, memory, rows = self._training(
            shape, batch, self.room(size), text=False, unit=s.group_size, copies=copies
        )
        flops = proxy.seeds * (steps * flops + reading_flops(shape, held_out * s.group_size, self._length))
        memory = memory._replace(parameters=memory.parameters + kept, buffers=data)
        return Stage(
            f"proxies {size:,}", flops, memory, "proxy.vmap_width or proxy.seeds", PROXIES, self.resident, rows
        )

    def _beside_proxies(self, size: int) -> tuple[int, int]:
        """Bytes of the starts and the results of all seeds, and of the comparisons that they learn from."""
        kept = 2 * self.settings.proxy.seeds * parameter_bytes(self._shape(size)) // self.machine.model
        s = self.settings.comparisons
        return kept, FLOAT * s.num * s.group_size * (self._length + 2)

    def room(self, size: int) -> int:
        """Bytes of each device that are left to the proxies of a size in training."""
        return self.usable - self.resident - sum(self._beside_proxies(size))

    def _pool(self) -> Stage:
        s = self.settings.best_of_n
        memory = self._drawing(self._policy, s.prompts_at_once, s.samples_at_once)
        advice = "best_of_n.prompts_at_once or samples_at_once"
        return Stage("pool", self._drawn(self._policy, s.prompts, s.samples), memory, advice, POOL, self.resident)

    def _scores(self, name: str, size: int, members: int, depends: tuple[str, ...]) -> Stage:
        s, shape, machine = self.settings.best_of_n, self._shape(size), self.machine
        flops = members * s.prompts * s.samples * self._response * layer_flops(shape, self._length)
        one = scoring_memory(shape, members, machine.rows, self._prompt, self._response, waiting=BATCHES * machine.rows)
        memory = one.times(machine.programs)._replace(parameters=one.parameters).shared(machine.model)
        return Stage(f"{name} score the pool", flops, memory, "proxy.seeds", depends, self._with_proxies)

    def _optimized(self, size: int) -> Stage:
        rl, proxy = self.settings.rl, self._shape(size)
        runs, value = rl.proxy_seeds * rl.policy_seeds, self._value(proxy)
        flops = runs * (rl.max_steps * self._iteration(proxy, value) + self._most_points() * self._measured(proxy))
        advice = "rl.vmap_width or rl.prompts, raise rl.minibatches"
        sizes, lanes = self.rl_at_once
        memory = self._lanes(size).times(lanes)
        if sizes > 1:
            others = sorted(self._lanes(other).total for other in self.settings.proxy.sizes if other != size)
            beside = sum(others[1 - sizes :])
            memory = memory._replace(buffers=memory.buffers + lanes * beside)
        return Stage(f"RL against proxies {size:,}", flops, memory, advice, OPTIMIZED, self._with_proxies)

    @property
    def rl_at_once(self) -> tuple[int, int]:
        """(sizes, groups of lanes of each) that run side by side: as many as processors, where memory holds them."""
        rl, sizes, programs = self.settings.rl, self.settings.proxy.sizes, self.machine.programs
        groups = min(ceil(rl.proxy_seeds * rl.policy_seeds / rl.vmap_width), programs)
        each = sorted((self._lanes(size).total for size in sizes), reverse=True)
        room, together = self.usable - self._with_proxies, min(len(sizes), programs)
        if groups * sum(each[:together]) <= room:
            return together, groups
        return 1, max(1, min(groups, room // each[0]))

    @property
    def _with_proxies(self) -> int:
        """`resident`, and the proxies of every size, all of them kept from when the first is scored on."""
        seeds = self.settings.proxy.seeds
        every = sum(parameter_bytes(self._shape(size)) for size in self.settings.proxy.sizes)
        return self.resident + seeds * every // self.machine.model

    def _value(self, proxy: Shape) -> Shape | None:
        rl = self.settings.rl
        return None if rl.method != PPO.name else proxy if rl.value_start == "proxy" else self._policy

    def _lanes(self, size: int) -> Memory:
        """Of the lanes of one vmap against proxies of a size."""
        rl, proxy = self.settings.rl, self._shape(size)
        memory = lane_memory(
            self._policy,
            self._value(proxy),
            proxy,
            prompts=share_of(rl.prompts, self.machine.batch),
            samples=rl.samples,
            minibatches=rl.minibatches,
            prompt_tokens=self._prompt,
            response_tokens=self._response,
            text_rows=rl.ptx_rows if rl.ptx_coef > 0 else 0,
        )
        return memory.shared(self.machine.model).times(min(rl.vmap_width, rl.proxy_seeds * rl.policy_seeds))

    def _iteration(self, proxy: Shape, value: Shape | None) -> int:
        rl = self.settings.rl
        return policy_gradient_flops(
            self._policy,
            value,
            proxy,
            prompts=rl.prompts,
            samples=rl.samples,
            prompt_tokens=self._prompt,
            response_tokens=self._response,
            epochs=rl.epochs,
            text_rows=rl.minibatches * rl.ptx_rows if rl.ptx_coef > 0 else 0,
        )

    def _most_points(self) -> int:
        rl = self.settings.rl
        return 2 + min(rl.max_steps, ceil(sqrt(rl.kl_budget) / rl.spacing) + rl.max_steps // rl.measure_every)

    def _measured(self, proxy: Shape) -> int:
        prompts, samples = self.settings.best_of_n.prompts, self.settings.rl.measure_samples
        rows = prompts * samples
        scored = sum(reading_flops(shape, rows, self._length) for shape in (proxy, self._gold))
        read = response_flops(self._policy, rows, self._prompt, self._response)
        return self._drawn(self._policy, prompts, samples) + 2 * read + scored
