"""Which modules train() and eval() reach, what they leave unchanged, and how dropout follows."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all, compare, fact
from probes.train_eval.state import integers, to_tensor

ROWS: Final = 8
FEATURES: Final = 6


class _Leaf(nn.Module):
    """A user's own module, with a layer in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x)  # type: ignore[no-any-return]


class _Tree(nn.Module):
    """Every way to have a child: attribute, list, dict, sequence, nested, added by name."""

    def __init__(self) -> None:
        super().__init__()
        self.own = _Leaf()
        self.listed = nn.ModuleList([_Leaf(), nn.BatchNorm1d(FEATURES)])
        self.named = nn.ModuleDict({"a": _Leaf(), "b": nn.Sequential(nn.Dropout(0.5), _Leaf())})
        self.add_module("added", nn.Sequential(nn.Sequential(nn.Dropout(0.5))))
        self.shared = self.own  # one module in two places

    def dropouts(self) -> Iterator[nn.Module]:
        """Iterate over the dropout layers."""
        return (module for module in self.modules() if isinstance(module, nn.Dropout))


def reached_modules(device: str) -> list[Comparison]:
    """Verify that a mode reaches every module below, and no module above."""

    def modes(root: nn.Module) -> set[bool]:
        return {module.training for module in root.modules()}

    def facts() -> list[Comparison]:
        tree = _Tree().to(device)
        count = sum(1 for _ in tree.modules())
        comparisons = [fact("modules", count, 17), fact("a new module trains", modes(tree), {True})]
        for name, call, right in (
            ("eval()", tree.eval, False),
            ("train()", tree.train, True),
            ("train(False)", partial(tree.train, False), False),
            ("train(True)", partial(tree.train, True), True),
        ):
            comparisons.append(fact(f"{name} gives the module", call() is tree, True))
            comparisons.append(fact(name, modes(tree), {right}))
        tree.named["b"].eval()
        comparisons += [
            fact("a child's eval() reaches its own", modes(tree.named["b"]), {False}),
            fact("and not its parent", (tree.training, modes(tree.own)), (True, {True})),
        ]
        tree.eval()
        tree.add_module("late", nn.Dropout(0.5))
        comparisons.append(fact("a late child keeps its own mode", modes(tree), {True, False}))
        return comparisons

    return attempted_all("recurse", facts, device)


def nested_dropout(device: str) -> list[Comparison]:
    """Compare nested dropout layers while their root goes to eval(), train() and eval()."""

    def facts() -> list[Comparison]:
        x = integers((ROWS, 512), 31) * 2 + 1
        tree, tensor = _Tree().to(device), to_tensor(x, device)
        comparisons = []
        for turn, training in enumerate((False, True, False)):
            tree.train(training)
            for place, module in enumerate(tree.dropouts()):
                out = module(tensor).cpu().numpy()
                name = f"turn {turn}, dropout {place}, {'train' if training else 'eval'}"
                if training:  # 4096 values with p = 0.5: fewer than 1664 zeros are 12 sigma off
                    zeros = int((out == 0).sum())
                    comparisons.append(fact(f"{name}: drops", 1664 <= zeros <= 2432, True))
                else:
                    comparisons.append(compare(name, out, x.astype(np.float32)))
        return comparisons

    return attempted_all("behave", facts, device)


def gradients(device: str) -> list[Comparison]:
    """Verify that eval() does not turn gradients off, and no_grad() does not change the mode."""

    def facts() -> list[Comparison]:
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).to(device)
        x = to_tensor(integers((2, 4)), device)
        model.eval()
        required = [parameter.requires_grad for parameter in model.parameters()]
        comparisons = [
            fact("eval() leaves requires_grad", required, [True, True]),
            fact("a result in eval() has a graph", model(x).grad_fn is not None, True),
        ]
        with torch.no_grad():
            comparisons.append(
                fact("no_grad() leaves the mode", model.train() is model and model.training, True)
            )
            ones = torch.ones(4096, device=device)
            dropped = int((model[1](ones) == 0).sum().item())
            comparisons.append(fact("dropout drops in no_grad()", 1664 <= dropped <= 2432, True))
        return comparisons

    return attempted_all("gradients", facts, device)
