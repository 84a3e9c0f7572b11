"""Any sequence of calls that dispatchers, runners, sweepers and operators may make, stale ones among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from relayq_core.errors import RelayQError
from relayq_core.model import lifecycle, settling, sweeping
from relayq_core.model.backoff import Backoff, Exponential, Fixed
from relayq_core.model.bounds import Bounds
from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord, Status
from relayq_core.model.settling import Failed, Snoozed, Succeeded
from relayq_core.ports import Added, Answer, Settled
from tests.adversity.differential.twins import Engine, Twins, as_due

Which = Callable[[JobRecord], bool]
Strategy = st.SearchStrategy

jobs = st.integers(0, 2)
#: which of the jobs that a rule may be about
picks = st.integers(0, 5)
#: how old the caller's knowledge of it is: 0 is the newest that any caller saw
ages = st.sampled_from([0, 0, 0, 1, 2, 4])
#: what a caller's clock is ahead of the store's, milliseconds
skews = st.sampled_from([0, 0, 0, -5_000, 5_000, 1])
leases = st.sampled_from("abc")
waits = st.sampled_from([0, 0.001, 5, 60, 86_400])
texts = st.sampled_from(["ValueError: no", "", "ü" * 6_000, "two\nlines", "#"])
limits = st.sampled_from([1, 2, 5])
policies = st.sampled_from(
    [
        Policy(max_attempts=3, backoff=Fixed(10)),
        Policy(max_attempts=1, backoff=Exponential(10, cap=60, jitter=0.1), retention_ms=0, failed_retention_ms=1_000),
        Policy(max_attempts=2, backoff=Fixed(0), hands_off=False, max_wait_ms=0, stale_ms=1_000),
    ]
)
#: what a caller may have wrong about the job it holds
twists = st.sampled_from(["", "", "", "", "", "other lease", "no lease", "fewer attempts", "exhausted", "no key"])
options: Strategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "max_attempts": st.sampled_from([1, 2, 1000]),
        "backoff": st.sampled_from(
            [Fixed(0), Backoff("list", (0, 0.5, 3_600)), Exponential(10, cap=3_600, jitter=0.1)]
        ),
        "timeout_ms": st.sampled_from([1, 60_000]),
        "payload_json": st.sampled_from(["{}", '{"to":"ä@b.c"}', ""]),
        "parent_id": st.just("parent"),
        "root_id": st.just("root"),
        "trace_id": st.just("1-67891233-abcdef012345678912345678"),
        "depth": st.sampled_from([0, 1]),
    },
)


def _waits(record: JobRecord) -> bool:
    return record.status.is_waiting


def _is_new(record: JobRecord) -> bool:
    return record.status is Status.PENDING and record.attempt == 0


def _runs(record: JobRecord) -> bool:
    return record.status is Status.PROCESSING


def _any(record: JobRecord) -> bool:
    return True


def _is_due(record: JobRecord) -> bool:
    return record.due_at is not None


def _has_failed(record: JobRecord) -> bool:
    return record.status is Status.FAILED


def knows(which: Which) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Only once a caller has seen such a record."""
    return precondition(lambda machine: machine.anybody_saw(which))


