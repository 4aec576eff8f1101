"""The pretended device refuses what CUDA refuses, and counts what waits there."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.pretend import pretended
from tests.support.pretend_mode import CARD, MixedDevicesError, Seen, place


@pytest.fixture
def card() -> Iterator[Seen]:
    with pretended() as seen:
        yield seen


def on_card(*sides: int) -> torch.Tensor:
    return torch.ones(sides, device="cuda")


MIXED: dict[str, Callable[[], object]] = {
    "matmul": lambda: on_card(2, 2) @ torch.ones(2, 2),
    "add": lambda: on_card(2) + torch.ones(2),
    "cat": lambda: torch.cat([on_card(1), torch.ones(1)]),
    "stack of numbers": lambda: torch.stack([on_card(), torch.ones(())]),
    "loss": lambda: functional.cross_entropy(on_card(2, 3), torch.zeros(2, dtype=torch.long)),
    "layer": lambda: nn.Linear(2, 2)(on_card(1, 2)),
    "card index of the host": lambda: torch.ones(3)[torch.zeros(1, dtype=torch.long, device="cuda")],
    "generator": lambda: torch.rand(2, device="cuda", generator=torch.Generator()),
    "generator of the card": lambda: torch.rand(2, generator=torch.Generator("cuda")),
    "gradient": lambda: setattr(on_card(1).requires_grad_(), "grad", torch.ones(1)),
    "copy that may not have arrived": lambda: on_card(2).to("cpu", non_blocking=True),
}
WAITS: dict[str, Callable[[], object]] = {
    "item": lambda: on_card(1).item(),
    "__float__": lambda: float(on_card()),
    "__bool__": lambda: bool(on_card(2).any()),
    "nonzero": lambda: on_card(2).nonzero(),
    "bincount": lambda: on_card(2).long().bincount(),
    "unique": lambda: on_card(2).unique(),
    "where of a condition alone": lambda: torch.where(on_card(2) > 0),
    "index by a mask": lambda: on_card(2)[on_card(2) > 0],
    "index by a value of the device": lambda: on_card(2)[on_card().long()],
    "copy of an index to the device": lambda: on_card(2)[[0, 1]],
    "copy of a number to the device": lambda: torch.where(on_card(2) > 0, on_card(2), torch.zeros(())),
    "copy to the host": lambda: on_card(2).cpu(),
    "copy to the device": lambda: torch.ones(2).to("cuda"),
    "tensor to the device": lambda: torch.tensor([1.0], device="cuda"),
}
FREE: dict[str, Callable[[], object]] = {
    "a pinned copy": lambda: torch.ones(2).pin_memory().to("cuda", non_blocking=True),
    "fillings and draws": lambda: torch.full((2,), 3.0, device="cuda") + torch.randn(2, device="cuda"),
    "a number of the host": lambda: on_card(2) * torch.tensor(2.0) + 1,
    "where with numbers": lambda: torch.where(on_card(2) > 0, on_card(2), 0.0),
    "an index of the card": lambda: on_card(2)[torch.zeros(1, dtype=torch.long, device="cuda")],
    "slices": lambda: on_card(4)[1:3].zero_(),
    "the same device": lambda: on_card(2).to("cuda").to(torch.float64),
    "the host's own": lambda: torch.ones(2).sum().item(),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_devices_are_refused(name: str, card: Seen) -> None:
    with pytest.raises(MixedDevicesError):
        MIXED[name]()


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_is_counted(name: str, card: Seen) -> None:
    WAITS[name]()
    assert card.waits == {f"{name} at a test": 1}


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_is_not_counted(name: str, card: Seen) -> None:
    FREE[name]()
    assert not card.waits


def test_numpy_refuses_the_card(card: Seen) -> None:
    with pytest.raises(TypeError, match="cuda:0"):
        on_card(2).numpy()


def test_bytes_to_the_card_are_counted(card: Seen) -> None:
    torch.ones(3, dtype=torch.int64).to("cuda")
    torch.ones(5).pin_memory().to("cuda", non_blocking=True)
    assert card.sent == {"a test": 3 * 8 + 5 * 4}


def test_a_training_stays_on_the_card_and_has_the_numbers_of_the_cpu(card: Seen) -> None:
    def train(device: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Conv3d(2, 2, 1)).to(device)
        teacher = copy.deepcopy(model)
        optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        images = torch.randn(2, 1, 5, 5, 5).to(device)
        for _ in range(2):
            loss = (model(images) - teacher(images).detach() - 1).square().mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        assert {part.device.type for part in (*model.state_dict().values(), loss)} == {device}
        assert {part.grad.device.type for part in model.parameters() if part.grad is not None} == {device}
        return {name: part.cpu() for name, part in model.state_dict().items()}

    on_host, there = train("cpu"), train("cuda")
    assert all(torch.equal(there[name], part) for name, part in on_host.items())


def test_gradients_of_gradients_lie_there(card: Seen) -> None:
    x = on_card(3).requires_grad_()
    (gradient,) = torch.autograd.grad((x**3).sum(), x)
    assert place(gradient) == CARD


def test_a_file_holds_no_trace_of_it(card: Seen) -> None:
    files = []
    for tensor in (torch.arange(3.0), torch.arange(3.0, device="cuda")):
        stream = io.BytesIO()
        torch.save({"part": tensor}, stream)
        files.append(stream.getvalue())
    assert files[0] == files[1]
    assert place(tensor) == CARD


def test_autocast_is_told_of_the_card(card: Seen) -> None:
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert torch.is_autocast_enabled("cuda")
        assert nn.Linear(2, 2).to("cuda")(on_card(1, 2)).dtype == torch.bfloat16


def test_another_thread_works_on_the_host(card: Seen) -> None:
    made: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: made.append(torch.ones(2).pin_memory()))
    thread.start()
    thread.join()
    assert made[0].is_pinned()
    assert made[0].device.type == "cpu"
    assert made[0].to("cuda", non_blocking=True).device == CARD
    assert not card.waits


def test_nothing_stays_behind() -> None:
    before = torch.Generator, torch.Tensor.pin_memory, torch.autograd.grad
    with pretended():
        pass
    assert (torch.Generator, torch.Tensor.pin_memory, torch.autograd.grad) == before
