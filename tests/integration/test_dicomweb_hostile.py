"""A DICOMweb service that does what it should not: every way ends in a named error or outcome.

Statuses as a whole and of each instance, redirects, media types, sizes, half answers, time limits,
multipart bodies, pages, certificates and tokens. No error text holds the secret or a body.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from screener.audit.queries import run_status
from screener.daemon.deliveries import deliver
from screener.daemon.reprocess import reprocess_study
from screener.daemon.site import open_site, utc_now
from screener.deliver import qido, stow, wado, web
from screener.deliver.archive import WebArchive
from screener.domain import DeliveryState, Outcome
from screener.errors import DestinationRefused, DestinationUnavailable, ScreenerError
from tests.integration.receivers import REPORT, SEGMENTATION, write_object
from tests.integration.test_commitment import delivery_of, report_with_files
from tests.integration.test_dicomweb import settings_for, three_slices
from tests.integration.web_services import (
    DICOM_JSON,
    Exchange,
    make_site_keys,
    scripted_service,
    web_node,
)
from tests.receive_factories import SERIES_UID, STUDY_UID

pytestmark = pytest.mark.integration

Script = Callable[[Exchange], None]
SECRET = "canary-token-5d1f"  # noqa: S105 - a bird in a mine
BODY_WORD = "canary-body"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n", encoding="ascii")
    return path


def said_of(uids: dict[str, int | None], failed: dict[str, int | None]) -> bytes:
    """Write a store response (PS3.18 Annex I)."""

    def items(reasons: dict[str, int | None], tag: str) -> dict[str, Any]:
        return {
            "vr": "SQ",
            "Value": [
                {"00081155": {"vr": "UI", "Value": [uid]}}
                | ({tag: {"vr": "US", "Value": [reason]}} if reason is not None else {})
                for uid, reason in reasons.items()
            ],
        }

    return json.dumps(
        {"00081199": items(uids, "00081196"), "00081198": items(failed, "00081197")}
    ).encode()


# ── what becomes of each instance ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [200, 202, 409])
def test_reason_of_each_instance_is_read(tmp_path: Path, status: int) -> None:
    """As the C-STORE statuses: stored, with a warning, refused, to be tried again, or silent."""
    objects = [write_object(tmp_path, number) for number in range(1, 8)]
    uids = [one.sop_instance_uid for one in objects]

    def script(exchange: Exchange) -> None:
        stored = {uids[0]: None, uids[1]: 0xB000}
        failed = {uids[2]: 0xA900, uids[3]: 0xA700, uids[4]: None, uids[5]: 0x0122}
        exchange.answer(status, said_of(stored, failed | {uids[6]: 0x0110}), DICOM_JSON)

    with scripted_service(script) as service:
        statuses = stow.store_objects(web_node(service.url), objects)
    assert [one.sop_instance_uid for one in statuses] == uids
    assert [one.outcome for one in statuses] == [
        Outcome.STORED,
        Outcome.STORED_WITH_WARNING,
        Outcome.REFUSED,
        Outcome.RETRY,
        Outcome.RETRY,
        Outcome.SKIPPED,
        Outcome.RETRY,
    ]
    assert "0xB000" in statuses[1].comment


def test_class_that_is_not_taken_is_skipped(tmp_path: Path) -> None:
    """As with a rejected presentation context; what that means is decided by kind elsewhere."""
    objects = [write_object(tmp_path, 1, REPORT), write_object(tmp_path, 2, SEGMENTATION)]

    def script(exchange: Exchange) -> None:
        exchange.answer(415, b"no", {"Content-Type": "text/plain"})

    with scripted_service(script) as service:
        statuses = stow.store_objects(web_node(service.url), objects)
    assert {one.outcome for one in statuses} == {Outcome.SKIPPED}
    assert REPORT in statuses[0].comment
    assert len(service.asked) == 3


def test_instance_that_is_not_mentioned_is_sent_again(tmp_path: Path) -> None:
    """Success as a whole is no word about an instance."""
    (one, *_) = three_slices(tmp_path)
    with scripted_service(lambda e: e.answer(200, b"{}", DICOM_JSON)) as service:
        (status,) = stow.store_objects(web_node(service.url), [one])
    assert status.outcome is Outcome.RETRY
    assert "did not say" in status.comment


def test_too_large_together_is_sent_one_by_one(tmp_path: Path) -> None:
    """A limit on requests is met by smaller ones; what is too large alone is refused."""
    objects = three_slices(tmp_path)
    objects[1].path.write_bytes(objects[1].path.read_bytes() + bytes(4000))

    def script(exchange: Exchange) -> None:
        if len(exchange.asked.body) > 2000:
            exchange.answer(413)
            return
        sent = {o.sop_instance_uid: None for o in objects if _holds(exchange, o.path)}
        exchange.answer(200, said_of(sent, {}), DICOM_JSON)

    with scripted_service(script) as service:
        statuses = stow.store_objects(web_node(service.url), objects)
    assert [one.outcome for one in statuses] == [Outcome.STORED, Outcome.REFUSED, Outcome.STORED]
    assert "too large" in statuses[1].comment


def _holds(exchange: Exchange, path: Path) -> bool:
    return path.read_bytes() in exchange.asked.body


def test_service_that_goes_away_in_between_keeps_what_it_said(tmp_path: Path) -> None:
    """What was acknowledged one by one stays; the rest is sent later."""
    objects = three_slices(tmp_path)

    def script(exchange: Exchange) -> None:
        held = [one for one in objects if _holds(exchange, one.path)]
        if len(held) == 3:
            exchange.answer(400)
        elif held[0] is objects[0]:
            exchange.answer(200, said_of({held[0].sop_instance_uid: None}, {}), DICOM_JSON)
        else:
            exchange.answer(503)

    with scripted_service(script) as service:
        statuses = stow.store_objects(web_node(service.url), objects)
    assert [one.outcome for one in statuses] == [Outcome.STORED, Outcome.RETRY, Outcome.RETRY]


def test_what_is_sent_is_the_stored_file(tmp_path: Path, token_file: Path) -> None:
    """Each file byte for byte in its part, the size announced, the token in its header alone."""
    objects = three_slices(tmp_path)

    def script(exchange: Exchange) -> None:
        uids = {one.sop_instance_uid: None for one in objects}
        exchange.answer(200, said_of(uids, {}), DICOM_JSON)

    with scripted_service(script) as service:
        stow.store_objects(web_node(service.url, bearer_token_file=token_file), objects)
    (asked,) = service.asked
    assert (asked.method, asked.path) == ("POST", "/dicom-web/studies")
    assert asked.headers["Authorization"] == f"Bearer {SECRET}"
    media_type, _, boundary = asked.headers["Content-Type"].rpartition("boundary=")
    assert media_type == 'multipart/related; type="application/dicom"; '
    head, *parts, tail = asked.body.split(f"\r\n--{boundary}".encode())
    assert (head, tail) == (b"", b"--\r\n")
    prefix = b"\r\nContent-Type: application/dicom\r\n\r\n"
    assert parts == [prefix + one.path.read_bytes() for one in objects]


# ── answers as a whole ───────────────────────────────────────────────────────────────────────


def html(exchange: Exchange) -> None:
    exchange.answer(200, f"<p>{BODY_WORD}</p>".encode(), {"Content-Type": "text/html"})


def mislabelled(exchange: Exchange) -> None:
    exchange.answer(200, f"<p>{BODY_WORD}</p>".encode(), DICOM_JSON)


def nested(exchange: Exchange) -> None:
    exchange.answer(200, b"[" * 200_000, DICOM_JSON)


def bare(exchange: Exchange) -> None:
    exchange.answer(200)


def endless(exchange: Exchange) -> None:
    exchange.answer(200, b"", {"Content-Length": str(2**40)} | DICOM_JSON)
    while True:
        exchange.handler.wfile.write(b" " * 2**16)


def unfolding(exchange: Exchange) -> None:
    exchange.answer(200, b"\x1f\x8b", {"Content-Encoding": "gzip"} | DICOM_JSON)


def half_closed(exchange: Exchange) -> None:
    exchange.answer(200, b"{", {"Content-Length": "500"} | DICOM_JSON)
    exchange.handler.connection.shutdown(socket.SHUT_RDWR)


def silent(exchange: Exchange) -> None:
    exchange.handler.connection.shutdown(socket.SHUT_RDWR)


def no_http(exchange: Exchange) -> None:
    exchange.handler.wfile.write(b"220 mail.example ESMTP canary-body\r\n")
    exchange.handler.close_connection = True


def elsewhere(exchange: Exchange) -> None:
    exchange.answer(307, b"", {"Location": "https://other.example/canary-body"})


def in_circles(exchange: Exchange) -> None:
    exchange.answer(302, b"", {"Location": exchange.asked.path})


def nowhere(exchange: Exchange) -> None:
    exchange.answer(301)


def answers(status: int, **headers: str) -> Script:
    return lambda exchange: exchange.answer(status, BODY_WORD.encode(), headers)


HOSTILE: dict[str, tuple[Script, str]] = {
    "html": (html, "answered with text/html, not with readable DICOM JSON; check that url"),
    "html-said-to-be-json": (mislabelled, "not with readable DICOM JSON"),
    "deeply-nested": (nested, "not with readable DICOM JSON"),
    "no-media-type": (bare, "answered with no media type"),
    "endless": (endless, "answered more than 1 MiB of JSON"),
    "compressed-unasked": (unfolding, "answered in content coding 'gzip' unasked"),
    "half-closed": (half_closed, "broke off"),
    "closed": (silent, "broke off"),
    "no-http": (no_http, "does not speak HTTP"),
    "redirect-elsewhere": (elsewhere, "sends us to https://other.example; results go only where"),
    "redirect-nowhere": (nowhere, "sends us to|redirects without end|check that url"),
    "redirect-in-circles": (in_circles, "redirects without end|results go only where url says"),
    "401": (answers(401), r"check the token, user or certificate \(HTTP 401\)"),
    "403": (answers(403), "does not allow it"),
    "404": (answers(404), "check that url is its DICOMweb root"),
    "500": (answers(500), "has a fault of its own"),
    "503": (answers(503), "busy or being serviced"),
    "429": (answers(429), "asked too often"),
    "599": (answers(599), "answered what we do not know"),
    "206-is-a-part": (answers(206), "answered what we do not know"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_answer_that_is_none_is_named(
    tmp_path: Path, token_file: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing and asking end in the same named error, to be tried again; no secret, no body."""
    monkeypatch.setattr(web, "LARGEST_JSON_BYTES", 2**20)
    script, words = HOSTILE[case]
    objects = three_slices(tmp_path)
    with scripted_service(script) as service:
        node = web_node(service.url, bearer_token_file=token_file)
        for ask in (
            lambda: stow.store_objects(node, objects),
            lambda: qido.find_studies(node, date(2026, 1, 2)),
        ):
            with pytest.raises(DestinationUnavailable, match=words) as caught:
                ask()
            assert SECRET not in str(caught.value)
            assert BODY_WORD not in str(caught.value)
        assert not WebArchive(node).echo().is_ok


