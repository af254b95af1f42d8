"""The promises of the device profile, one test each."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, get_args

from zoo import plugins
from zoo.contracts import CONTRACT_VERSION, GAP_OPERATORS, DeviceProfile, Execution
from zoo.contracts.device import PRECISIONS
from zoo.devices.profile_file import unsourced
from zoo.extras import COMPRESS_PACKAGES
from zoo.testing.declarations import check_names, loaded_by

#: In MB: less than a network takes, and more than any machine has.
_MEMORY = (16, 1 << 24)


def device_checks(
    profile: DeviceProfile | Callable[[], DeviceProfile],
    *,
    module: str = "",
    other_engines: tuple[str, ...] = (),
) -> type[DeviceChecks]:
    """Return a class of tests for a device profile; assign it to a name that starts with ``Test``.

    Args:
        profile: What the entry point names: a profile, or a function that returns one.
        module: The module that the entry point names, whose import must be cheap; that of the function if it is one.
        other_engines: Ids of engines that the profile may name although they are not installed where it is tested.
    """
    attributes = {
        "source": (profile,),
        "module": module or (getattr(profile, "__module__", "") if callable(profile) else ""),
        "other_engines": other_engines,
    }
    return type("TestDevice", (DeviceChecks,), attributes)


class DeviceChecks:
    """One test for each promise. Use :func:`device_checks` to make a class of it for a profile."""

    #: the profile or the function, in a tuple: a function as such would become a method
    source: ClassVar[tuple[DeviceProfile | Callable[[], DeviceProfile]]]
    module: ClassVar[str] = ""
    other_engines: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def profile(cls) -> DeviceProfile:
        """Return the profile, made again if a function makes it."""
        (source,) = cls.source
        return source() if callable(source) else source

    def test_it_is_a_profile_of_this_contract(self) -> None:
        profile = self.profile()
        assert isinstance(profile, DeviceProfile)
        assert profile.contract == CONTRACT_VERSION

    def test_it_has_an_id_and_a_summary_of_one_line(self) -> None:
        check_names(self.profile())

    def test_it_is_the_same_every_time(self) -> None:
        assert self.profile() == self.profile()

    def test_importing_it_is_cheap(self) -> None:
        if self.module:
            loaded = loaded_by(f"import {self.module}", (*COMPRESS_PACKAGES, "numpy", "onnxruntime"))
            assert not loaded, f"a profile is read on boards: it must not import {', '.join(loaded)}"

    def test_its_figures_are_possible(self) -> None:
        profile = self.profile()
        assert _MEMORY[0] <= profile.memory_mb <= _MEMORY[1], f"memory_mb = {profile.memory_mb}"
        assert profile.bandwidth_gbs is None or 0 < profile.bandwidth_gbs < 1e5, "bandwidth_gbs is in GB/s"
        assert profile.int8_tops is None or 0 < profile.int8_tops < 1e5, "int8_tops is in 10^12 a second"
        assert 0 <= profile.threads <= 1024
        assert 0 <= profile.reserve_mb <= profile.memory_mb
        assert profile.execution in get_args(Execution)
        assert list(profile.power_modes) == sorted(set(profile.power_modes)), "power_modes: lowest first"
        assert all(0 < watts < 1e4 for watts in profile.power_modes), "power_modes are in watts"

    def test_its_precisions_are_known(self) -> None:
        profile = self.profile()
        assert profile.precisions, "name at least one precision"
        assert len(set(profile.precisions)) == len(profile.precisions)
        assert set(profile.precisions) <= set(PRECISIONS), f"known are {', '.join(PRECISIONS)}"
        assert profile.int8_tops is None or "int8" in profile.precisions, "int8_tops without int8"

    def test_its_engines_are_known(self) -> None:
        profile = self.profile()
        assert profile.engines, "name at least one engine"
        assert len(set(profile.engines)) == len(profile.engines)
        known = {plugin.id for plugin in plugins.find_plugins("engines")} | set(self.other_engines)
        unknown = sorted(set(profile.engines) - known)
        assert not unknown, (
            f"not installed: {', '.join(unknown)}; a spelling mistake, or name it in other_engines"
        )

    def test_its_figures_have_sources(self) -> None:
        bare = unsourced(self.profile())
        assert not bare, f"say in sources where these come from: {', '.join(bare)}"
        fields = set(DeviceProfile.__dataclass_fields__)
        assert set(self.profile().sources) <= fields, "sources are named after fields"

    def test_its_power_sensors_are_files(self) -> None:
        for pattern in self.profile().power_sensors:
            for path in pattern.split(" * "):
                assert path.startswith("/"), f"'{path}' is not an absolute path"

    def test_its_gaps_say_what_happens_and_who_says_so(self) -> None:
        techniques = {plugin.id for plugin in plugins.find_plugins("techniques")}
        for gap in self.profile().gaps:
            assert gap.what.strip(), "a gap without an operation"
            assert gap.effect.strip(), f"{gap.what}: what happens then?"
            assert gap.source.strip(), f"{gap.what}: who says so?"
            assert set(gap.operators) <= set(GAP_OPERATORS), (
                f"{gap.what}: known are {', '.join(GAP_OPERATORS)}"
            )
            assert gap.precision in ("", *PRECISIONS), f"{gap.what}: {gap.precision} is not a precision"
            assert gap.multiple >= 0
            assert gap.remedy in ("", *techniques), f"{gap.what}: there is no technique '{gap.remedy}'"
            assert not gap.remedy or gap.readable, f"{gap.what}: when does the remedy apply?"
