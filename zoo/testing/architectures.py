"""The promises of the architecture contract, one test each."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoo import plugins
from zoo.contracts import Architecture, InputSpec
from zoo.contracts.random_inputs import random_inputs
from zoo.modules.several_inputs import with_one_input
from zoo.testing.declarations import PluginChecks, check_names
from zoo.testing.trial import attempt

#: pixels a side that every network of any size must take, if a multiple of what it asks for
_SIDE = 32
_CHANNELS: dict[str, dict[str | None, int]] = {
    "packed-raw": {"bayer": 4, "xtrans": 9},
    "rgb": {None: 3},
    "gray": {None: 1},
}


def architecture_checks(
    architecture: type[Architecture], *, member: str | None = None, export: bool = True
) -> type[ArchitectureChecks]:
    """Return a class of tests for `architecture`; assign it to a name that starts with ``Test``.

    Args:
        architecture: The class that the entry point names.
        member: For a family, the member to try: what a user writes after the colon.
        export: Whether to train it for a step and run its exported file, which takes seconds.
    """
    attributes = {"architecture": architecture, "member": member, "export": export}
    return type(f"Test{architecture.__name__}", (ArchitectureChecks,), attributes)


class ArchitectureChecks(PluginChecks):
    """One test for each promise. Use :func:`architecture_checks` to make a class of it for an architecture."""

    architecture: ClassVar[type[Architecture]]
    member: ClassVar[str | None] = None
    export: ClassVar[bool] = True
    built: ClassVar[nn.Module | None] = None

    @classmethod
    def subject(cls) -> type[Architecture]:
        return cls.architecture

    @classmethod
    def made(cls) -> Architecture:
        """Return an instance: of a family, the member."""
        return cls.architecture(cls.member) if cls.architecture.family else cls.architecture()

    @classmethod
    def fresh(cls, seed: int) -> nn.Module:
        """Build a network under a seed, in eval mode."""
        torch.manual_seed(seed)
        made = cls.made()
        return with_one_input(made.build().eval(), made.input.parts)

    @classmethod
    def net(cls) -> nn.Module:
        """Build the network of seed 0, once for all tests of the class, which only read it."""
        if cls.built is None:
            cls.built = cls.fresh(0)
        return cls.built

    @classmethod
    def sizes(cls) -> list[tuple[int, int]]:
        """Return small sizes that the network must take: multiples of `multiple_of`, or the fixed size."""
        spec = cls.made().input
        if spec.fixed_size:
            return [spec.example]
        step = spec.multiple_of
        side = -(-_SIDE // step) * step
        return [(side, side), (side + step, side), (side, side + step), (side + 3 * step, side + 2 * step)]

    # ------------------------------------------------------------------------------------- declarations

    def test_it_has_an_id_and_a_summary_of_one_line(self) -> None:
        made = self.made()
        check_names(made)
        assert not self.member or made.id.endswith(f":{self.member}"), f"a member calls itself {made.id}"
        assert isinstance(made.identity(), str)

    def test_its_task_fits_its_output(self) -> None:
        made = self.made()
        assert made.output.kind in plugins.task_of(made).outputs

    def test_its_input_can_be(self) -> None:
        spec = self.made().input
        if spec.parts:
            assert spec == dataclasses.replace(
                InputSpec.of_parts(spec.parts), fixed_size=spec.fixed_size, multiple_of=spec.multiple_of,
                mean=spec.mean, std=spec.std, halo=spec.halo,
            ), "several inputs are stated by InputSpec.of_parts()"  # fmt: skip
        else:
            assert spec.kind in _CHANNELS, f"known are {', '.join(_CHANNELS)}"
            assert _CHANNELS[spec.kind].get(spec.mosaic) == spec.channels - spec.noise_planes, (
                "mosaic and channels do not fit the kind"
            )
        assert spec.multiple_of >= 1
        height, width = spec.example
        assert height > 0 < width
        assert height % spec.multiple_of == width % spec.multiple_of == 0, (
            f"the example is not a multiple of {spec.multiple_of}"
        )
        assert len(spec.mean) in (0, spec.channels)
        assert len(spec.std) in (0, spec.channels)
        assert all(each > 0 for each in spec.std)
        assert spec.halo is None or spec.halo >= 0

    def test_its_output_can_be(self) -> None:
        spec = self.made().output
        assert spec.channels >= 1
        assert spec.channels == {"rgb": 3, "gray": 1}.get(spec.kind, spec.channels)
        assert (spec.scale == 0) != spec.dense, "scale is 0 for outputs that are not images alone"

    # --------------------------------------------------------------------------------------- the network

    def test_it_builds_a_network_in_float32(self) -> None:
        net = self.net()
        assert isinstance(net, nn.Module)
        wrong = {name for name, value in net.named_parameters() if value.dtype != torch.float32}
        assert not wrong, f"not float32: {', '.join(sorted(wrong)[:5])}"

    def test_weights_follow_the_seed(self) -> None:
        first, again, other = (net.state_dict() for net in (self.net(), self.fresh(0), self.fresh(1)))
        assert first.keys() == again.keys() == other.keys()
        assert all(torch.equal(first[name], again[name]) for name in first), "two networks of one seed differ"
        if not self.made().trained:
            assert any(not torch.equal(first[name], other[name]) for name in first), (
                "the seed changes nothing"
            )

    def test_outputs_have_the_shape_that_the_specs_state(self) -> None:
        made, net = self.made(), self.net()
        for batch, (height, width) in enumerate(self.sizes(), 1):
            outputs = _run(net, _noise(made, batch, height, width))
            sides = (made.output.scale * height, made.output.scale * width) if made.output.scale else ()
            wanted = (batch, made.output.channels, *sides)
            # A tensor may have more axes, of which nothing is stated.
            stated = outputs.shape[:2] if made.output.kind == "tensor" else outputs.shape
            assert stated == wanted, f"{tuple(outputs.shape)} for {height} x {width}, not {wanted}"
            assert torch.isfinite(outputs).all()
            if made.output.kind == "mask":
                assert 0 <= outputs.min() <= outputs.max() <= 1, "masks are probabilities"

    def test_an_output_depends_on_its_own_input_alone(self) -> None:
        made, net = self.made(), self.net()
        inputs = _noise(made, 2, *self.sizes()[0])
        both = _run(net, inputs)
        assert torch.equal(both, _run(net, inputs)), "two runs in eval mode differ"
        assert torch.allclose(both[1:], _run(net, inputs[1:]), atol=1e-4), (
            "the first input changes the second output"
        )

    def test_nothing_beyond_the_halo_matters(self) -> None:
        """Put NaN beyond the halo: every sum that it enters becomes NaN too."""
        made = self.made()
        halo, step, scale = made.input.halo, made.input.multiple_of, made.output.scale
        if halo is None or made.input.fixed_size or not scale:
            return  # nothing is claimed
        border = (-(-halo // step) + 1) * step
        inside = slice(border - halo, border + step + halo)
        given = _noise(made, 1, *(2 * (2 * border + step,)))
        inputs = torch.full_like(given, torch.nan)
        inputs[:, :, inside, inside] = given[:, :, inside, inside]
        tile = slice(border * scale, (border + step) * scale)
        outputs = _run(self.net(), inputs)[:, :, tile, tile]
        assert torch.isfinite(outputs).all(), f"a tile depends on pixels that are more than {halo} away"

    def test_it_can_be_copied(self) -> None:
        made, net = self.made(), self.net()
        inputs = _noise(made, 1, *self.sizes()[0])
        assert torch.equal(_run(copy.deepcopy(net), inputs), _run(net, inputs))

    def test_its_stages_are_modules_of_the_network(self) -> None:
        net = self.net()
        names = list(itertools.chain.from_iterable(stage.values() for stage in self.made().stages()))
        known = {name for name, _ in net.named_modules()}
        missing = [name for name in names if name not in known]
        assert not missing, f"there are no modules {', '.join(missing)}"
        assert len(set(names)) == len(names), "a module is in two stages"

    # ------------------------------------------------------------------------------------------ the file

    def test_it_trains_and_its_file_computes_what_it_computes(self) -> None:
        if not self.export:
            return
        found = attempt([], self.made()).comparison
        assert found.agrees, f"{found.signal_to_error:.1f} dB in ONNX Runtime; {found.first}"


def _noise(made: Architecture, batch: int, height: int, width: int) -> Tensor:
    if made.input.parts:
        return torch.from_numpy(random_inputs(made.input, batch, (height, width)))
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, made.input.channels, height, width, generator=generator)


def _run(net: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        outputs = net(inputs)
    assert isinstance(outputs, Tensor), f"the network gives a {type(outputs).__name__}, not one tensor"
    return outputs
