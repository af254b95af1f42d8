"""The promises of the technique contract, a test each."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from zoo import plugins
from zoo.contracts import CONTRACT_VERSION, Architecture, Dataset, Phase, SilentReporter, Technique
from zoo.cost import onnx_cost
from zoo.errors import LegalityError, UnknownIdError, ZooError
from zoo.export.exporter import export_onnx
from zoo.options import format_options, options_of, parse_options
from zoo.plugins.discovery import discover
from zoo.recipes import legality
from zoo.recipes.grammar import Stage, parse_stage
from zoo.testing.trial import Trial, attempt, rewrite
from zoo.testing.workbench import Inert

#: PSNR in dB that an exported file must reach against the net it was made from; sound ones reach 35 and more
GOLDEN_PSNR = 30.0


def technique_checks(
    technique: type[Technique],
    *,
    options: dict[str, str | tuple[str, ...]] | None = None,
    architecture: Architecture | None = None,
    dataset: Dataset | None = None,
) -> type[TechniqueChecks]:
    """A class of tests for `technique`; assign it to a name that starts with ``Test``.

    options: values for what has no default, or to try other than the default ones. architecture, dataset: what to
    try it on, if the :class:`~zoo.testing.Workbench` has nothing that it works on.
    """
    attributes = {
        "technique": technique,
        "options": options or {},
        "architecture": architecture,
        "dataset": dataset,
    }
    return type(f"Test{technique.__name__}", (TechniqueChecks,), attributes)


class TechniqueChecks:
    """One test for each promise. Use :func:`technique_checks` to make a class of it for a technique."""

    technique: ClassVar[type[Technique]]
    options: ClassVar[dict[str, Any]]
    architecture: ClassVar[Architecture | None]
    dataset: ClassVar[Dataset | None]
    done: ClassVar[Trial | None] = None

    @classmethod
    def made(cls) -> Technique:
        """A configured instance."""
        technique = cls.technique
        return technique(parse_options(technique.id, technique.Config, cls.options))

    @classmethod
    def trial(cls) -> Trial:
        """The technique applied from rewrite to exported file; done once for all tests of the class."""
        if cls.done is None:
            cls.done = attempt([cls.made()], cls.architecture, cls.dataset)
        return cls.done

    # ------------------------------------------------------------------------------------- declarations

    def test_it_states_the_contract_it_was_written_for(self) -> None:
        assert "contract" in vars(self.technique) or self.technique.__module__.startswith(
            "zoo_techniques."
        ), f"state it in the class itself:  contract = {CONTRACT_VERSION}"
        assert self.technique.contract == CONTRACT_VERSION

    def test_it_has_an_id_a_summary_and_a_phase(self) -> None:
        assert self.technique.id
        assert isinstance(self.technique.phase, Phase)
        summary = self.technique.summary
        assert summary.strip() == summary != ""
        assert "\n" not in summary, "the summary is one line"

    def test_it_is_constructible_without_options(self) -> None:
        required = [each.name for each in options_of(self.technique.Config) if each.required]
        assert set(required) <= set(self.options), f"{required} need defaults"
        if not required:
            assert isinstance(self.technique().config, self.technique.Config)

    def test_options_come_back_from_their_text(self) -> None:
        technique = self.made()
        written = str(Stage.of(technique.id, format_options(technique.config)))
        read: Any = parse_options(technique.id, technique.Config, parse_stage(written).option_map)
        assert read == technique.config

    def test_every_option_is_explained(self) -> None:
        bare = [each.name for each in options_of(self.technique.Config) if not each.help]
        assert not bare, f"give {bare} a help text:  zoo.options.option(default, help=...)"

    def test_an_unknown_option_is_refused_by_name(self) -> None:
        given = {**self.options, "no_such_option": "1"}
        refusal = _refusal_of(lambda: parse_options(self.technique.id, self.technique.Config, given))
        assert isinstance(refusal, UnknownIdError), "it was accepted"
        assert "no_such_option" in refusal.message
        assert refusal.hint, "the next command to type is missing"

    def test_importing_it_is_cheap(self) -> None:
        code = (
            f"import sys, {self.technique.__module__}\n"
            "print(*sorted({'torch', 'timm', 'onnx', 'skimage'} & sys.modules.keys()))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        assert not done.stdout.split(), f"import these inside the methods: {done.stdout.strip()}"

    def test_it_combines_with_every_installed_technique_or_says_why_not(self) -> None:
        for plugin in discover():
            if plugin.kind != "techniques":
                continue
            try:
                other = plugins.load_plugin(plugin)
            except ZooError:
                continue  # broken plugins are somebody else's
            for pair in ((self.technique, other), (other, self.technique)):
                refusal = _refusal_of(functools.partial(legality.check, pair))
                assert refusal is None or isinstance(refusal, LegalityError)
                assert refusal is None or all(each.id in refusal.message for each in pair)

    # ------------------------------------------------------------------------------------------ rewriting

    def test_what_it_was_given_to_look_at_stays_untouched(self) -> None:
        technique = self.made()
        original, _, runner = rewrite(technique, self.architecture, self.dataset)
        torch.manual_seed(0)
        fresh = runner.job.architecture.build()
        assert _state(original).keys() == _state(fresh).keys(), "the teacher lost or gained parameters"
        assert _same(original, fresh), "the teacher's numbers were changed"

    def test_the_output_keeps_its_shape_and_is_finite(self) -> None:
        original, rewritten, runner = rewrite(self.made(), self.architecture, self.dataset)
        example = runner.context.example_input
        with torch.no_grad():
            before, after = original(example), rewritten.eval()(example)
        assert after.shape == before.shape
        assert torch.isfinite(after).all()

    def test_a_rewritten_net_can_be_copied(self) -> None:
        _, rewritten, runner = rewrite(self.made(), self.architecture, self.dataset)
        copied = copy.deepcopy(rewritten).eval()
        example = runner.context.example_input
        with torch.no_grad():
            assert torch.equal(copied(example), rewritten.eval()(example))

    def test_it_is_deterministic_under_a_seed(self) -> None:
        _, first, _ = rewrite(self.made(), self.architecture, self.dataset, seed=3)
        torch.rand(7)  # whoever draws from the global generator gets other numbers now
        _, second, _ = rewrite(self.made(), self.architecture, self.dataset, seed=3)
        assert _same(first, second), "two runs with one seed differ"

    def test_a_net_with_nothing_to_do_is_refused_by_name(self) -> None:
        if self.technique.phase is Phase.TRAINING:
            return  # an objective applies to any net
        refusal = _refusal_of(lambda: rewrite(self.made(), Inert(), self.dataset))
        assert refusal is not None, "it claimed to have compressed a net without layers"
        assert self.technique.id in refusal.message

    # ------------------------------------------------------------------------------------ the whole recipe

    def test_the_exported_file_runs_and_computes_what_the_net_computes(self) -> None:
        agreement = self.trial().agreement
        assert agreement >= GOLDEN_PSNR, f"{agreement:.1f} dB in ONNX Runtime"

    def test_it_pays_in_the_exported_file(self) -> None:
        if self.technique.phase is Phase.TRAINING or not self.technique.shrinks:
            return  # it promises no smaller file
        trial = self.trial()
        spec = trial.architecture.input
        shape = (1, spec.channels, *spec.example)
        before = export_onnx(trial.original, trial.architecture)
        assert (
            len(trial.exported) < len(before)
            or onnx_cost(trial.exported, shape).macs < onnx_cost(before, shape).macs
        ), "the file has no fewer bytes and needs no fewer multiplications"

    def test_it_says_nothing_on_its_own(self, capfd: Any) -> None:
        rewrite(self.made(), self.architecture, self.dataset, report=SilentReporter())
        captured = capfd.readouterr()
        assert captured.out + captured.err == "", "techniques print nothing; they call context.report"


def _refusal_of(work: Callable[[], object]) -> ZooError | None:
    """The error that `work` is refused with, None if it is not."""
    try:
        work()
    except ZooError as error:
        return error
    return None


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def _same(first: nn.Module, second: nn.Module) -> bool:
    a, b = _state(first), _state(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