def test_missing_day_list_is_no_empty_day(tmp_path: Path) -> None:
    """A wrong address must not look like a PACS without studies; below a study 404 is "none"."""
    objects = three_slices(tmp_path)
    with scripted_service(answers(404)) as service:
        node = web_node(service.url)
        with pytest.raises(DestinationUnavailable, match="HTTP 404"):
            qido.find_studies(node, date(2026, 1, 2))
        assert qido.find_series(node, STUDY_UID) == ()
        assert qido.confirm_objects(node, objects) == frozenset()
    with scripted_service(lambda e: e.answer(204)) as service:
        assert qido.find_studies(web_node(service.url), date(2026, 1, 2)) == ()


def test_service_that_does_not_answer_costs_its_time_limit(tmp_path: Path) -> None:
    """Silence ends in an error, not in a sender that waits for ever."""
    import threading

    done = threading.Event()
    with scripted_service(lambda _: done.wait()) as service:
        node = web_node(service.url, timeout_s=0.2)
        with pytest.raises(DestinationUnavailable, match=r"did not answer within 0\.2 s"):
            stow.store_objects(node, three_slices(tmp_path))
        done.set()


def test_answer_that_trickles_is_ended() -> None:
    """Each byte is in time, the whole never comes."""

    def script(exchange: Exchange) -> None:
        exchange.answer(200, b"", {"Content-Length": "1000000"} | DICOM_JSON)
        while True:
            exchange.handler.wfile.write(b" ")

    with scripted_service(script) as service:
        node = web_node(service.url, timeout_s=0.1)
        with pytest.raises(DestinationUnavailable, match="did not come to an end in time"):
            qido.count_instances(node, STUDY_UID)


