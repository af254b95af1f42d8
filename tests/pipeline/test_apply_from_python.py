"""`zoo.apply` on what a program holds: its module, its data, its loss and its metrics."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import zoo
from support.class_folders import Classifier
from zoo.contracts import Architecture, InputSpec, Metric, OutputSpec
from zoo.data import batches
from zoo.data.batches import IndexedPairs, StreamedPairs, pairs_of, read_data
from zoo.data.program_data import ProgramData
from zoo.errors import InputError, UnknownIdError, UsageError, ZooError
from zoo.pipeline.program_inputs import words_of_python

#: A network of images with one channel; it is never built.
GRAY = Architecture()
GRAY.input = InputSpec("gray", 1, example=(8, 8))
GRAY.output = OutputSpec("logits", 10)


def made() -> nn.Module:
    """A classifier of a class that no file defines: whether the upper or the lower half is brighter."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 16, 3, padding=1, stride=2)
            self.last = nn.Linear(16 * 16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.second(self.first(x).relu()).relu().flatten(1))

    return Net()


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 8, 8, generator=generator)
    return x, (x[:, 0, :4].sum((1, 2)) > x[:, 0, 4:].sum((1, 2))).long()


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    net, (x, y) = made(), images(512)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    assert outputs.dim() == 2
    assert targets.dtype == torch.int64
    return (outputs.argmax(1) == targets).float().mean()


@pytest.fixture(scope="module")
def result(trained: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> zoo.Result:
    calls: list[tuple[int, ...]] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(tuple(outputs.shape))
        return nn.functional.cross_entropy(outputs, targets)

    x, y = images(200)
    found = zoo.apply(
        trained,
        "channel-prune(ratio=0.3)+qat",
        data=DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True),
        test=images(100, seed=1),
        example=x[:1],
        loss=loss,
        metric={
            "accuracy": accuracy,
            Metric("error", "error", higher_is_better=False): lambda o, t: 1 - accuracy(o, t),
        },
        steps=(6, 4),
        batch=16,
        max_loss=None,
        out=tmp_path_factory.mktemp("python") / "out",
    )
    assert calls == [(16, 2)] * 10
    return found


def test_the_metrics_are_those_of_the_exported_file_before_and_after(
    trained: nn.Module, result: zoo.Result
) -> None:
    x, y = images(100, seed=1)
    with torch.no_grad():
        before = float(accuracy(trained(x), y))
    with zoo.load(result.artifact) as net:
        after = float(accuracy(torch.from_numpy(net(x.numpy())), y))
    found = result.metrics
    assert (
        found["accuracy"]
        == found["top1"]
        == {"before": pytest.approx(before, abs=1e-4), "after": pytest.approx(after, abs=1e-4)}
    )
    assert found["error"]["after"] == pytest.approx(1 - after, abs=1e-4)
    assert "accuracy" in result.table()
    assert result._repr_html_().count("<tr>") == len(result.table_cells()[1]) + 1
    assert repr(result) == f"{result.artifact}\n{result.table()}"
    assert "accuracy" in json.loads((result.artifact / "metrics.json").read_text())["files"][0]["quality"]


def test_the_module_that_was_passed_is_not_changed(trained: nn.Module, result: zoo.Result) -> None:
    assert trained.training
    assert not trained._forward_hooks
    assert next(tuple(p.shape) for p in trained.parameters()) == (8, 1, 3, 3)
    assert all(p.requires_grad for p in trained.parameters())


def test_the_finished_module_computes_what_the_file_does(result: zoo.Result) -> None:
    x, _ = images(4, seed=2)
    assert result.model is not None
    with zoo.load(result.artifact) as net, torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(net(x.numpy())), result.model(x), rtol=0.05, atol=0.2)


def test_the_recipe_says_that_text_alone_does_not_reproduce_it(result: zoo.Result) -> None:
    text = (result.artifact / "recipe.toml").read_text()
    assert text.startswith("# A Python program passed the network or its data")
    with pytest.raises(UsageError, match="was passed by a Python program"):
        zoo.apply(None, result.artifact / "recipe.toml")
    with pytest.raises(UnknownIdError, match="was a module of a Python program"):
        zoo.apply(None, result.artifact / "recipe.toml", data=images(20))


