"""Settings: the file, the variables over it, and errors that name key, value and mend."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from screener.domain import ResultKind, VoteRule
from screener.errors import ConfigError
from screener.settings import SETTINGS_FILE_VARIABLE, Settings, load_settings

NODE = '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "a"\nport = 104\n'
PEER = '[[peers]]\nae_title = "A"\naddresses = ["10.0.0.1"]\n'
WEB = (
    '[[destinations]]\nname = "a"\nprotocol = "dicomweb"\nurl = "https://pacs.example/dicom-web"\n'
)
PLAIN = WEB.replace("https", "http")


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SCREENER_")]:
        monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "screener.toml"
    path.write_text(text, encoding="utf-8")
    return path


# ── where values come from ───────────────────────────────────────────────────────────────────


def test_load_settings_without_file_gives_closed_defaults() -> None:
    """Without any file the node listens on loopback, lets nobody in and sends nowhere."""
    settings = load_settings()
    assert settings.node.host == "127.0.0.1"
    assert settings.peers == ()
    assert settings.destinations == ()
    assert settings.broker.url == ""


def test_load_settings_reads_the_file_given(tmp_path: Path) -> None:
    """Keys of the file replace defaults, and the others stay."""
    settings = load_settings(write(tmp_path, '[node]\nae_title = "WARD_7"\n'))
    assert settings.node.ae_title == "WARD_7"
    assert settings.node.port == 11112


def test_load_settings_finds_the_file_named_by_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SCREENER_SETTINGS names the file, and is itself no unknown key."""
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(write(tmp_path, "[node]\nport = 4242\n")))
    assert load_settings().node.port == 4242


def test_load_settings_prefers_the_variable_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable changes one key of a table; its neighbours keep what the file says."""
    monkeypatch.setenv("SCREENER_NODE__PORT", "5000")
    settings = load_settings(write(tmp_path, '[node]\nport = 4242\nae_title = "FILE"\n'))
    assert (settings.node.port, settings.node.ae_title) == (5000, "FILE")


def test_load_settings_reads_lists_from_variables_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without a settings file can still name its peers."""
    monkeypatch.setenv(
        "SCREENER_PEERS",
        '[{"ae_title": "CT1", "addresses": ["192.0.2.0/24"], "allow_plain": true}]',
    )
    (peer,) = load_settings().peers
    assert (peer.ae_title, peer.addresses) == ("CT1", ("192.0.2.0/24",))