def test_nobody_there_is_named() -> None:
    """A closed port and a name that does not resolve say what to check."""
    for url in ("http://127.0.0.1:1/dicom-web", "http://pacs.invalid/dicom-web"):
        with pytest.raises(DestinationUnavailable, match="check host and port"):
            qido.ask_anything(web_node(url, timeout_s=2))


def test_redirect_within_the_service_is_followed_for_questions(tmp_path: Path) -> None:
    """A question follows; a body is not sent twice, and the error says where to."""

    def script(exchange: Exchange) -> None:
        if exchange.asked.path.startswith("/dicom-web/"):
            moved = exchange.asked.path.replace("/dicom-web/", "/new/")
            exchange.answer(308, b"", {"Location": moved})
        else:
            exchange.answer(200, b"[]", DICOM_JSON)

    with scripted_service(script) as service:
        node = web_node(service.url)
        assert qido.find_studies(node, date(2026, 1, 2)) == ()
        with pytest.raises(DestinationUnavailable, match="write the right address there"):
            stow.store_objects(node, three_slices(tmp_path))


@pytest.mark.parametrize("value", ["7200", "date", "soon", ""])
def test_service_is_left_alone_as_long_as_it_asks(tmp_path: Path, value: str) -> None:
    """Retry-After moves the next try, within reason; nonsense changes nothing."""
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=1800), usegmt=True)
    header = {"Retry-After": at if value == "date" else value}
    with scripted_service(lambda e: e.answer(503, b"", header)) as service:
        site = open_site(settings_for(tmp_path, service.url, name="pacs"))
        run_id, delivery_id = report_with_files(site, tmp_path)
        before = utc_now()
        deliver(site, delivery_id)
    status = delivery_of(site, run_id)
    assert status.state is DeliveryState.RETRYING
    wait_s = (_not_before(site, delivery_id) - before).total_seconds()
    least_s = {"7200": 3600.0, "date": 1700.0}.get(value, 0.0)
    assert least_s <= wait_s <= least_s + 200.0