def test_the_fingerprint_follows_weights_code_and_data(trained: nn.Module, tmp_path: Path) -> None:
    def fingerprint(net: nn.Module, x: Tensor) -> str:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        return zoo.apply(net, "ptq", data=x, out=out, images=2, max_loss=None).fingerprint

    class Negated(type(trained)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    x, _ = images(20)
    other = Negated()
    other.load_state_dict(trained.state_dict())
    first = fingerprint(trained, x)
    assert fingerprint(trained, x) == first
    assert len({first, fingerprint(other, x), fingerprint(made(), x), fingerprint(trained, x[1:])}) == 4


def test_a_network_of_numbers_in_any_range_is_not_run_on_pictures(trained: nn.Module, tmp_path: Path) -> None:
    x, _ = images(20)
    made = zoo.apply(trained, "ptq", data=3 * x - 1, out=tmp_path / "out", images=2, max_loss=None)
    with zoo.load(made.artifact) as net:
        assert net.artifact.manifest.input.kind == "tensor"
        (tmp_path / "a.png").write_bytes(b"a picture")
        (refused,) = net.run([tmp_path / "a.png"])
        assert "not a .npz" in str(refused.error)
        np.savez(tmp_path / "a.npz", x=(3 * x[:2] - 1).numpy())
        (ran,) = net.run([tmp_path / "a.npz"])
        assert ran.findings


def test_every_form_of_data_is_read(trained: nn.Module) -> None:
    x, y = images(12)
    pair = next(iter(pairs_of((x, y))))

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(list(zip(x, y, strict=True)))

    forms: dict[str, Any] = {
        "tensor": x,
        "arrays": (x.numpy(), y.numpy()),
        "dataset": TensorDataset(x, y),
        "loader": DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True),
        "batches": [(x[:6], y[:6]), (x[6:], y[6:])],
        "dictionaries": [{"image": x, "label": y}],
        "stream": DataLoader(Stream(), batch_size=4),
        "generator": ((x[i : i + 4], y[i : i + 4]) for i in range(0, 12, 4)),
        "function": lambda: iter([(x, y)]),
    }
    for name, form in forms.items():
        data = ProgramData(form)
        assert len(list(data.frames(GRAY, "train"))) >= 9, name
        np.testing.assert_array_equal(data.first[0], pair[0])
        crops = [next(data.crops(GRAY, 8, seed=3, start=k)) for k in (0, 1, 14)]
        again = [
            sample
            for k, sample in zip(range(15), data.crops(GRAY, 8, seed=3), strict=False)
            if k in (0, 1, 14)
        ]
        assert all(np.array_equal(a.inputs, b.inputs) for a, b in zip(crops, again, strict=True)), name
        if name != "tensor":
            assert crops[0].target is not None, name
            assert crops[0].target.shape == ()


def test_one_of_five_is_held_out_where_no_test_data_is_passed() -> None:
    x, y = images(50)
    data = ProgramData((x, y))
    held = {sample.name for sample in data.frames(GRAY, "test")}
    assert len(held) == 10
    assert not held & {sample.name.replace("train", "test") for sample in data.frames(GRAY, "train")}
    assert not data.notes()
    assert "flatters" in ProgramData([(x, y)]).notes()[0]
    assert not ProgramData([(x, y)], test=(x, y)).notes()


def test_an_iterator_is_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = images(64)
    assert isinstance(read_data(iter([x])), IndexedPairs)
    assert isinstance(read_data([x]), StreamedPairs)
    monkeypatch.setattr(batches, "LARGEST_KEPT", 64 * 8 * 8)
    with pytest.raises(InputError, match="can be run through only once"):
        read_data(iter([x]))
    used = iter([x[:1]])
    list(used)
    with pytest.raises(InputError, match="no samples"):
        ProgramData(used)


def test_data_that_is_augmented_at_random_has_an_identity_that_stays() -> None:
    x, y = images(8)

    class Noisy(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            found, label = super().__getitem__(index)
            return found + torch.rand(()), label

    assert ProgramData(Noisy(x, y)).identity() == ProgramData(Noisy(x, y)).identity()
    assert ProgramData((x, y)).identity() != ProgramData((x + 1, y)).identity()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"data": 3}, "neither batches nor arrays nor a dataset"),
    ({"data": []}, "no samples"),
    ({"data": [{"a": 1}]}, "which of these is the input is not known"),
    ({"data": (images(5)[0], images(4)[1])}, "5 inputs, but 4 targets"),
    ({"data": (images(4)[0] * 255).byte()}, "Convert bytes first"),
    ({"data": torch.rand(20, 1, 9, 9), "example": torch.rand(1, 1, 8, 8)}, r"holds inputs of \(1, 9, 9\)"),
    ({"data": torch.full((20, 1, 8, 8), torch.nan)}, "NaN"),
    ({"data": "photos"}, "Pass an example"),
    ({"data": images(20)[0], "example": torch.rand(1, 1)}, r"failed on x \(tensor 1\)"),
    ({"data": images(20)[0], "example": (torch.rand(1, 1, 8, 8),) * 2}, r"forward\(\) of Net accepts 1 \(x\)"),
    ({"data": images(20)[0], "example": torch.rand(1, 3, 8, 8)}, "failed on 2x3x8x8"),
    ({"data": images(20), "metric": lambda o, t: o.nothing}, "The metric 'metric' failed on outputs of"),
    ({"data": "photos", "test": images(4)}, "test split of its own"),
    ({"data": (images(20)[0], torch.eye(2)[images(20)[1]])}, r"shape \(2,\), not the number of a class"),
    ({"data": (images(20)[0], images(20)[1][:, None])}, r"columns targets\[:, 0\]"),
    ({"data": (images(20)[0], torch.full((20,), 0.5))}, "A target is 0.5, not the number of a class"),
    ({"data": (images(20)[0].numpy(), np.array(["cat", "dog"] * 10))}, "A target is <U3, such as 'cat'"),
    ({"data": list(zip(*images(20), strict=True))}, r"DataLoader\(data, batch_size=32\)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.arange(12) % 4, r"Sample train/(3|7|11) has the label 3; a-classifier has outputs 0 to 2"),
        (torch.arange(12) % 3 - 1, "has the label -1"),
        (torch.ones(12, dtype=torch.int64), "All 12 samples have the class '1'"),
    ],
)
def test_labels_that_are_no_classes_are_refused_before_any_work(labels: torch.Tensor, message: str) -> None:
    network = Classifier(3, side=8)
    x = torch.rand(12, 3, 8, 8)
    ProgramData((x, torch.arange(12) % 3)).check(network)
    ProgramData((x, torch.rand(12))).check(network)  # for a loss of the program's own
    with pytest.raises(InputError, match=message):
        ProgramData((x, labels)).check(network)


