"""``*_FILE`` variants, and files that cannot be read."""

from pathlib import Path

import pytest

from cliffracer.errors import SetupError
from cliffracer.settings import Settings

LONG = "k3y-" + "abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_holds_the_value(tmp_path: Path, load, end: str) -> None:
    """AUTH_SECRET_KEY_FILE names a file whose content, without one final line break, is the secret."""
    path = tmp_path / "key"
    path.write_bytes((LONG + end).encode())
    settings = load({"AUTH_SECRET_KEY_FILE": str(path)})
    assert settings.auth_secret_key is not None
    assert settings.auth_secret_key.reveal() == LONG
    assert str(settings.origin("auth_secret_key")) == f"environment AUTH_SECRET_KEY_FILE ({path})"


def test_one_line_break_only_is_dropped(tmp_path: Path, load) -> None:
    """A second final line break belongs to the value, so a secret of one line refuses it."""
    (tmp_path / "key").write_text("secret\n\n")
    with pytest.raises(SetupError, match=r"DB_PASSWORD_FILE \(environment\) cannot be used: one line"):
        load({"DB_PASSWORD_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_has_a_file_variant(tmp_path: Path, load, name: str) -> None:
    """CLIFFRACER_<NAME>_FILE is known for each setting, and read."""
    with pytest.raises(SetupError, match=rf"CLIFFRACER_{name.upper()}_FILE \(environment\) names .*gone, which does not exist"):
        load({f"CLIFFRACER_{name.upper()}_FILE": str(tmp_path / "gone")})


def test_files_in_files_are_beside_them(tmp_path: Path, load) -> None:
    """A relative path in .env or TOML starts at that file's folder, wherever the process runs."""
    (tmp_path / "a").write_text("8001\n")
    (tmp_path / "b").write_text("blue\n")
    (tmp_path / ".env").write_text("HTTP_PORT_FILE=a\n")
    (tmp_path / "cliffracer.toml").write_text('namespace_file = "b"\n')
    found = load()
    assert (found.http_port, found.namespace) == (8001, "blue")


def test_both_variants_are_a_mistake(load) -> None:
    """A value and a file of one name in one place leave open which counts."""
    with pytest.raises(SetupError, match=r"^NATS_TOKEN and NATS_TOKEN_FILE are both set \(environment\): keep one\.$"):
        load({"NATS_TOKEN": "x", "NATS_TOKEN_FILE": "y"})


def test_a_higher_place_wins_over_a_file(tmp_path: Path, load) -> None:
    """A variable of the environment hides the file variant of .env, which is not even opened."""
    (tmp_path / ".env").write_text("NATS_USER_FILE=gone\n")
    assert load({"NATS_USER": "ada"}).nats_user == "ada"
    assert load({"NATS_USER_FILE": ""}).nats_user is None


def unreadable(tmp_path: Path) -> dict[str, Path]:
    """Files that hold no value."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "long").write_text("x" * 1_000_001)
    (tmp_path / "through").symlink_to(tmp_path / "through")
    return {"folder": folder, "binary": tmp_path / "binary", "empty": tmp_path / "empty", "long": tmp_path / "long",
            "through": tmp_path / "through", "zero": Path("/dev/zero"), "nul": Path("a\0b"), "name": Path("n" * 5000)}  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "binary", "empty", "long", "through", "zero", "nul", "name"])
def test_a_file_that_holds_no_value_is_named(tmp_path: Path, load, kind: str) -> None:
    """A folder, bytes that are no text, an empty or endless file: the message names variable and path."""
    path = unreadable(tmp_path)[kind]
    with pytest.raises(SetupError) as caught:
        load({"NATS_PASSWORD_FILE": str(path)})
    assert str(caught.value).startswith(f"NATS_PASSWORD_FILE (environment) names {path}")


@pytest.mark.parametrize("name", ["cliffracer.toml", "pyproject.toml", ".env"])
@pytest.mark.parametrize("content", [b"\xff\xfe=\x00", b"= [1\n", b"a\0b"])
def test_a_broken_settings_file_is_named(tmp_path: Path, load, name: str, content: bytes) -> None:
    """A settings file that is no UTF-8, no TOML, or has a line that is none stops the start with its name."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SetupError, match=name.replace(".", r"\.")):
        load()


@pytest.mark.parametrize("name", ["cliffracer.toml", "pyproject.toml"])
def test_a_folder_in_the_place_of_a_settings_file_is_named(tmp_path: Path, load, name: str) -> None:
    """A folder called cliffracer.toml is a mistake."""
    (tmp_path / name).mkdir()
    with pytest.raises(SetupError, match="cannot be read: Is a directory"):
        load()


def test_a_virtual_environment_called_dot_env_is_left_alone(tmp_path: Path, load) -> None:
    """Some people keep their virtual environment in a folder .env."""
    (tmp_path / ".env").mkdir()
    assert load() == Settings()


@pytest.mark.parametrize("content", ["tool = 1\n", "[tool]\ncliffracer = 1\n"])
def test_a_table_that_is_none_is_told(tmp_path: Path, load, content: str) -> None:
    """``tool.cliffracer`` must be a table."""
    (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(SetupError, match="must be a table"):
        load()


def test_a_file_variant_in_toml_is_a_path(tmp_path: Path, load) -> None:
    """``nats_token_file = 5`` is told."""
    (tmp_path / "cliffracer.toml").write_text("nats_token_file = 5\n")
    with pytest.raises(SetupError, match=r"nats_token_file in cliffracer\.toml must be the path of a file"):
        load()


def test_deep_toml_is_refused(tmp_path: Path, load) -> None:
    """Nesting beyond the parser's depth is a message, not a crash."""
    (tmp_path / "cliffracer.toml").write_text("limit = " + "[" * 10_000 + "]" * 10_000)
    with pytest.raises(SetupError, match="is no TOML"):
        load()


def test_a_byte_order_mark_is_no_part_of_a_value(tmp_path: Path, load) -> None:
    """Files that Windows editors wrote are read: mark at the beginning, CRLF at the ends."""
    (tmp_path / ".env").write_bytes("\ufeffHTTP_PORT=81\r\nLOG_LEVEL=error\r\n".encode())
    (tmp_path / "cliffracer.toml").write_bytes("\ufefflimit = 5\r\n".encode())
    (tmp_path / "user").write_bytes("\ufeffada\r\n".encode())
    found = load({"NATS_USER_FILE": str(tmp_path / "user")})
    assert (found.http_port, found.log_level, found.limit, found.nats_user) == (81, "ERROR", 5, "ada")
