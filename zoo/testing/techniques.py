"""The promises of the technique contract, one test each."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from zoo import plugins
from zoo.contracts import Architecture, Dataset, Phase, SilentReporter, Technique
from zoo.cost import onnx_cost
from zoo.errors import LegalityError, ZooError
from zoo.export.exporter import export_onnx
from zoo.modules.several_inputs import with_one_input
from zoo.modules.state_digest import state_digest
from zoo.pipeline.stage_runner import StageRunner
from zoo.plugins.discovery import discover
from zoo.recipes import legality
from zoo.testing.declarations import OptionChecks, as_text, refusal_of
from zoo.testing.trial import Trial, attempt, rewrite
from zoo.testing.workbench import Inert

_files: dict[tuple[object, ...], bytes] = {}


def technique_checks(
    technique: type[Technique],
    *,
    options: Mapping[str, Any] | None = None,
    architecture: Architecture | None = None,
    dataset: Dataset | None = None,
) -> type[TechniqueChecks]:
    """Return a class of tests for `technique`; assign it to a name that starts with ``Test``.

    Args:
        technique: The class of the technique.
        options: Values for options without a default, or to test values other than the defaults: numbers and the
            like, or text as in a recipe.
        architecture: What to test it on, if it finds nothing to do in the :class:`~zoo.testing.Workbench`.
        dataset: Data for that architecture.
    """
    attributes = {
        "technique": technique,
        "options": as_text(options or {}),
        "architecture": architecture,
        "dataset": dataset,
    }
    return type(f"Test{technique.__name__}", (TechniqueChecks,), attributes)


class TechniqueChecks(OptionChecks):
    """One test for each promise. Use :func:`technique_checks` to make a class of it for a technique."""

    technique: ClassVar[type[Technique]]
    architecture: ClassVar[Architecture | None]
    dataset: ClassVar[Dataset | None]
    done: ClassVar[Trial | None] = None
    seen: ClassVar[tuple[nn.Module, nn.Module, StageRunner] | None] = None

    @classmethod
    def subject(cls) -> type[Technique]:
        return cls.technique

    @classmethod
    def trial(cls) -> Trial:
        """Apply the technique from rewrite to exported file, once for all tests of the class."""
        if cls.done is None:
            cls.done = attempt([cls.made()], cls.architecture, cls.dataset)
        return cls.done

    @classmethod
    def rewritten(cls) -> tuple[nn.Module, nn.Module, StageRunner]:
        """Rewrite the net, once for all tests of the class, which only read it."""
        if cls.seen is None:
            cls.seen = rewrite(cls.made(), cls.architecture, cls.dataset)
        return cls.seen

    # ------------------------------------------------------------------------------------- declarations

    def test_it_has_a_phase(self) -> None:
        assert isinstance(self.technique.phase, Phase)

    def test_it_combines_with_every_installed_technique_or_says_why_not(self) -> None:
        for plugin in discover():
            if plugin.kind != "techniques":
                continue
            try:
                other = plugins.load_plugin(plugin)
            except ZooError:
                continue  # broken plugins are somebody else's
            for pair in ((self.technique, other), (other, self.technique)):
                refusal = refusal_of(functools.partial(legality.check, pair))
                assert refusal is None or isinstance(refusal, LegalityError)
                assert refusal is None or all(each.id in refusal.message for each in pair)

    # ------------------------------------------------------------------------------------------ rewriting

    def test_what_it_was_given_to_look_at_stays_untouched(self) -> None:
        original, _, runner = self.rewritten()
        torch.manual_seed(0)
        fresh = with_one_input(runner.plan.architecture.build(), runner.plan.architecture.input.parts)
        assert _state(original).keys() == _state(fresh).keys(), "the teacher lost or gained parameters"
        assert _same(original, fresh), "the teacher's numbers were changed"

    def test_the_output_keeps_its_shape_and_is_finite(self) -> None:
        original, rewritten, runner = self.rewritten()
        example = runner.context.example_input
        with torch.no_grad():
            before, after = original(example), rewritten.eval()(example)
        assert after.shape == before.shape
        assert torch.isfinite(after).all()

    def test_a_rewritten_net_can_be_copied(self) -> None:
        _, rewritten, runner = self.rewritten()
        copied = copy.deepcopy(rewritten).eval()
        example = runner.context.example_input
        with torch.no_grad():
            assert torch.equal(copied(example), rewritten.eval()(example))

    def test_it_is_deterministic_under_a_seed(self) -> None:
        _, first, _ = self.rewritten()
        torch.rand(7)  # whoever draws from the global generator gets other numbers now
        _, second, _ = rewrite(self.made(), self.architecture, self.dataset)
        assert _same(first, second), "two runs with one seed differ"

    def test_a_net_with_nothing_to_do_is_refused_by_name(self) -> None:
        if self.technique.phase is Phase.TRAINING:
            return  # an objective applies to any net
        refusal = refusal_of(lambda: rewrite(self.made(), Inert(), self.dataset))
        assert refusal is not None, "it claimed to have compressed a net without layers"
        assert self.technique.id in refusal.message

    def test_what_it_does_without_fitting_has_the_same_shapes(self) -> None:
        plain = self.made().without_fitting()
        if plain is None:
            return  # its shapes depend on weights or data
        _, fitted, _ = self.rewritten()
        _, counted, _ = rewrite(plain, self.architecture, self.dataset)
        assert _weight_shapes(counted) == _weight_shapes(fitted), "without_fitting() leads to other shapes"

    def test_finishing_is_pure(self) -> None:
        _, rewritten, runner = self.rewritten()
        techniques = runner.plan.stages[0].techniques  # the instance that rewrote it may remember something
        left_alone = list(runner.context.skipped_layers)
        first, second = (runner.finish(rewritten, techniques) for _ in range(2))
        assert _same(first, second), "finish() returns other numbers when it is called again"
        assert repr(first) == repr(second), "finish() returns another network when it is called again"
        outputs = [_outputs(net, runner.context.example_input) for net in (first, second)]
        assert torch.equal(*outputs), "finish() returns another network when it is called again"
        assert runner.context.skipped_layers == left_alone, (
            "report layers in rewrite(): finish() is called again"
        )

    # ------------------------------------------------------------------------------------ the whole recipe

    def test_the_exported_file_runs_and_computes_what_the_net_computes(self) -> None:
        found = self.trial().comparison
        assert found.agrees, f"{found.signal_to_error:.1f} dB in ONNX Runtime; {found.first}"

    def test_the_file_holds_its_weights_at_the_width_that_it_states(self) -> None:
        bits = self.made().least_weight_bits
        if bits is None:
            return
        trial = self.trial()
        layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
        weights = sum(each.weight.numel() for each in trial.finished.modules() if isinstance(each, layers))
        assert 8 * len(trial.exported) >= bits * weights, "a weight takes fewer bits than least_weight_bits"

    def test_it_pays_in_the_exported_file(self) -> None:
        if self.technique.phase is Phase.TRAINING or not self.technique.must_shrink:
            return  # it promises no smaller file
        trial = self.trial()
        spec = trial.architecture.input
        shape = (1, spec.channels, *spec.example)
        before = _file_of(trial.original, trial.architecture)
        assert (
            len(trial.exported) < len(before)
            or onnx_cost(trial.exported, shape).macs < onnx_cost(before, shape).macs
        ), "the file has no fewer bytes and needs no fewer multiplications"

    def test_it_says_nothing_on_its_own(self, capfd: Any) -> None:
        rewrite(self.made(), self.architecture, self.dataset, report=SilentReporter())
        captured = capfd.readouterr()
        assert captured.out + captured.err == "", "techniques print nothing; they call context.report"


def _file_of(model: nn.Module, architecture: Architecture) -> bytes:
    """Return the exported file of a network; the workbench's is the same for every technique, and made once."""
    key = (type(architecture), architecture.id, architecture.input, state_digest(_state(model)))
    if key not in _files:
        _files[key] = export_onnx(model, architecture)
    return _files[key]


def _weight_shapes(net: nn.Module) -> list[tuple[int, ...]]:
    return sorted(tuple(weight.shape) for weight in net.parameters() if weight.dim() > 1)


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def _outputs(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        computed: torch.Tensor = model.eval()(inputs)
    return computed


def _same(first: nn.Module, second: nn.Module) -> bool:
    a, b = _state(first), _state(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