@pytest.mark.parametrize("form", [lambda x, y: (x, y), lambda x, y: [(x, y)]], ids=["arrays", "stream"])
def test_samples_sorted_by_class_are_not_taken_for_samples_of_one_class(form: Any) -> None:
    network = Classifier(3, side=8)
    x, labels = torch.rand(300, 3, 8, 8), torch.arange(300) // 100
    ProgramData(form(x, labels)).check(network)
    with pytest.raises(InputError, match="All 30 samples have the class '0'"):
        ProgramData(form(x[:30], labels[:30])).check(network)


def test_the_first_samples_by_number_that_are_scored_tell_about_all_of_them() -> None:
    x, labels = torch.rand(300, 3, 8, 8), torch.arange(300) // 100
    frames = list(ProgramData((x, labels), test=(x, labels)).frames(Classifier(3, side=8), "test"))
    assert sorted(frame.name for frame in frames) == sorted(f"test/{number}" for number in range(300))
    counts = np.bincount([int(frame.target) for frame in frames[:60] if frame.target is not None])
    assert counts.min() >= 10
    last = x.clone()
    last[150:] += 1
    assert ProgramData((x, labels)).identity() != ProgramData((last, labels)).identity()


def test_inputs_without_targets_may_be_said_to_have_none() -> None:
    x, _ = images(4)
    assert ProgramData((x, None)).identity() == ProgramData(x).identity()


def test_inputs_by_name_alone_are_asked_for_by_name(tmp_path: Path) -> None:
    class ByName(nn.Linear):
        def forward(self, *, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    with pytest.raises(InputError, match="positional argument") as refused:
        zoo.apply(ByName(8, 2), "ptq", data=images(4)[0], out=tmp_path / "out")
    assert 'example={"x": x}' in str(refused.value.hint)


@pytest.mark.parametrize(("given", "text"), BAD)
def test_what_cannot_be_used_is_said(
    trained: nn.Module, tmp_path: Path, given: dict[str, Any], text: str
) -> None:
    with pytest.raises(ZooError, match=text) as caught:
        zoo.apply(trained, "ptq", out=tmp_path / "out", **given)
    assert "--" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_module_that_cannot_be_copied_or_is_no_module_is_refused() -> None:
    net = made()
    net.lock = threading.Lock()  # type: ignore[assignment]
    x, _ = images(20)
    with pytest.raises(InputError, match="cannot be copied"):
        zoo.apply(net, "ptq", data=x)
    with pytest.raises(UsageError, match=r"not a torch\.nn\.Module"):
        zoo.apply(torch.sigmoid, "ptq", data=x)  # type: ignore[arg-type]


class OfOneImage(nn.Module):
    """A classifier that is written for a single image."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.first, self.flat = nn.Conv2d(1, 4, 3), flat

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return y.view(1, 4, 36).mean(2) if self.flat else y[0].mean((1, 2))[None]


@pytest.mark.parametrize("flat", [True, False])
def test_a_network_for_a_single_image_is_told_how_to_take_more(flat: bool) -> None:
    with pytest.raises(InputError, match=r"2x1x8x8|not 2x4") as caught:
        zoo.apply(OfOneImage(flat), "ptq", example=torch.rand(1, 1, 8, 8), output="logits:4", fixed_size=True)
    assert "x.shape[0]" in str(caught.value.hint)


def test_a_network_that_mixes_types_is_told_which_it_is_computed_in() -> None:
    class Mixed(OfOneImage):
        def forward(self, x: Tensor) -> Tensor:
            return self.first(x.half()).float().mean((2, 3))

    with pytest.raises(InputError, match="Half") as caught:
        zoo.apply(
            Mixed(True).half(), "ptq", example=torch.rand(1, 1, 8, 8), output="logits:4", fixed_size=True
        )
    assert "float32" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("Allow more: --max-loss 4pt. It is kept.", "Allow more: max_loss='4pt'. It is kept."),
        ("Omit --crop.", "Omit the argument crop."),
        ("Try --data 'folder(root=DIR)' with labels", "Try data='folder(root=DIR)' with labels"),
        ("Use --crop 64", "Use crop=64"),
    ],
)  # fmt: skip
def test_errors_speak_python(typed: str, said: str) -> None:
    with pytest.raises(UsageError) as caught, words_of_python():
        raise UsageError("Wrong.", hint=typed)
    assert caught.value.hint == said
