"""The command line and the file: what a person sees who mistypes, and what a supervisor sees."""

import re

import pytest

from support import DEPLOY, command, free_port, listens
from wire import Client

GOOD = """
listen = ["127.0.0.1:{port}"]
heartbeat = "25s"

[[route]]
path = "/echo"
handler = "echo"
"""


def written(tmp_path, text):
    path = tmp_path / "worker.toml"
    path.write_text(text)
    return path


def test_a_good_file_is_called_good(tmp_path):
    done = command("check", "--config", written(tmp_path, GOOD.format(port=free_port())))
    assert done.returncode == 0, done.stderr


def test_the_shipped_file_is_good():
    done = command("check", "--config", DEPLOY / "ws-worker.toml")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("action", ["check", "serve"])
@pytest.mark.parametrize("wrong, meant", [("heartbeet", "heartbeat"), ("max_mesage", "max_message"), ("listn", "listen")])
def test_an_unknown_key_is_named_with_its_place_and_the_one_that_was_meant(tmp_path, action, wrong, meant):
    path = written(tmp_path, f'threads = 1\n  {wrong} = "25s"\n' + GOOD.format(port=free_port()))
    done = command(action, "--config", path)
    assert done.returncode == 78
    assert wrong in done.stderr and meant in done.stderr and str(path) in done.stderr
    assert re.search(r"line 2\b.*column 3\b|:2:3\b", done.stderr)


def test_an_unknown_key_of_a_route_is_named_too(tmp_path):
    done = command("check", "--config", written(tmp_path, GOOD.format(port=free_port()) + 'alowed_origins = []\n'))
    assert done.returncode == 78 and "alowed_origins" in done.stderr and "allowed_origins" in done.stderr


@pytest.mark.parametrize("wrong", [
    'heartbeat = 25', 'heartbeat = "25"', 'heartbeat = "25 parsecs"', 'heartbeat = "-1s"', 'max_message = "1 potato"',
    'max_message = 1048576.5', 'max_message = "99999999999999999999GiB"', 'threads = 0', 'threads = "two"', 'versions = [7, 9]',
    'versions = []', 'trusted_proxies = ["everyone"]', 'listen = ["somewhere"]', 'listen = []', 'listen = "127.0.0.1:99999"'])
def test_a_bad_value_is_named(tmp_path, wrong):
    key = wrong.split(" ")[0]
    text = re.sub(rf"(?m)^{key} = .*$", "", GOOD.format(port=free_port()))
    done = command("check", "--config", written(tmp_path, wrong + "\n" + text))
    assert done.returncode == 78 and key in done.stderr, done.stderr


@pytest.mark.parametrize("route", [
    'path = "/a"', 'path = "/a"\nhandler = "dance"', 'path = "a"\nhandler = "echo"', 'handler = "echo"',
    'path = "/a"\nhandler = "echo"\napp = "http://127.0.0.1:1/"', 'path = "/a"\napp = "ftp://127.0.0.1/"',
    'path = "/a"\napp = "http://127.0.0.1:1/"\nretry = "perhaps"', 'path = "/a"\napp = "http://127.0.0.1:1/"\ndialect = "klingon"',
    'path = "/echo"\nhandler = "chat"', 'path = "/a"\napp = "http://127.0.0.1:1/"\nsecret_file = "/does/not/exist"',
    'path = "/a"\nhandler = "echo"\nallowed_origins = ["example.org/path"]'])
def test_a_bad_route_is_refused(tmp_path, route):
    done = command("check", "--config", written(tmp_path, GOOD.format(port=free_port()) + "[[route]]\n" + route + "\n"))
    assert done.returncode == 78 and done.stderr.strip(), done.stderr


def test_what_is_no_toml_is_shown_where_it_breaks(tmp_path):
    done = command("check", "--config", written(tmp_path, 'listen = ["127.0.0.1:9000"\nthreads = 1\n'))
    assert done.returncode == 78 and re.search(r"line 2|:2:", done.stderr)


def test_a_file_that_is_not_there_is_named(tmp_path):
    done = command("check", "--config", tmp_path / "absent.toml")
    assert done.returncode == 78 and "absent.toml" in done.stderr


def test_control_over_tcp_wants_a_token(tmp_path):
    text = GOOD.format(port=free_port()) + f'[control]\nlisten = "127.0.0.1:{free_port()}"\n'
    done = command("serve", "--config", written(tmp_path, text))
    assert done.returncode == 78 and "token" in done.stderr


@pytest.mark.parametrize("arguments", [
    ["dance"], ["demo", "--no-such-flag"], ["demo", "--listen"], ["serve", "extra", "words"], ["demo", "--heartbeat", "soon"]])
def test_a_wrong_command_line_is_2(arguments):
    done = command(*arguments)
    assert done.returncode == 2 and done.stderr.strip() and not done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["serve", "--help"], ["check", "--help"]])
def test_help_is_printed(arguments):
    done = command(*arguments)
    assert done.returncode == 0 and "Usage" in done.stdout and not done.stderr


def test_help_names_the_commands_and_the_defaults():
    assert all(name in command("--help").stdout for name in ("demo", "serve", "check"))
    text = command("demo", "--help").stdout
    assert "127.0.0.1:9000" in text and "--max-message" in text and "--heartbeat" in text


def test_the_version_is_printed():
    done = command("--version")
    assert done.returncode == 0 and re.fullmatch(r"ws-worker \d+\.\d+\.\d+\S*\n", done.stdout)


def test_a_port_that_is_taken_is_69(workers):
    first = workers.demo()
    done = command("demo", "--listen", "%s:%d" % first.address)
    assert done.returncode == 69 and str(first.address[1]) in done.stderr


def test_an_address_that_is_not_ours_is_69():
    assert command("demo", "--listen", "192.0.2.1:9000").returncode == 69


def test_a_stale_unix_socket_is_replaced_and_a_living_one_is_not(workers, tmp_path):
    address = str(tmp_path / "ws.sock")
    worker = workers.start("demo", "--listen", f"unix:{address}", ready=address)
    assert command("demo", "--listen", f"unix:{address}").returncode == 69
    assert listens(address)
    worker.child.kill()
    worker.child.wait()
    again = workers.start("demo", "--listen", f"unix:{address}", ready=address)
    assert again.lives()


def test_flags_do_what_the_file_does(workers):
    worker = workers.demo("--max-message", "10B")
    with Client("rfc6455", worker.address, "/echo") as client:
        client.send("0123456789")
        assert client.receive() == "0123456789"
        client.send("0123456789a")
        assert client.receive().code == 1009


def test_several_addresses_are_listened_on(workers):
    ports = [free_port(), free_port()]
    arguments = [word for port in ports for word in ("--listen", f"127.0.0.1:{port}")]
    worker = workers.start("demo", *arguments, address=("127.0.0.1", ports[1]))
    for port in ports:
        worker.wait_until_listening(("127.0.0.1", port))


def test_the_log_says_where_it_listens_and_keeps_secrets(workers, script, tmp_path):
    token = tmp_path / "token"
    token.write_text("s3cret-token-in-a-file-0123456789")
    port = free_port()
    worker = workers.serve(f'[[route]]\npath = "/ws"\napp = "{script.url}"',
                           control=f'listen = "127.0.0.1:{port}"\ntoken_file = "{token}"')
    worker.wait_for_log(str(worker.address[1]))
    with Client("rfc6455", worker.address, "/ws", headers=[("Cookie", "session=s3cret-cookie")]) as client:
        client.close()
    script.wait("closed")
    assert "s3cret" not in worker.log
