"""A session of training resumes what its checkpoint holds, says what has changed, and ends only if all is saved."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from harness.faults import catches
from kakusan.errors import InputError, PeerFailed, SaveError
from kakusan.run import session
from kakusan.run.session import Session


def resumed(monkeypatch, made_by, progress=0.5):
    """A session that is about to resume at step 9, and what it says and does."""
    seen = {"told": []}
    family = SimpleNamespace(is_cheap=lambda config: seen.get("cheap", False), start_lines=lambda module: ["clusters"])
    fakes = {
        "tell": seen["told"].append,
        "count_parameters": lambda module: 1234,
        "family_of": lambda config: family,
        "cautions": lambda dataset: ["odd values"],
        "origin": lambda *given: seen.update(origin=given) or {"data": given[2], "new": "fingerprint"},
        "check_origin": lambda path, before, now: seen.update(before=before) or ["threads changed"],
        "finish": lambda *given: seen.update(finished=given),
        "effort_of": lambda trainer: "effort",
        "step_bytes": lambda trainer: seen.update(measured=True) or 1,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(session, name, fake)
    monkeypatch.setattr(session.checkpoint, "load", lambda trainer, newest: seen.update(loaded=newest))
    monkeypatch.setattr(session.checkpoint, "check_room", lambda *given: seen.update(room=given))
    one = Session.__new__(Session)
    run = SimpleNamespace(path="r", checkpoints="c", cut_history=lambda step: seen.update(cut=step))
    dataset = SimpleNamespace(
        describe=lambda: "data", matches=lambda known: known == "older digest", digest=lambda: "d"
    )
    recipe = SimpleNamespace(name="vae", model=None, optim=SimpleNamespace(batch=8))
    one.job = SimpleNamespace(
        run=run, dataset=dataset, recipe=recipe, module="m", seed=3, device="cpu", budget="9 steps", first_data="first"
    )
    state = SimpleNamespace(step=9, marks=8, made_by=made_by)
    one.trainer = SimpleNamespace(
        progress=progress, state=state, num_parallel=2, stopped_by=0, settings=SimpleNamespace(compile="none"),
        run=lambda *given: True,
    )  # fmt: skip
    one.newest, one.fresh, one.failed, one.progress = "newest", False, None, nullcontext()
    return one, seen


@catches("""run/session.py: measurements after the checkpoint of a resumed run stay
- distributed.on_rank0(lambda: run.cut_history(trainer.state.step))
+ pass""")
@catches("""run/session.py: a fingerprint does not know how many micro-batches are computed in parallel
-             trainer.num_parallel,
+             1,""")
@catches("""run/session.py: data of version 0.3 count as other data
- known if known is not None and job.dataset.matches(known) else job.dataset.digest(),
+ job.dataset.digest(),""")
@pytest.mark.parametrize(
    ("made_by", "progress", "marks", "data"),
    [({"data": "older digest"}, 0.5, 5, "older digest"), ({"data": "other"}, 0.6, 6, "d"), ({}, 1.0, 8, "d")],
)
def test_a_resumed_session_has_its_checkpoint_marks_and_fingerprint(monkeypatch, made_by, progress, marks, data):
    one, seen = resumed(monkeypatch, made_by, progress)
    one._prepare()
    assert one.trainer.state.marks == marks
    assert (seen.get("loaded"), seen.get("cut")) == ("newest", 9)
    assert seen["origin"] == (one.job.recipe, 3, data, "cpu", 1, 2, "first")
    assert one.trainer.state.made_by == {"data": data, "new": "fingerprint"}
    warned = ["warning: resume is not bit-exact: threads changed"] if made_by else []
    assert seen["told"] == ["data", *warned, "vae: resuming from step 9, 9 steps; writing r"]
    assert seen.get("before", made_by) == made_by


@catches("""run/session.py: a new run says nothing of odd data
- [*cautions(job.dataset), *family_of
+ [*family_of""")
def test_a_new_session_says_what_is_odd_and_checks_the_disk(monkeypatch):
    one, seen = resumed(monkeypatch, {})
    one.fresh = True
    one._prepare()
    assert seen["told"] == ["data", "odd values", "clusters", "vae: 1,234 parameters on cpu, 9 steps; writing r"]
    assert (seen["room"], "loaded" in seen) == (("c", "m"), False)


@catches("""run/session.py: the memory of a step is measured though its network is compiled
- if not self._cheap_step or self.trainer.settings.compile != "none":
+ if not self._cheap_step:""")
@pytest.mark.parametrize(
    ("cheap", "compiled", "measured"), [(True, "none", True), (True, "default", False), (False, "none", False)]
)
def test_the_memory_of_a_step_is_measured_if_that_is_quick(monkeypatch, cheap, compiled, measured):
    one, seen = resumed(monkeypatch, {})
    seen["cheap"], one.trainer.settings = cheap, SimpleNamespace(compile=compiled)
    monkeypatch.setattr(session, "available_bytes", lambda device: 100)
    one._check_memory()
    assert ("measured" in seen) == measured


@catches("""run/session.py: a run whose last checkpoint could not be saved counts as finished
- if self.failed is not None:
+ if False:""")
def test_a_session_is_finished_only_at_the_end_of_its_budget_and_if_all_is_saved(monkeypatch):
    one, seen = resumed(monkeypatch, {})
    monkeypatch.setattr(one, "_prepare", lambda: None)
    monkeypatch.setattr(type(one), "_cheap_step", False)
    one.progress = Progress()
    one.failed = SaveError("the disk is full")
    with pytest.raises(SaveError, match="the disk is full"):
        one.train()
    assert "finished" not in seen
    one.failed, one.trainer.run, one.trainer.stopped_by = None, lambda *given: False, 15
    assert one.train() == 15
    assert "finished" not in seen
    one.trainer.run, one.trainer.stopped_by = lambda *given: True, 0
    assert one.train() == 0
    assert seen["finished"] == (one.job.run, one.job.recipe, one.job.dataset, one.trainer)


class Progress:
    """A progress line that shows nothing."""

    effort = update = None

    def __enter__(self):
        return self

    def __exit__(self, *given):
        pass


def test_a_failed_save_is_told_and_the_next_one_forgets_it(monkeypatch):
    one, seen = resumed(monkeypatch, {})
    one.intact = {"step-1"}
    results = iter([SaveError("the disk is full"), PeerFailed("a process failed"), "step-2"])

    def save(trainer, folder, intact):
        assert (trainer, folder, intact) == (one.trainer, "c", {"step-1"})
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(session.checkpoint, "save", save)
    for words in ("the disk is full", "a process failed"):
        one._on_save(one.trainer)
        assert seen["told"][-1] == f"{words}; training continues, the next save tries again"
        assert str(one.failed) == words
    one._on_save(one.trainer)
    assert (one.failed, one.intact) == (None, {"step-1", "step-2"})
    assert len(seen["told"]) == 2


def marked(monkeypatch):
    """A session at a mark whose history has step 5 only, and what it does there."""
    one, seen = resumed(monkeypatch, {})
    seen["history"] = [{"step": 5}]
    one.job.run.history, one.job.run.append_history = (lambda: seen["history"]), seen["history"].append
    one.progress, one._rate_before = SimpleNamespace(measured="", effort=SimpleNamespace(flops=2e6)), None
    monkeypatch.setattr(session, "averaged_model", lambda trainer, recipe, dataset: "model")
    monkeypatch.setattr(session, "measure", lambda *given: {"step": 9, "examples_per_second": 61.7283951})
    monkeypatch.setattr(session, "measured_words", lambda line, dataset: "words")
    monkeypatch.setattr(session, "draw", lambda *given: seen.update(drawn=given))
    return one, seen


def test_a_mark_is_measured_once_with_its_operations_per_second_to_four_digits(monkeypatch):
    one, seen = marked(monkeypatch)
    one._on_mark(one.trainer)
    assert seen["history"] == [{"step": 5}, {"step": 9, "examples_per_second": 61.7283951, "gflops_per_second": 0.1235}]
    assert seen["drawn"] == ("model", one.trainer, one.job.dataset, one.job.run)
    assert one.progress.measured == "words"
    one._on_mark(one.trainer)
    assert len(seen["history"]) == 2
    one.trainer.state.step, one.progress.effort.flops = 10, 0  # pyrefly: ignore[read-only]
    one._on_mark(one.trainer)
    assert "gflops_per_second" not in seen["history"][-1]


def test_training_continues_if_a_mark_cannot_be_measured_unless_another_process_failed(monkeypatch):
    one, seen = marked(monkeypatch)

    def fails(error):
        raise error

    monkeypatch.setattr(session, "draw", lambda *given: fails(InputError("not finite")))
    one._on_mark(one.trainer)
    assert seen["told"] == ["not finite; training continues"]
    one.trainer.state.step = 11
    monkeypatch.setattr(session, "measure", lambda *given: fails(PeerFailed("gone")))
    with pytest.raises(PeerFailed):
        one._on_mark(one.trainer)


@pytest.mark.parametrize(("needed", "told"), [(89, None), (91, "caution"), (150, "caution"), (151, "refused")])
def test_a_step_is_refused_from_one_and_a_half_times_the_free_memory_on(monkeypatch, needed, told):
    one, seen = resumed(monkeypatch, {})
    seen["cheap"] = True
    monkeypatch.setattr(session, "available_bytes", lambda device: 100)
    monkeypatch.setattr(session, "step_bytes", lambda trainer: needed)
    if told == "refused":
        with pytest.raises(InputError, match="a step needs about 0"):
            one._check_memory()
    else:
        one._check_memory()
    assert [line.split(":")[0] for line in seen["told"]] == ([told] if told == "caution" else [])
    monkeypatch.setattr(session, "available_bytes", lambda device: None)
    one._check_memory()


def test_several_processes_are_told_with_their_number_and_kind_of_device(monkeypatch):
    job = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    monkeypatch.setattr(session.distributed, "world_size", lambda: 3)
    assert session._place(job) == "3 x cuda"


@pytest.mark.parametrize(
    ("rate", "error", "told"),
    [(102.0, None, False), (102.1, None, True), (103.9, 1.0, False), (104.1, 1.0, True), (None, None, False)],
)
def test_a_rise_is_explained_if_two_standard_errors_leave_more_than_two_percent_of_it(monkeypatch, rate, error, told):
    one, seen = resumed(monkeypatch, {})
    one._rate_before = 100.0
    one._explain_a_rise({"bits_per_dim": rate, "standard_error": error})
    assert seen["told"] == (
        ["bits/dim rose: early in training it may, while samples improve; the report says why"] if told else []
    )


@pytest.mark.parametrize("newest", [None, "step-3"])
def test_a_session_knows_that_its_first_checkpoint_is_intact_and_tells_progress_in_the_unit_of_the_data(
    monkeypatch, newest
):
    trainer = SimpleNamespace(settings=SimpleNamespace(batch=7))
    monkeypatch.setattr(session, "trainer_of", lambda job: trainer)
    monkeypatch.setattr(session, "memory_errors", lambda recipe: nullcontext())
    monkeypatch.setattr(session, "ProgressLine", lambda batch, unit: (batch, unit))
    job = SimpleNamespace(recipe=None, dataset=SimpleNamespace(form=SimpleNamespace(unit="nats")))
    one = Session(job, newest, fresh=False)
    assert (one.newest, one.intact) == (newest, {newest} if newest else set())
    assert (one.progress, one.failed, one.fresh) == ((7, "nats"), None, False)
