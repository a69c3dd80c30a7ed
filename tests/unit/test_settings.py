"""Settings: one file, overridden by variables; every value has an origin, every mistake one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.settings import SettingsError, load_settings


def write(directory: Path, text: str) -> None:
    (directory / "ratchet.toml").write_text(text, encoding="utf-8")


def test_defaults_need_no_file(tmp_path: Path) -> None:
    loaded = load_settings(tmp_path, {})
    assert loaded.settings.kafka.bootstrap == "127.0.0.1:9092"
    assert {origin for _, _, origin in loaded.rows()} == {"default"}


def test_the_environment_wins_over_the_file_and_the_file_over_the_local_stack(tmp_path: Path) -> None:
    write(tmp_path, '[kafka]\nbootstrap = "file:1"\n[streams]\ngroup = "file"\n')
    loaded = load_settings(
        tmp_path,
        {"RATCHET_KAFKA__BOOTSTRAP": "variable:1", "OTHER": "x"},
        local={
            "RATCHET_KAFKA__BOOTSTRAP": "local:1",
            "RATCHET_STREAMS__GROUP": "local",
            "RATCHET_API__PORT": "7",
        },
    )
    settings = loaded.settings
    assert (settings.kafka.bootstrap, settings.streams.group, settings.api.port) == ("variable:1", "file", 7)
    assert loaded.origins["kafka.bootstrap"] == "the variable RATCHET_KAFKA__BOOTSTRAP"
    assert loaded.origins["streams.group"].endswith("ratchet.toml")
    assert loaded.origins["api.port"] == "the local stack"


def test_tenants_and_tables_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[tenants.acme]\nkey = "k"\nmode = "auto"\n[learner.canary_guardrails]\nclicked = 0.2\n',
    )
    loaded = load_settings(tmp_path, {"RATCHET_TENANTS__OTHER__KEY": "o"})
    assert loaded.settings.tenants["acme"].mode == "auto"
    assert loaded.settings.tenants["other"].key == "o"
    assert loaded.settings.learner.canary_guardrails == {"clicked": 0.2}
    again = load_settings(tmp_path, {"RATCHET_LEARNER__CANARY_GUARDRAILS": '{"thumbs_up": 0.5}'})
    assert again.settings.learner.canary_guardrails == {"thumbs_up": 0.5}


@pytest.mark.parametrize(
    ("text", "environ", "words"),
    [
        (
            "[kafka]\nboostrap = 'x'\n",
            {},
            r"unknown setting 'kafka\.boostrap'.*did you mean 'kafka\.bootstrap'",
        ),
        ("[kafka\n", {}, "is not TOML"),
        ("[api]\nport = 'many'\n", {}, r"api\.port .*ratchet\.toml.*int"),
        ("", {"RATCHET_API__PORT": "70000"}, r"api\.port \(the variable RATCHET_API__PORT\)"),
        ("", {"RATCHET_NONSENSE": "1"}, "unknown setting 'nonsense'"),
        ("[tenants.acme]\nkeys = 'x'\n", {}, r"unknown setting 'tenants\.acme\.keys'"),
        ("", {"RATCHET_LEARNER__CANARY_GUARDRAILS": "clicked"}, "must be JSON"),
        ("[tenants.Acme]\nmode = 'auto'\n", {}, r"tenants\.Acme \(.*ratchet\.toml\): expected a name"),
        (
            "",
            {"RATCHET_TENANTS__MY_SHOP__KEY": "k"},
            r"tenants\.my_shop \(the variable RATCHET_TENANTS__MY_SHOP__KEY\): expected a name",
        ),
        (
            "[tenants.a]\nkey = 'k'\n[tenants.b]\nkey = 'k'\n",
            {},
            r"tenants\.a and tenants\.b have the same key",
        ),
    ],
)
def test_mistakes_name_setting_origin_and_remedy(
    tmp_path: Path, text: str, environ: dict[str, str], words: str
) -> None:
    write(tmp_path, text)
    with pytest.raises(SettingsError, match=words):
        load_settings(tmp_path, environ)


def test_tenants_without_a_key_do_not_share_one(tmp_path: Path) -> None:
    write(tmp_path, "[tenants.a]\nmode = 'auto'\n[tenants.b]\nkey = ''\n[tenants.c-1]\nkey = 'k'\n")
    assert sorted(load_settings(tmp_path, {}).settings.tenants) == ["a", "b", "c-1"]


def test_an_inbox_is_of_a_tenant(tmp_path: Path) -> None:
    write(tmp_path, '[inbox]\ntenants = ["acme"]\n[tenants.acme]\nkey = "k"\n')
    assert load_settings(tmp_path, {}).settings.inbox.tenants == ("acme",)
    with pytest.raises(SettingsError, match=r"no tenant 'other'; there are: acme"):
        load_settings(tmp_path, {"RATCHET_INBOX__TENANTS": '["other"]'})
