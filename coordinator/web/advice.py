"""Says in plain words how a run is: whether everything is all right, and how good the model is.

For a care-home manager, not for an engineer. Pure. Sentences may hold `{time}`, see `notices.py`.
"""

from dataclasses import dataclass

from coordinator.web import words
from coordinator.web.live_run import LiveRun
from coordinator.web.plan import Plan
from coordinator.web.troubles import SETTLING_S, Troubles


@dataclass(frozen=True, slots=True)
class Headline:
    """Whether everything is all right, in one sentence; `level` is `ok`, `info`, `warn` or `bad`."""

    level: str
    text: str
    detail: str = ""
    at: float | None = None


NO_RUN = Headline("info", "No training has been started yet.", "This page shows the next one as soon as it starts.")


def state_of(live: LiveRun, running: bool) -> str:
    """`running`, `finished`, `aborted`, `stopped` on purpose, or `broken-off`."""
    if running:
        return "running"
    name = live.turn.name if live.turn is not None else ""
    return name if name in ("finished", "aborted", "stopped") else "broken-off"


def headline(live: LiveRun, plan: Plan, running: bool, troubles: Troubles, now_s: float) -> Headline:
    """How things are."""
    state = state_of(live, running)
    if state == "running":
        return _running(live, plan, troubles, now_s)
    turn_at = live.turn.at if live.turn is not None else live.last_at
    if state == "finished":
        goal = _reached(live, plan)
        return Headline(
            "ok", "Training is finished.", f"It ended at {{time}}{goal}. Nothing needs to be done.", turn_at
        )
    if state == "aborted":
        why = live.turn.detail if live.turn is not None else ""
        return Headline(
            "bad", "Training has ended early.", f"It gave up at {{time}}. For your technician: {why}.", turn_at
        )
    if state == "stopped":
        return Headline(
            "warn", "Training has been stopped.", f"Since {{time}}. {_resume(plan)} Nothing is lost.", turn_at
        )
    return Headline(
        "bad",
        "Training has stopped unexpectedly.",
        "The last sign of life was at {time}. Check that the training computer is switched on. "
        f"{_resume(plan)} Nothing is lost.",
        live.last_at,
    )


def model_sentences(live: LiveRun, plan: Plan, running: bool) -> list[str]:
    """How good the model is and how it got better."""
    rounds = list(live.rounds.values())
    if not rounds:
        return ["The first round has not been finished yet."]
    scores = [(r.number, r.accuracy) for r in rounds if r.accuracy is not None]
    if not scores or not plan.measures_accuracy:
        return _training_error([r.train_loss for r in rounds if r.train_loss is not None])
    (first_round, first), (_, last) = scores[0], scores[-1]
    out = [f"The model gets {words.of_hundred(last)} test examples right."]
    if len(scores) > 1:
        out.append(f"After round {first_round} it was {words.of_hundred(first)}.")
        if running:
            out.append(_trend([score for _, score in scores]))
    if plan.target_accuracy is not None:
        out.append(f"The goal of {words.of_hundred(plan.target_accuracy)} {_progress_to(plan.target_accuracy, last)}.")
    return out


def _running(live: LiveRun, plan: Plan, troubles: Troubles, now_s: float) -> Headline:
    if not live.broker_connected:
        if live.turn is not None and now_s - live.turn.at < SETTLING_S and live.broker_since == live.turn.at:
            return Headline("info", "Training is starting.", "This takes a few seconds.")
        return Headline(
            "bad",
            "Training is paused: the message server does not answer.",
            "No answer since {time}. Check that the computer it runs on (the broker) has power and network. "
            "Training goes on by itself afterwards.",
            live.broker_since,
        )
    there = sum(device.online for device in live.devices.values())
    needed = plan.min_updates if live.last_round else max(plan.min_agents, plan.min_updates)
    if live.open_round is None and there < needed:
        return Headline(
            "info" if not live.last_round else "warn",
            f"Training is waiting for rooms: {there:,} of the {needed:,} needed are there.",
            "It starts by itself as soon as enough have answered.",
        )
    trouble = len(troubles.agent_ids)
    progress = _progress(live, plan)
    if trouble:
        needs = "needs" if trouble == 1 else "need"
        return Headline("warn", f"Training goes on, but {words.count(trouble, 'room')} {needs} a look.", progress)
    took = words.count(there, "room takes", "rooms take")
    return Headline("ok", "Everything is all right.", f"{progress} {took} part.")


def _progress(live: LiveRun, plan: Plan) -> str:
    if live.open_round is not None:
        return f"Round {live.open_round.number:,} of {plan.rounds:,} is under way."
    if live.last_round:
        return f"{live.last_round:,} of {words.count(plan.rounds, 'round')} finished."
    return "The first round is about to begin."


def _reached(live: LiveRun, plan: Plan) -> str:
    rounds = words.count(live.last_round, "round")
    last = live.rounds.get(live.last_round)
    accuracy = last.accuracy if last is not None else None
    if plan.target_accuracy is not None and accuracy is not None and accuracy >= plan.target_accuracy:
        return f" after {rounds}, with its goal reached"
    return f" after {rounds}"


def _resume(plan: Plan) -> str:
    return f"Your technician can continue it with: coordinator resume {plan.run_id}."


def _training_error(losses: list[float]) -> list[str]:
    if not losses:
        return ["How good the model is, is not measured in this run."]
    change = f"went from {losses[0]:.2f} to {losses[-1]:.2f}" if len(losses) > 1 else f"is {losses[0]:.2f}"
    return [
        "How good the model is, is not measured in this run.",
        f"The error on the rooms' own examples {change} (lower is better).",
    ]


def _progress_to(target: float, accuracy: float) -> str:
    if accuracy >= target:
        return "is reached"
    return "is almost reached" if words.of_hundred(accuracy) == words.of_hundred(target) else "is not reached yet"


def _trend(scores: list[float], window: int = 5) -> str:
    """How the latest rounds compare with those before."""
    if len(scores) <= window:
        return "It gets better." if scores[-1] > scores[0] else "It has not become better yet."
    gain = max(scores[-window:]) - max(scores[:-window])
    if gain > 0.005:
        return "It still gets better."
    return "It has hardly changed lately." if gain > -0.02 else "It has become worse lately."
