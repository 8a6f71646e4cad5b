"""``dg`` finds the component by the entry point of the package."""

from __future__ import annotations

from importlib.metadata import entry_points

from dagster.components.core.package_entry import discover_package_objects


def test_dg_finds_the_component_in_the_package() -> None:
    modules = [each.value for each in entry_points(group="dagster_dg_cli.registry_modules", name="aurora_sync")]
    assert modules == ["aurora_sync"]
    assert [key.to_typename() for key in discover_package_objects(modules)] == ["aurora_sync.AuroraSync"]