def _not_before(site: Any, delivery_id: str) -> datetime:
    from screener.audit.tables import Delivery

    with site.database.session() as session:
        at = session.get_one(Delivery, delivery_id).not_before_at
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# ── lists ────────────────────────────────────────────────────────────────────────────────────


def studies(numbers: range) -> bytes:
    return json.dumps(
        [
            {
                "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
                "00080061": {"vr": "CS", "Value": ["CT" if number % 2 else "MR", "SR"]},
                "00201208": {"vr": "IS", "Value": [number]},
            }
            for number in numbers
        ]
    ).encode()


@pytest.mark.parametrize("gives", ["asked-pages", "small-pages", "always-all"])
def test_list_is_read_to_its_end(gives: str) -> None:
    """Whether a service pages as asked, gives less, or ignores both: each study once."""
    from urllib.parse import parse_qs, urlsplit

    def script(exchange: Exchange) -> None:
        query = parse_qs(urlsplit(exchange.asked.path).query)
        first, limit = int(query["offset"][0]), int(query["limit"][0])
        limit = 70 if gives == "small-pages" else limit
        first, limit = (0, 900) if gives == "always-all" else (first, limit)
        exchange.answer(200, studies(range(first, min(first + limit, 900))), DICOM_JSON)

    with scripted_service(script) as service:
        found = qido.find_studies(web_node(service.url), date(2026, 1, 2))
    assert [one.study_instance_uid for one in found] == [f"1.2.{n}" for n in range(1, 900, 2)]
    assert found[3].n_instances == 7


