"""What a diagnosis finds: faults by name, each with its evidence and what to do."""

from dataclasses import dataclass

FAULT, DOUBT, FINE, UNKNOWN = "fault", "doubt", "fine", "unknown"

# Slips that every such agent can have. Each is looked for, and said by this name.
ACTION_SHIFTED = "action one step off"
ACTION_KEPT = "previous action not reset with the state"
RESET_MISSING = "reset mask missing"
TRUNCATION = "truncation treated as termination"
CONTINUATION = "continuation unused in returns"
TWO_AHEAD = "bootstrap two steps ahead"
LEAKED = "leaked next frame"
NOT_ADVANCED = "state not advanced in the rollout"
COPIES = "overlapping copies in replay"
REPEAT_LOST = "action repeat lost after the first episode"
NOISE_REPORTED = "training returns reported with exploration noise"
NAMED = (
    ACTION_SHIFTED, ACTION_KEPT, RESET_MISSING, TRUNCATION, CONTINUATION, TWO_AHEAD, LEAKED, NOT_ADVANCED, COPIES,
    REPEAT_LOST, NOISE_REPORTED,
)  # fmt: skip

# What else is said.
RETURNS_DIFFER = "returns are not those of the recording"
REPLAY_DIFFERS = "replay is not what was recorded"
FILTER_DIFFERS = "filter departs from the model"
UNDEFINED_RETURNS = "returns are not what they are defined to be"
NO_ACTIONS = "predictions ignore the actions"
REWARD_OFF = "rewards are predicted off"
ENDS_OFF = "ends are predicted off"
DEAD = "latents are dead"
AWAY = "dreams leave what was seen"
UNTRIED = "actions are hardly tried"


@dataclass(frozen=True)
class Finding:
    """One check: its ``name``, how it came out, the ``evidence`` in numbers, and what to do if it is not fine.

    ``severity``: "fault" (something is wrong), "doubt" (it may be: numbers that are known up to chance, or what only
    whoever knows the environment can tell), "fine", or "unknown" (it could not be checked).
    """

    name: str
    severity: str
    evidence: str
    help: str = ""

    def __str__(self) -> str:
        mark = {FAULT: "FAULT", DOUBT: "doubt"}.get(self.severity, self.severity)
        after = f"; {self.help}" if self.help and self.severity in (FAULT, DOUBT) else ""
        return f"{self.name}: {mark} ({self.evidence}){after}"


def worst(name: str, each: list[Finding]) -> Finding:
    """One finding of several of a name: the worst, with the evidence of all that are as bad."""
    order = (FAULT, DOUBT, FINE, UNKNOWN)
    least = min(order.index(one.severity) for one in each)
    chosen = [one for one in each if one.severity == order[least]]
    said = dict.fromkeys(one.evidence for one in chosen)
    return Finding(name, order[least], "; ".join(said), next((one.help for one in chosen if one.help), ""))


def merged(found: list[Finding]) -> tuple[Finding, ...]:
    """All findings, one a name: the named slips first, the others as they came."""
    names = dict.fromkeys([*NAMED, *(one.name for one in found)])
    groups = {name: [one for one in found if one.name == name] for name in names}
    return tuple(worst(name, each) for name, each in groups.items() if each)
