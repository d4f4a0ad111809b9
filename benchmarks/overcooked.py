"""What people do next in Overcooked: a mixture of policies beside a table of counts and a GRU in PyTorch.

The policy is that of ``recipes/overcooked_people.py``, learned here in the same run. The GRU sees the same numbers at
every step, reads them with a layer of its own, and is stopped by the same rule: best on pairs to learn from that are
held out, its rate falling to zero along a cosine. It is learned once for each kitchen, and once for all of them. Values
are nats an action of the published held-out pairs; ``quality`` is the difference of nats of the actions that are not to
stay. Intervals in the details: games drawn again.
"""

import sys
from pathlib import Path
from typing import Any

import common
import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
import overcooked_people as people

WIDTH, WINDOW, BEFORE, BATCH = 128, 200, 30, 16


class Reader:
    """A GRU: dropout, a layer, dropout, the unit; logits of both the layer and the unit."""

    def __init__(self, scale: Any, seed: int = 0) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(common.PINNED)
        torch.manual_seed(seed)
        self.scale, self.rng = scale, np.random.default_rng(seed)
        inputs = len(scale.mean)
        self.parts = nn.ModuleDict(
            {
                "thin": nn.Dropout(0.1),
                "read": nn.Linear(inputs, WIDTH),
                "drop": nn.Dropout(0.3),
                "unit": nn.GRU(WIDTH, WIDTH, batch_first=True),
                "out": nn.Linear(2 * WIDTH, 6),
            }
        )

    def log_probs(self, seen: Any) -> Any:
        """[B, T, 6]."""
        import torch

        net = self.parts
        read = net["drop"](torch.nn.functional.silu(net["read"](net["thin"](seen))))
        states, _ = net["unit"](read)
        return torch.log_softmax(net["out"](torch.cat([net["drop"](states), read], -1)), -1)

    def log_policies(self, some: Any) -> list[np.ndarray]:
        """log p(every action | so far) [T, 6] of every seat."""
        import torch

        self.parts.eval()
        with torch.inference_mode():
            found = []
            for seat in some:
                logs = self.log_probs(torch.from_numpy(self.scale(seat.seen))[None])[0].numpy()
                found.append(logs)
        self.parts.train()
        return found

    def learn(self, learned: Any, held_out: Any, epochs: int, rate: float = 2e-3) -> "Reader":
        """By windows of steps, which the unit reads from some steps before."""
        import torch

        seen = [torch.from_numpy(self.scale(seat.seen)) for seat in learned]
        acted = [torch.from_numpy(seat.action.astype(np.int64)) for seat in learned]
        windows = [(i, t) for i, seat in enumerate(learned) for t in range(0, len(seat.action), WINDOW)]
        tool = torch.optim.AdamW(self.parts.parameters(), rate, weight_decay=1e-2)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(tool, epochs * max(1, len(windows) // BATCH))
        best, kept = np.inf, {}
        for epoch in range(epochs):
            order = self.rng.permutation(len(windows))
            for at in range(0, max(1, len(order) - BATCH + 1), BATCH):
                loss = -self._window(seen, acted, [windows[i] for i in order[at : at + BATCH]])
                tool.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
                tool.step()
                falling.step()
            value = people.nats(held_out, people.chosen(held_out, self.log_policies(held_out)))
            print(f"overcooked: GRU, epoch {epoch}: {value:.4f} on held-out pairs to learn from", file=sys.stderr)
            if value < best:
                best, kept = value, {name: each.clone() for name, each in self.parts.state_dict().items()}
        self.parts.load_state_dict(kept)
        return self

    def _window(self, seen: Any, acted: Any, windows: Any) -> Any:
        """The mean log-likelihood of some windows."""
        import torch

        long = BEFORE + WINDOW
        inputs, actions = torch.zeros(len(windows), long, len(self.scale.mean)), torch.zeros(len(windows), long).long()
        counted = torch.zeros(len(windows), long)
        for row, (i, t) in enumerate(windows):
            begin, end = max(0, t - BEFORE), min(t + WINDOW, len(acted[i]))
            inputs[row, : end - begin], actions[row, : end - begin] = seen[i][begin:end], acted[i][begin:end]
            counted[row, t - begin : end - begin] = 1
        logs = self.log_probs(inputs).gather(2, actions[..., None])[..., 0]
        return (logs * counted).sum() / counted.sum()


def run(options: common.Options) -> list[common.Case]:
    """A case a kitchen."""
    out = options.out or Path("overcooked_people")
    out.mkdir(parents=True, exist_ok=True)
    everybody = people.seats(1 if options.quick else None)
    learned = [seat for seat in everybody if not seat.held_out]
    smaller = {"members": 2, "epochs": 1} if options.quick else {}
    model = people.policy(learned, jax.random.key(0), out, **smaller)
    scale = model[1]
    fold = people.FOLDS[0]
    first, rest = ([seat for seat in learned if (seat.pair in fold) == held] or learned for held in (True, False))
    of_all = Reader(scale).learn(rest, first, 1 if options.quick else 20)
    cases = []
    for kitchen in people.KITCHENS:
        here = [seat for seat in everybody if seat.held_out and seat.kitchen == kitchen]
        shown = [seat for seat in learned if seat.kitchen == kitchen]
        last = sorted({seat.pair for seat in shown})[-2:]
        kept, others = ([seat for seat in shown if (seat.pair in last) == held] or shown for held in (True, False))
        of_one = Reader(people.Scale(people.together(others, "seen"))).learn(others, kept, 1 if options.quick else 30)
        logs, shared = people.log_policies(model, here), of_all.log_policies(here)
        ours = people.chosen(here, people.personal(here, logs))
        theirs = {
            "counts": people.counts(shown, here),
            "GRU of this kitchen": people.chosen(here, of_one.log_policies(here)),
            "GRU of all kitchens": people.chosen(here, shared),
        }
        without = people.chosen(here, logs)
        lent = people.chosen(here, people.personal(here, shared))
        value, peers, details = people.nats(here, ours), {}, {"games": len(here) // 2}
        for name, logs in theirs.items():
            whole, active = (people.gain(here, ours, logs, part) for part in (False, True))
            version = "" if name == "counts" else common.version("torch")
            nats = people.nats(here, logs)
            peers[name] = common.Peer(version, nats, nats / value, -active[0])
            details[f"gain over {name}, all steps"] = [round(each, 4) for each in whole]
            details[f"gain over {name}, not to stay"] = [round(each, 4) for each in active]
            details[f"{name}, not to stay"] = round(people.nats(here, logs, True), 4)
        details["ours, not to stay"] = round(people.nats(here, ours, True), 4)
        details["ours without the person's latent: all, not to stay"] = [
            round(people.nats(here, without, part), 4) for part in (False, True)
        ]
        details["GRU of all kitchens with our latent of a person: all, not to stay"] = [
            round(people.nats(here, lent, part), 4) for part in (False, True)
        ]
        details["gain over that"] = [round(each, 4) for each in people.gain(here, ours, lent)]
        cases.append(common.Case(kitchen, "an action of held-out pairs", "nats", value, None, peers, details))
    return cases


CASES: dict[str, common.Function] = {"people": run}

if __name__ == "__main__":
    common.main("overcooked", __doc__, CASES, tuple(CASES))