class StoresAgree(RuleBasedStateMachine):
    """Each rule is a call, made of what was seen before; Twins compares the answers."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.twins = Twins(engine)
        self.clock = self.twins.clock
        #: every record of a job that a caller was shown, oldest first
        self.seen: dict[str, list[JobRecord]] = {job_id: [] for job_id in self.twins.ids}
        #: how often an id was given to a new job: leases are made at random, and never those of an earlier one
        self.lives = dict.fromkeys(self.twins.ids, 0)
        self.page: tuple[str, int, tuple[Any, Any]] | None = None

    # --- what was seen ---

    def anybody_saw(self, which: Which) -> bool:
        """There is something to be about."""
        return any(which(record) for known in self.seen.values() for record in known)

    def _known(self, pick: int, age: int, which: Which) -> JobRecord:
        """A record of some job, as it was seen some time ago."""
        fitting = [[record for record in known if which(record)] for known in self.seen.values()]
        known = [records for records in fitting if records]
        records = known[pick % len(known)]
        return records[-1 - min(age, len(records) - 1)]

    def _held(self, pick: int, age: int, twist: str) -> JobRecord:
        """A claimed job as its runner, or a sweeper, may have it in mind."""
        record = self._known(pick, age, _runs)
        match twist:
            case "other lease":
                return record.evolve(lease_id=self._lease("c", record.id))
            case "no lease":
                return record.evolve(lease_id=None)
            case "fewer attempts":
                return record.evolve(attempt=max(0, record.attempt - 1))
            case "exhausted":
                return record.evolve(exhausted=True)
            case "no key":
                return record.evolve(unique_pk=None, unique_for_ms=None)
        return record

    def _lease(self, letter: str, job_id: str) -> str:
        return f"lease-{letter}{self.lives[job_id]}"

    def _ask(self, verb: str, *args: Any) -> Any:
        """Ask both stores, and remember the records that they show."""
        try:
            answer = self.twins.ask(verb, *args)
        except RelayQError:
            return None
        self._remember(answer)
        if isinstance(answer, Answer):
            self._remember(answer.record)
        if isinstance(answer, Added):
            self._remember(answer.found)
        if answer == Added():
            self.lives[args[0].id] += 1
        return answer

    def _remember(self, record: object) -> None:
        if isinstance(record, JobRecord) and record not in self.seen[record.id][-1:]:
            self.seen[record.id].append(record)

    # --- time ---

    @initialize(
        lives=st.lists(
            st.tuples(st.sampled_from(["waiting", "running", "failed"]), st.sampled_from([None, None, 1_000])),
            min_size=1,
            max_size=3,
        )
    )
    def some_jobs(self, lives: list[tuple[str, int | None]]) -> None:
        """Most of what may be asked is about a job that is there."""
        policy = Policy(max_attempts=3, backoff=Fixed(10))
        for job, (life, window) in enumerate(lives):
            self.dispatch(job, 0, (0, 1, None)[job], window, 0, policy, {})
            if life != "waiting":
                self.claim_any(job, "a")
            running = self.seen[self.twins.ids[job]][-1]
            if life == "failed":
                self._settle(running, _outcome("bury", running, policy, self.clock.now(), 0, "ValueError: no"))

    @rule(ms=st.sampled_from([1, 999, 1_000, 10_000, 70_000, 3_600_000, 864_000_000, -5_000]), reap=st.booleans())
    def time_passes(self, ms: int, reap: bool) -> None:
        """And TTL may delete what has expired."""
        self.clock.advance(milliseconds=ms)
        if reap:
            self.twins.reap()

    # --- dispatch ---

    @rule(
        job=jobs,
        queue=st.integers(0, 1),
        key=st.sampled_from([None, 0, 0, 1]),
        window=st.sampled_from([None, None, 1, 1_000, 1_500, 60_000]),
        delay=st.sampled_from([0, 0, 0, 5_000, 864_000_000]),
        policy=policies,
        options=options,
    )
    def dispatch(
        self,
        job: int,
        queue: int,
        key: int | None,
        window: int | None,
        delay: int,
        policy: Policy,
        options: dict[str, Any],
    ) -> None:
        """A new job, or one whose id is taken."""
        now = self.clock.now()
        due_at, _ = lifecycle.plan_start(now + delay, policy, now=now)
        record = JobRecord(
            id=self.twins.ids[job],
            name="send_email",
            queue=self.twins.queues[queue],
            created_at=now,
            updated_at=now,
            available_at=now + delay,
            due_at=due_at,
            unique_pk=None if key is None else self.twins.keys[key],
            unique_for_ms=None if key is None else window,
            **options,
        )
        if self._ask("add", record) == Added():
            self._remember(record)

    @knows(_is_new)
    @rule(pick=picks, age=ages)
    def dispatch_again(self, pick: int, age: int) -> None:
        """A second try of a put whose answer was lost."""
        record = self._known(pick, age, _is_new)
        if self._ask("add", record) == Added():
            self._remember(record)

    # --- run ---

    @knows(_waits)
    @rule(pick=picks, lease=leases, skew=skews, budget=st.sampled_from([1_000, 890_000]))
    def claim(self, pick: int, lease: str, skew: int, budget: int) -> None:
        """A handoff has come, perhaps a late one."""
        job_id = self._known(pick, 0, _waits).id
        self._ask("claim", job_id, Lease(self._lease(lease, job_id), self.clock.now() + skew, budget, 10_000))

    @knows(_any)
    @rule(job=jobs, lease=leases)
    def claim_any(self, job: int, lease: str) -> None:
        """A handoff of a job that has ended, or never was."""
        job_id = self.twins.ids[job]
        self._ask("claim", job_id, Lease(self._lease(lease, job_id), self.clock.now(), 60_000, 10_000))

    @knows(_runs)
    @rule(pick=picks, policy=policies, text=texts)
    def complete(self, pick: int, policy: Policy, text: str) -> None:
        """The newest runner succeeds."""
        record = self._known(pick, 0, _runs)
        made = settling.settle(record, Succeeded(f'"{text}"'), _limits(policy), policy, now=self.clock.now(), draw=0.5)
        self._settle(record, made)

    @knows(_runs)
    @rule(
        pick=picks,
        age=ages,
        twist=twists,
        skew=skews,
        policy=policies,
        outcome=st.sampled_from(["delete", "complete", "fail", "fail", "bury", "snooze", "give back", "cancel"]),
        wait=waits,
        text=texts,
    )
    def settle(
        self, pick: int, age: int, twist: str, skew: int, policy: Policy, outcome: str, wait: float, text: str
    ) -> None:
        """Some runner ends its attempt in some way."""
        record = self._held(pick, age, twist)
        now = self.clock.now() + skew
        self._settle(record, _outcome(outcome, record, policy, now, wait, text))

    def _settle(self, record: JobRecord, settlement: Settlement) -> None:
        """As runner and sweeper write it."""
        if self._ask("settle", record, settlement) is Settled.DONE and settlement.keeps_row:
            self._remember(settlement.after)

    @knows(_runs)
    @rule(pick=picks, age=ages, twist=twists, note=st.sampled_from(["", "ü"]))
    def progress(self, pick: int, age: int, twist: str, note: str) -> None:
        """A handler reports how far it is."""
        self._ask("save_progress", self._held(pick, age, twist), f'{{"fraction":0.5,"note":"{note}"}}')

    # --- sweep ---

    @knows(_runs)
    @rule(
        pick=picks,
        age=ages,
        twist=twists,
        skew=skews,
        policy=policies,
        token=st.sampled_from(["sweep-a", "sweep-b"]),
        marked=st.booleans(),
    )
    def release(self, pick: int, age: int, twist: str, skew: int, policy: Policy, token: str, marked: bool) -> None:
        """A sweeper ends a lease; a cancel may have come before it looked."""
        record = self._held(pick, age, twist)
        now = self.clock.now() + skew
        read = record.evolve(cancel_requested_at=now) if marked else record
        self._settle(record, sweeping.release(read, policy, token=token, now=now, draw=0.5))

    @knows(_any)
    @rule(queue=st.integers(0, 1), ahead=st.sampled_from([-1, 0, 75_000, 10**12]), limit=limits)
    def look(self, queue: int, ahead: int, limit: int) -> None:
        """A sweeper asks for the first page of a shard."""
        self._look(f"{self.twins.queues[queue]}#0", self.clock.now() + ahead, limit, (None, None))

    @precondition(lambda machine: machine.page is not None)
    @rule(limit=limits)
    def look_on(self, limit: int) -> None:
        """It asks for the next page, though rows have come and gone."""
        assert self.page is not None
        shard, until, cursors = self.page
        self._look(shard, until, limit, cursors)

    def _look(self, shard: str, until: int, limit: int, cursors: tuple[Any, Any]) -> None:
        cursors = self.twins.page(shard, until, limit, cursors)
        self.page = None if None in cursors else (shard, until, cursors)

    @knows(_is_due)
    @rule(
        pick=picks,
        age=ages,
        shift=st.sampled_from([0, 0, 0, 1]),
        nudges=st.sampled_from([0, 0, 1, 2]),
        later=st.sampled_from([0, 30_000, 900_000]),
    )
    def nudge(self, pick: int, age: int, shift: int, nudges: int, later: int) -> None:
        """A sweeper hands off again, by an index that may lag."""
        self._ask("nudge", as_due(self._known(pick, age, _is_due), shift), nudges, self.clock.now() + later)

    @knows(_is_due)
    @rule(pick=picks, age=ages, shift=st.sampled_from([0, 0, 0, 1]), later=st.sampled_from([0, 30_000, 3_600_000]))
    def postpone(self, pick: int, age: int, shift: int, later: int) -> None:
        """A sweeper looks again later."""
        self._ask("postpone", as_due(self._known(pick, age, _is_due), shift), self.clock.now() + later)

    # --- ask and operate ---

    @knows(_any)
    @rule(
        question=st.sampled_from(["get", "get_failed", "get_many", "list_failed", "find_holder"]),
        chosen=st.lists(jobs, min_size=1, max_size=4),
        limit=limits,
    )
    def ask(self, question: str, chosen: list[int], limit: int) -> None:
        """A caller looks."""
        match question:
            case "get_many":
                self._ask(question, [self.twins.ids[job] for job in chosen])
            case "list_failed":
                self._ask(question, self.twins.queues[chosen[0] % 2], limit)
            case "find_holder":
                self._ask(question, self.twins.keys[chosen[0] % 2])
            case _:
                self._ask(question, self.twins.ids[chosen[0]])

    @knows(_waits)
    @rule(pick=picks, age=ages, policy=policies, fewer=st.sampled_from([0, 0, 0, 1]), skew=skews)
    def cancel_waiting(self, pick: int, age: int, policy: Policy, fewer: int, skew: int) -> None:
        """A caller cancels a job that was waiting when it looked."""
        record = self._known(pick, age, _waits)
        before = record.evolve(attempt=max(0, record.attempt - fewer))
        settlement = settling.cancel(before, policy, now=self.clock.now() + skew)
        if self._ask("cancel_waiting", before, settlement) is True:
            self._remember(settlement.after)

    @knows(_runs)
    @rule(pick=picks, age=ages, twist=twists, skew=skews)
    def mark_cancelled(self, pick: int, age: int, twist: str, skew: int) -> None:
        """A caller cancels a job that was running when it looked."""
        self._ask("mark_cancelled", self._held(pick, age, twist), self.clock.now() + skew)

    @knows(_runs)
    @rule(pick=picks, policy=policies, outcome=st.sampled_from(["complete", "fail", "bury", "snooze"]), text=texts)
    def end_what_was_cancelled(self, pick: int, policy: Policy, outcome: str, text: str) -> None:
        """The newest runner ends its attempt and has not seen the cancel. Rules of chance seldom meet here."""
        record = self._known(pick, 0, _runs)
        self._ask("mark_cancelled", record, self.clock.now())
        self._settle(record, _outcome(outcome, record, policy, self.clock.now(), 0, text))

    @knows(_has_failed)
    @rule(pick=picks, age=ages, policy=policies, skew=skews)
    def redrive(self, pick: int, age: int, policy: Policy, skew: int) -> None:
        """An operator brings a failure back, which may have come back already."""
        record = self._known(pick, age, _has_failed)
        settlement = settling.redrive(record, policy, now=self.clock.now() + skew)
        if self._ask("redrive", record, settlement) == Added():
            self._remember(settlement.after)

    @knows(_has_failed)
    @rule(pick=picks, other=jobs, policy=policies)
    def redrive_what_lost_its_key(self, pick: int, other: int, policy: Policy) -> None:
        """Since it failed its key has gone to another job. Rules of chance seldom meet here."""
        record = self._known(pick, 0, _has_failed)
        if record.unique_pk in self.twins.keys:
            key = self.twins.keys.index(record.unique_pk)
            self.dispatch(other, 0, key, None, 0, policy, {})
        self.redrive(pick, 0, policy, 0)

    @knows(_has_failed)
    @rule(job=jobs)
    def forget(self, job: int) -> None:
        """An operator deletes a failure."""
        self._ask("forget", self.twins.ids[job])

    @rule(
        what=st.sampled_from(
            ["register_queue", "register_queue", "crowd", "list_queues", "record_tick", "read_last_tick"]
        ),
        queue=st.sampled_from(["crowd-0", "crowd-1", "emails"]),
        crowd=st.sampled_from([99, 100]),
        counts=st.dictionaries(st.sampled_from(["nudged", "left"]), st.integers(1, 9), max_size=2),
    )
    def what_all_share(self, what: str, queue: str, crowd: int, counts: dict[str, int]) -> None:
        """Queues, up to their limit, and the sweeper's mark."""
        self.twins.share()
        match what:
            case "crowd":
                self.twins.crowd(crowd)
            case "register_queue":
                self._ask(what, queue)
            case "record_tick":
                self._ask(what, self.clock.now(), counts)
            case _:
                self._ask(what)

    @knows(_any)
    @rule(job=jobs)
    def spoil(self, job: int) -> None:
        """An operator edits a row by hand."""
        self.twins.spoil(self.twins.ids[job])

    def teardown(self) -> None:
        """The end of a sequence: all that is there must be the same."""
        try:
            self.twins.compare_whole()
            self.engine.report.sequences += 1
        finally:
            self.twins.close()


def _limits(policy: Policy) -> Bounds:
    return Bounds(max_attempts=policy.max_attempts, backoff=policy.backoff, timeout_ms=None, timeout_is_own=False)


def _outcome(outcome: str, record: JobRecord, policy: Policy, now: int, wait: float, text: str) -> Settlement:
    """What a runner makes of how its handler ended."""
    match outcome:
        case "delete":
            return _outcome("complete", record, policy.evolve(retention_ms=0), now, wait, text)
        case "complete":
            return settling.settle(record, Succeeded(), _limits(policy), policy, now=now, draw=0.5)
        case "fail":
            return settling.settle(record, Failed(text, text, wait), _limits(policy), policy, now=now, draw=0.5)
        case "snooze":
            return settling.settle(record, Snoozed(wait), _limits(policy), policy, now=now, draw=0.5)
        case "cancel":
            return settling.cancel(record.evolve(error=text), policy, now=now)
        case "give back" if (given_back := settling.give_back(record, policy, now=now)) is not None:
            return given_back
    return settling.bury_with(record, text, text, policy, now=now)