# ── what is refused ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[node]\nprot = 104\n", "node.prot: unknown key"),
        ("[nodes]\nport = 104\n", "nodes: unknown key"),
        ("[node]\nport = 70000\n", "node.port: .*65535.*found: 70000"),
        ('[node]\nae_title = "A_TITLE_OF_17_CHR"\n', "node.ae_title: .*1 to 16.*A_TITLE_OF_17_CHR"),
        ('[node]\nae_title = "A\\\\B"\n', "node.ae_title: .*no backslash"),
        ('[node]\nae_title = "   "\n', "node.ae_title: .*1 to 16"),
        ('[[peers]]\nae_title = "A"\naddresses = []\n', "peers.0.addresses: "),
        ('[[peers]]\nae_title = "A"\n', "peers.0.addresses: missing; add it"),
        ('[[peers]]\nae_title = "A"\naddresses = ["ct1"]\n', "peers.0.addresses.0: .*10.1.2.0/24"),
        (WEB + "port = 104\n", 'destinations.0.port: this key needs protocol = "dimse"'),
        (NODE + 'url = "https://x/"\n', 'destinations.0.url: this key needs protocol = "dicomweb"'),
        (NODE + 'protocol = "hl7"\n', "destinations.0.protocol: .*'dicomweb'.*found: 'hl7'"),
        (PEER + 'query_destination = "x"\n', "peers: query_destination 'x' is no destination"),
        (PEER + 'query_destination = "x"\nquery_port = 1\n', "exclude each other: keep one"),
        (NODE + "potr = 1\n", "destinations.0.potr: unknown key"),
        (WEB + 'confirm = "commitment"\n', "destinations.0.confirm: .*'query'.*'commitment'"),
        (WEB + 'retrieve = "get"\n', "destinations.0.retrieve: .*'wado'.*found: 'get'"),
        (WEB + 'tls_key_file = "k"\n', "destinations.0: .*tls_key_file needs tls_certificate_file"),
        (WEB + 'bearer_token_file = "a"\nbasic_auth_file = "b"\n', "exclude each other: keep one"),
        (PLAIN + 'bearer_token_file = "a"\n', "over http can be read .*begin with https"),
        (PLAIN + 'tls_ca_file = "a"\n', "need TLS: let url begin with https"),
        ("[completion]\nseries_quiet_s = 0\n", "completion.series_quiet_s: .*found: 0"),
        ('[vote]\nrule = "guess"\n', "vote.rule: .*affected-fraction.*found: 'guess'"),
        ('[models.lungs]\nname = "x"\nsha256 = "12"\n', "models.lungs.sha256: .*64 lower-case"),
        ('[audit]\nnightly_at = "25:00"\n', "audit.nightly_at: .*02:30.*found: '25:00'"),
        ('[audit]\nnightly_at = "02:30Z"\n', "audit.nightly_at: .*02:30.*found: '02:30Z'"),
        ('[audit]\nnightly_at = "02:30\\n"\n', "audit.nightly_at: .*02:30.*found: '02:30"),
        ('[node]\ntime_zone = "Mars"\n', "node.time_zone: .*Europe/Berlin.*found: 'Mars'"),
        ('[node]\ntime_zone = "../x"\n', "node.time_zone: .*Europe/Berlin.*found: '../x'"),
        ('[inference]\nprovider = "tpu"\n', "inference.provider: .*'cuda'.*found: 'tpu'"),
    ],
)
def test_load_settings_names_key_value_and_mend(tmp_path: Path, text: str, expected: str) -> None:
    """Each error says which key is wrong, what was found and what would be right."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)
    assert re.search(expected, str(caught.value))


def test_load_settings_names_every_wrong_key_at_once(tmp_path: Path) -> None:
    """Nobody has to start five times to find five mistakes."""
    path = write(tmp_path, "[node]\nport = -1\n[workers]\nprocesses = 0\n[log]\nlevl = 1\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert {"node.port", "workers.processes", "log.levl"} <= set(
        re.findall(r"^  ([\w.]+):", str(caught.value), re.MULTILINE)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCREENER_NODE__PORT", "eleven"),
        ("SCREENER_PEERS", "CT1"),
        ("SCREENER_NODE__PROT", "104"),
    ],
)
def test_load_settings_refuses_wrong_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A wrong variable is an error of settings like a wrong key of the file."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name.removeprefix("SCREENER_").split("__")[0].lower()):
        load_settings()


@pytest.mark.parametrize(
    "url",
    [
        "pacs.example", "ftp://pacs.example", "https://", "https:///x", "https://pacs.example:x/",
        "https://pacs.example:0/", "https://pacs.example/a b", "https://[::1/", "",
        "https://user:secret-word@pacs.example/", "https://pacs.example/?token=secret-word",
        "https://pacs.example/#secret-word",
    ],
)  # fmt: skip
def test_load_settings_refuses_address_of_no_service(tmp_path: Path, url: str) -> None:
    """What is no root of a service, or holds a secret, is refused without showing it."""
    text = f'[[destinations]]\nname = "a"\nprotocol = "dicomweb"\nurl = "{url}"\n'
    with pytest.raises(
        ConfigError, match=r"destinations\.0\.url: .*(write the root|secrets go)"
    ) as e:
        load_settings(write(tmp_path, text))
    assert "secret-word" not in str(e.value)


def test_load_settings_takes_a_token_without_tls_for_this_machine(tmp_path: Path) -> None:
    """A gateway on loopback may get its token in the clear; a slash at the end is no difference."""
    for host in ("localhost", "127.0.0.1", "[::1]"):
        text = PLAIN.replace("pacs.example/dicom-web", f"{host}/dicom-web/")
        settings = load_settings(write(tmp_path, f'{text}bearer_token_file = "t"\n'))
        assert settings.destinations[0].protocol == "dicomweb"
        assert settings.destinations[0].url == f"http://{host}/dicom-web"


@pytest.mark.parametrize("key", ["database", "broker"])
def test_load_settings_never_shows_a_url(tmp_path: Path, key: str) -> None:
    """A URL may hold a password, so an error names the key alone."""
    path = write(tmp_path, f'[{key}]\nurl = ["redis://:secret-word@host"]\n')
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert f"{key}.url" in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_load_settings_explains_missing_file(tmp_path: Path) -> None:
    """A wrong path is said with the path and the option that mends it."""
    with pytest.raises(ConfigError, match=r"absent\.toml.*--settings"):
        load_settings(tmp_path / "absent.toml")


@pytest.mark.parametrize("content", [b"[node\n", b"\xff\xfe"])
def test_load_settings_explains_broken_file(tmp_path: Path, content: bytes) -> None:
    """A file that is no TOML is an error of settings, not a traceback."""
    path = tmp_path / "screener.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no valid TOML"):
        load_settings(path)


DESTINATION = '[[destinations]]\nname = "{}"\nae_title = "PACS"\nhost = "192.0.2.20"\nport = 104\n'


def test_load_settings_refuses_two_destinations_of_one_name(tmp_path: Path) -> None:
    """The audit names destinations, so a name stands for one of them."""
    with pytest.raises(ConfigError, match="two share a name"):
        load_settings(write(tmp_path, DESTINATION.format("pacs") * 2))


def test_load_settings_refuses_two_peers_of_one_title(tmp_path: Path) -> None:
    """Two blocks for one calling AE title would hide one of them."""
    peer = '[[peers]]\nae_title = "CT1"\naddresses = ["192.0.2.1"]\nallow_plain = true\n'
    with pytest.raises(ConfigError, match="two share an AE title"):
        load_settings(write(tmp_path, peer * 2))


def test_load_settings_refuses_waiting_times_out_of_order(tmp_path: Path) -> None:
    """A quiet time above the cap would never be reached."""
    with pytest.raises(ConfigError, match=r"hard_cap_s must not decrease.*60\.0, 600\.0, 300\.0"):
        load_settings(write(tmp_path, "[completion]\nhard_cap_s = 300\n"))


def test_load_settings_refuses_audit_of_unknown_pacs(tmp_path: Path) -> None:
    """The nightly audit can only ask a destination that exists."""
    text = DESTINATION.format("pacs") + '[audit]\npacs = "archive"\n'
    with pytest.raises(ConfigError, match=r"'archive' is no destination.*pacs"):
        load_settings(write(tmp_path, text))


# ── what follows from the values ─────────────────────────────────────────────────────────────


def test_paths_lie_in_data_dir_unless_named(tmp_path: Path) -> None:
    """One key moves everything; a key of its own moves one thing."""
    settings = Settings(data_dir=tmp_path, spool={"root": tmp_path / "other"})
    assert settings.spool_path == tmp_path / "other"
    assert settings.results_path == tmp_path / "results"
    assert settings.database_url == f"sqlite:///{tmp_path}/screener.sqlite3"
    assert settings.key_path.parent == settings.checkpoint_path.parent == tmp_path


def test_paths_are_absolute_when_data_dir_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later change of directory must not move the spool."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(data_dir=Path("here"))
    assert settings.spool_path == tmp_path / "here" / "spool"


def test_destination_gets_report_and_lungs_by_default(tmp_path: Path) -> None:
    """A block with the four required keys is a complete destination."""
    (destination,) = load_settings(write(tmp_path, DESTINATION.format("pacs"))).destinations
    assert destination.kinds == (ResultKind.STRUCTURED_REPORT, ResultKind.SEGMENTATION)
    assert destination.confirm == "query"


def test_vote_policy_carries_every_setting() -> None:
    """What the site chose is what the vote takes."""
    settings = Settings(vote={"name": "ward", "rule": "longest-run", "least_slices": 4})
    policy = settings.vote.policy()
    assert (policy.name, policy.rule, policy.least_slices) == ("ward", VoteRule.LONGEST_RUN, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"vote": {"slice_threshold": 0.6}},
        {"models": {"lungs": {"name": "other"}}},
        {"report": {"content_qualification": "PRODUCT"}},
    ],
)
def test_result_digest_follows_what_changes_results(change: dict[str, object]) -> None:
    """Another vote, model or wording gives other result objects, hence other UIDs."""
    assert Settings(**change).result_digest != Settings().result_digest  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"node": {"port": 104}},
        {"data_dir": Path("/elsewhere")},
        {"workers": {"processes": 4}},
        {"models": {"root": Path("/elsewhere")}},
    ],
)
def test_result_digest_ignores_what_changes_no_result(change: dict[str, object]) -> None:
    """A node that moves must not rename its reports (ADR 0011)."""
    assert Settings(**change).result_digest == Settings().result_digest  # type: ignore[arg-type]


def test_settings_cannot_be_changed_after_reading() -> None:
    """One frozen object, read once."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().node.port = 5  # type: ignore[misc]