def test_list_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that always has more is not believed."""
    monkeypatch.setattr(qido, "MOST_PAGES", 3)
    counter = iter(range(100))

    def script(exchange: Exchange) -> None:
        at = next(counter)
        exchange.answer(200, studies(range(at, at + 1)), DICOM_JSON)

    with (
        scripted_service(script) as service,
        pytest.raises(DestinationUnavailable, match="lists more than 3 pages"),
    ):
        qido.find_studies(web_node(service.url), date(2026, 1, 2))


@pytest.mark.parametrize("body", [b"{}", b"[1]", b'["x"]'])
def test_list_of_something_else_is_an_error(body: bytes) -> None:
    """What is no list of matches is not taken for an empty one."""
    with (
        scripted_service(lambda e: e.answer(200, body, DICOM_JSON)) as service,
        pytest.raises(DestinationUnavailable, match="no list of matches"),
    ):
        qido.count_instances(web_node(service.url), STUDY_UID)


def test_other_answers_confirm_nothing(tmp_path: Path) -> None:
    """A service that lists another instance, or odd values, does not hold ours."""
    (one, *_) = three_slices(tmp_path)
    odd = [{"00080018": {"Value": ["1.2.3"]}}, {"00080018": {"Value": [None]}}, {"00080018": 5}]
    body = json.dumps(odd).encode()
    with scripted_service(lambda e: e.answer(200, body, DICOM_JSON)) as service:
        assert qido.confirm_objects(web_node(service.url), [one]) == frozenset()


# ── retrieval ────────────────────────────────────────────────────────────────────────────────


class Kept:
    """Takes instances and remembers them."""

    def __init__(self) -> None:
        self.instances: list[bytes] = []

    def take(self, chunks: Iterator[bytes]) -> None:
        self.instances.append(b"".join(chunks))


def gives(body: bytes, content_type: str, *, n_listed: int = 2, status: int = 200) -> Script:
    listed = [{"00080018": {"Value": [f"1.2.{number}"]}} for number in range(n_listed)]

    def script(exchange: Exchange) -> None:
        if "/instances" in exchange.asked.path:
            exchange.answer(200, json.dumps(listed).encode(), DICOM_JSON)
        elif "/series?" in exchange.asked.path:
            one = {"0020000E": {"Value": [SERIES_UID]}, "00080060": {"Value": ["CT"]}}
            exchange.answer(200, json.dumps([one]).encode(), DICOM_JSON)
        else:
            exchange.answer(status, body, {"Content-Type": content_type})

    return script


RELATED = 'multipart/related; type="application/dicom"; boundary="b 1"'
PART = b"--b 1\r\nContent-Type: application/dicom; x=y\r\nX: y\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"<p>canary-body</p>", "text/html", "no multipart/related body"),
        (PART + b"abc", RELATED, "ends before its closing boundary"),
        (PART + b"abc\r\n--b 1", RELATED, "ends before its closing boundary"),
        (b"", RELATED, "ends before its closing boundary"),
        (PART.replace(b"dicom;", b"json;") + b"abc\r\n--b 1--", RELATED, "is not application/d"),
        (b"--b 1xyz\r\n\r\n\r\n--b 1--", RELATED, "boundary stands within a part"),
        (b"--b 1\r\n" + b"X: y\r\n" * 9000, RELATED, "headers of a part are too long"),
        (b"--b 1\r\n" + b"X" * 90000, RELATED, "headers of a part are too long"),
        (PART, "multipart/related", "no multipart/related body"),
        (PART, 'multipart/related; boundary="\x01"', "no multipart/related body"),
    ],
)
def test_body_that_is_no_list_of_instances(body: bytes, content_type: str, words: str) -> None:
    """Every break of the multipart form is named, and nothing of the body is said."""
    with scripted_service(gives(body, content_type)) as service:
        node = web_node(service.url)
        with pytest.raises(DestinationUnavailable, match=words) as caught:
            wado.get_series(node, STUDY_UID, [SERIES_UID], Kept())
    assert BODY_WORD not in str(caught.value)


@pytest.mark.parametrize(
    ("n_listed", "status", "error", "words"),
    [
        (3, 200, DestinationRefused, "gave 2 of 3 instances"),
        (2, 206, DestinationRefused, "gave only a part"),
        (2, 404, DestinationUnavailable, "no such resource"),
        (2, 503, DestinationUnavailable, "busy"),
    ],
)
def test_half_a_series_is_an_error(
    n_listed: int, status: int, error: type[ScreenerError], words: str
) -> None:
    """What was listed must come; a part is no series."""
    body = PART + b"one\r\n" + PART + b"two\r\n--b 1--"
    script = gives(body, RELATED, n_listed=n_listed, status=status)
    with scripted_service(script) as service, pytest.raises(error, match=words):
        wado.get_series(web_node(service.url), STUDY_UID, [SERIES_UID], Kept())


def test_instances_come_as_they_are() -> None:
    """Preamble, padding, empty parts and an epilogue change nothing of the instances."""
    body = (
        b"hello\r\n" + PART + b"o\r\n-ne\r\n--b 1 \t\r\n\r\n\r\n--b 1\r\n\r\ntwo\r\n--b 1--\r\nbye"
    )
    kept = Kept()
    with scripted_service(gives(body, RELATED)) as service:
        wado.get_series(web_node(service.url), STUDY_UID, [SERIES_UID], kept)
    assert kept.instances == [b"o\r\n-ne", b"", b"two"]


def test_garbage_is_not_kept_and_no_run_is_made_of_it(tmp_path: Path) -> None:
    """Parts that are no DICOM files are refused with a reason, and the study stays unknown."""
    good = write_object(tmp_path, 1).path.read_bytes()
    body = PART + b"garbage\r\n" + PART + bytes(300) + b"\r\n" + PART + good[:200] + b"\r\n--b 1--"
    with scripted_service(gives(body, RELATED)) as service:
        site = open_site(settings_for(tmp_path, service.url, retrieve="wado"))
        with pytest.raises(DestinationRefused, match=r"3 instances of .* cannot be kept: 0xC000"):
            reprocess_study(site.settings, STUDY_UID)
    assert run_status(site.database, STUDY_UID) is None
    assert not list((site.settings.spool_path / "incoming").iterdir())


# ── TLS and tokens ───────────────────────────────────────────────────────────────────────────


def test_token_travels_over_tls_to_the_site_alone(tmp_path: Path, token_file: Path) -> None:
    """With the site's authority and our certificate the token arrives; else nothing is said."""
    keys = make_site_keys(tmp_path)
    context = keys.server_context(wants_certificate=True)

    def script(exchange: Exchange) -> None:
        is_ours = exchange.asked.headers.get("Authorization") == f"Bearer {SECRET}"
        exchange.answer(200 if is_ours else 401, b"[]", DICOM_JSON)

    files = {"tls_ca_file": keys.ca_file, "tls_certificate_file": keys.certificate_file}
    files |= {"tls_key_file": keys.key_file, "bearer_token_file": token_file}
    with scripted_service(script, context) as service:
        assert WebArchive(web_node(service.url, **files)).echo().is_ok
        token_file.write_text("another-one", encoding="ascii")  # renewed without a restart
        assert "HTTP 401" in WebArchive(web_node(service.url, **files)).echo().detail
        n_asked = len(service.asked)
        for left_out, words in (("tls_ca_file", "not trusted"), ("tls_certificate_file", "no TLS")):
            fewer = {key: value for key, value in files.items() if key != left_out}
            fewer = fewer if left_out == "tls_ca_file" else {"tls_ca_file": keys.ca_file}
            result = WebArchive(web_node(service.url, **fewer)).echo()
            assert not result.is_ok
            assert words in result.detail
        assert len(service.asked) == n_asked


