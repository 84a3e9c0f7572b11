"""The dashboard on this machine: the command, and the server behind it."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from relayq_core.cli import dashboard
from relayq_core.cli.main import main
from relayq_core.local.web import DashboardServer, serve
from tests.surfaces.dashboard.browsing import World


@pytest.fixture
def server(world: World) -> Iterator[DashboardServer]:
    """On a free port."""
    with serve(world.relayq) as made:
        yield made


def _asked(server: DashboardServer, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location") or answer.read().decode()
    finally:
        connection.close()


def test_the_server_listens_on_this_machine_only(server: DashboardServer) -> None:
    """No one else in the café can reach it."""
    assert server._server.server_address[0] == "127.0.0.1"


def test_the_root_leads_to_the_dashboard_and_that_to_the_login(server: DashboardServer) -> None:
    """An operator who types the bare address finds it."""
    assert _asked(server, "GET", "/") == (303, "/dashboard")
    assert _asked(server, "GET", "/dashboard") == (303, "/dashboard/login")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:80", ""])
def test_another_hosts_name_leads_nowhere(server: DashboardServer, host: str) -> None:
    """A page from elsewhere can make its own name lead to this machine, and would be let in as itself."""
    assert _asked(server, "GET", "/dashboard/login", Host=host)[0] == 421


@pytest.mark.parametrize("length", ["99999999", "-1", "many"])
def test_a_body_that_is_too_long_is_not_read(server: DashboardServer, length: str) -> None:
    """A body whose length makes no sense is not read either."""
    assert _asked(server, "POST", "/dashboard/login", Content_Length=length)[0] == 413


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: identity"], 400),
        (["Transfer-Encoding: chunked", "Content-Length: 3"], 400),
        (["Content-Length: 3", "Content-Length: 3"], 400),
        (["Content-Length: 3", "content-length: 90"], 400),
        (["Content-Length: +3"], 413),
        (["Content-Length: 3, 3"], 413),
        (["Content-Length: " + "9" * 5000], 413),
        (["Origin: http://evil.example", "Content-Length: 3"], 403),
        (["Origin: null", "Content-Length: 3"], 403),
        (["Host: evil.example", "Content-Length: 3"], 421),
    ],
)
def test_a_body_whose_end_is_in_doubt_ends_the_connection(
    server: DashboardServer, lines: list[str], status: int
) -> None:
    """What one reader takes for a body is a request to another: one answer, and nothing after it is read."""
    head = ["POST /dashboard/login HTTP/1.1", f"Host: 127.0.0.1:{server.port}", *lines]
    hidden = f"GET /dashboard/login HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*head, "", "a=b" + hidden]).encode())
        with connection.makefile("rb") as answer:
            received = answer.read()
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert received.count(b"HTTP/1.1 ") == 1


def test_head_has_no_body(server: DashboardServer) -> None:
    """The next request on the connection would be read from it."""
    assert _asked(server, "HEAD", "/dashboard/login") == (200, "")


def test_two_dashboards_of_one_machine_keep_their_sessions(world: World) -> None:
    """Cookies know no port: each has a name of its own, goes to the dashboard only, and opens no other."""
    with serve(world.relayq) as one, serve(world.relayq) as other:
        cookies = [_session(server) for server in (one, other)]
        names = [cookie.partition("=")[0] for cookie in cookies]
        assert names == [f"relayq-{one.port}", f"relayq-{other.port}"]
        both = "; ".join(cookies)
        assert [_asked(server, "GET", "/dashboard", Cookie=both)[0] for server in (one, other)] == [200, 200]
        swapped = f"{names[1]}={cookies[0].partition('=')[2]}"
        assert _asked(other, "GET", "/dashboard", Cookie=swapped)[0] == 303


def _session(server: DashboardServer) -> str:
    """The cookie that the link opens."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", server.url.partition(str(server.port))[2])
        cookie, *attributes = (connection.getresponse().getheader("Set-Cookie") or "").split("; ")
        assert {"Path=/dashboard", "HttpOnly", "SameSite=Strict"} <= set(attributes)
        assert not any(attribute.lower().startswith("domain") for attribute in attributes)
        return cookie
    finally:
        connection.close()


def test_the_link_opens_a_session_and_the_form_works(server: DashboardServer, world: World) -> None:
    """Through real HTTP: a cookie, a form, a redirect."""
    world.waiting("job-1")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", server.url.partition(str(server.port))[2])
    answer = connection.getresponse()
    answer.read()
    cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    assert _asked(server, "GET", "/dashboard", Cookie=cookie)[0] == 200
    page = _asked(server, "GET", "/dashboard/job?id=job-1", Cookie=cookie)[1]
    token = page.partition('name="form_token" value="')[2].partition('"')[0]
    status, location = _asked(
        server,
        "POST",
        "/dashboard/cancel",
        f"id=job-1&form_token={token}".encode(),
        Cookie=cookie,
        Content_Type="application/x-www-form-urlencoded",
    )
    assert (status, location) == (303, "/dashboard/job?id=job-1&notice=cancelled")
    assert world.store.jobs["job-1"].status == "cancelled"
    connection.close()


# ---------------------------------------------------------------- the command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and an environment that names tables which are not read."""
    monkeypatch.chdir(tmp_path)
    for name in ("JOBS_TABLE", "FAILED_TABLE", "RUNNER_FUNCTION"):
        monkeypatch.setenv(f"RELAYQ_{name}", name.lower())
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


@pytest.mark.usefixtures("here")
def test_the_command_serves_until_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option --json prints the address for programs."""
    seen: list[int] = []

    def look() -> None:
        told = json.loads(capsys.readouterr().out)
        assert told["read_only"] is True
        with urllib.request.urlopen(f"{told['address']}/login", timeout=20) as answer:
            seen.append(answer.status)

    monkeypatch.setattr(dashboard, "_wait_for_interrupt", look)
    assert main(["dashboard", "--port", "0", "--read-only", "--json"]) == 0
    assert seen == [200]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("options", [[], ["--read-only"]])
def test_jobs_that_cannot_be_imported_do_not_keep_an_operator_from_looking(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str]
) -> None:
    """Their forms are missing then, and it says why."""
    (tmp_path / "broken_shop.py").write_text("import no_such_module\n")
    monkeypatch.setenv("RELAYQ_JOB_MODULES", "broken_shop")
    monkeypatch.setattr(dashboard, "_wait_for_interrupt", lambda: None)
    assert main(["dashboard", "--port", "0", *options]) == 0
    told = capsys.readouterr()
    assert "/dashboard/enter?key=" in told.out
    assert "cannot import the job modules broken_shop" in told.err
    assert "no_such_module" in told.err


@pytest.mark.usefixtures("here")
def test_people_see_what_to_open(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The link, the token for another browser, and how to end it."""
    monkeypatch.setattr(dashboard, "_wait_for_interrupt", lambda: None)
    assert main(["dashboard", "--port", "0"]) == 0
    said = capsys.readouterr().out
    assert "/dashboard/enter?key=" in said
    assert "Ctrl-C" in said


@pytest.mark.usefixtures("here")
def test_a_port_that_is_taken_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["dashboard", "--port", str(port)]) == 1
    assert f"port {port} cannot be used" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_without_its_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not show a traceback of an import."""
    monkeypatch.setattr(dashboard, "_NEEDED", ("no_such_module",))
    assert main(["dashboard"]) == 1
    assert "pip install 'relayq[cli,api]'" in capsys.readouterr().err