def test_certificate_of_another_host_is_not_trusted(tmp_path: Path, token_file: Path) -> None:
    """The authority is ours, the host is not: nothing is said to it."""
    keys = make_site_keys(tmp_path, "pacs.example")
    context = keys.server_context(wants_certificate=False)
    with scripted_service(answers(200), context) as service:
        node = web_node(service.url, tls_ca_file=keys.ca_file, bearer_token_file=token_file)
        result = WebArchive(node).echo()
        assert not result.is_ok
        assert "not trusted (Hostname mismatch" in result.detail
        assert service.asked == []


@pytest.mark.parametrize(
    ("key", "content", "words"),
    [
        ("bearer_token_file", None, "bearer_token_file .*No such file"),
        ("bearer_token_file", b"two words", "holds no bearer token"),
        ("bearer_token_file", b"", "holds no bearer token"),
        ("bearer_token_file", b"\xff\xfe", "it is no text"),
        ("basic_auth_file", b"no-colon", "write user:password"),
        ("basic_auth_file", b"a:b\nc:d", "write user:password"),
        ("tls_ca_file", b"no certificate", "tls_ca_file .*no usable PEM"),
        ("tls_certificate_file", b"no certificate", "tls_certificate_file .*no usable PEM"),
        ("tls_certificate_file", "encrypted", "its key is encrypted"),
    ],
)
def test_file_that_cannot_be_used_is_named(
    tmp_path: Path, key: str, content: bytes | str | None, words: str
) -> None:
    """The text names setting, file and what is wrong, and nothing that stands in it."""
    path = tmp_path / "file"
    if content == "encrypted":
        path.write_bytes(_encrypted_pair(make_site_keys(tmp_path).server_file))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    node = web_node("https://localhost:1/dicom-web", **{key: path})
    with pytest.raises(DestinationUnavailable, match=words) as caught:
        qido.ask_anything(node)
    assert str(path) in str(caught.value)
    assert (
        not isinstance(content, bytes)
        or not content
        or content.decode("latin-1") not in str(caught.value)
    )


def _encrypted_pair(pair: Path) -> bytes:
    """Give a certificate with its key under a passphrase."""
    from cryptography.hazmat.primitives import serialization

    content = pair.read_bytes()
    key = serialization.load_pem_private_key(content, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    return content[content.index(b"-----BEGIN CERTIFICATE") :] + encrypted


def test_surroundings_do_not_steer_where_results_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxy variables and .netrc are left alone."""
    (tmp_path / ".netrc").write_text("machine localhost login a password canary-netrc\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with scripted_service(lambda e: e.answer(200, b"[]", DICOM_JSON)) as service:
        assert WebArchive(web_node(service.url)).echo().is_ok
    assert "Authorization" not in service.asked[0].headers
