"""``hf://`` names against a hub on the loopback interface that speaks the few routes we need."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from distill.errors import UserError
from teachers.hub import fetch
from teachers.load import agent_game

ROOT = Path(__file__).parents[2]
REPO = "sb3/ppo-PongNoFrameskip-v4"
ZIP = "ppo-PongNoFrameskip-v4.zip"


class Hub(ThreadingHTTPServer):
    """Repositories as ``{(repo, revision): {file: bytes}}``; zips are kept in LFS, as on the real hub."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Routes)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[tuple[str, str], dict[str, bytes]] = {}
        self.private: dict[str, str] = {}
        self.corrupt_downloads = 0
        self.status = 200
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def add(self, repo: str, files: dict[str, bytes], revision: str = "main") -> None:
        self.repos[repo, revision] = files

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def downloads(self) -> list[str]:
        return [request for request in self.requests if request.startswith("GET /cdn/")]


class Routes(BaseHTTPRequestHandler):
    """Model info, resolve (a redirect for LFS files) and the content store behind it."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, json.dumps({"error": code}).encode(), X_Error_Code=code)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if self.server.status != 200:
            return self.answer(self.server.status)
        if path.startswith("/cdn/"):
            return self.content(path.removeprefix("/cdn/"))
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        revision = rest[1] if rest else "main"
        if repo in self.server.private:
            return self.refuse(401 if self.server.private[repo] == "RepoNotFound" else 403, self.server.private[repo])
        if all(known != repo for known, _ in self.server.repos):
            return self.refuse(404, "RepoNotFound")
        # A commit's hash names it as well as its branch does.
        files = next((f for (r, v), f in self.server.repos.items() if r == repo and revision in (v, commit(f))), None)
        if files is None:
            return self.refuse(404, "RevisionNotFound")
        if path.startswith("/api/"):
            return self.answer(200, json.dumps(model_info(repo, files)).encode(), Content_Type="application/json")
        return self.resolve(files, "/".join(rest[2:]))

    def resolve(self, files: dict[str, bytes], file: str) -> None:
        if file not in files:
            return self.refuse(404, "EntryNotFound")
        body, headers = files[file], {"X_Repo_Commit": commit(files)}
        if not file.endswith(".zip"):
            return self.answer(200, body, ETag=f'"{git_sha1(body)}"', **headers)
        sha = hashlib.sha256(body).hexdigest()
        # Another host name, as the real hub's content store has: the client must not ask it for metadata.
        location = f"http://localhost:{self.server.server_port}/cdn/{sha}"
        size = str(len(body))
        return self.answer(302, b"", Location=location, X_Linked_ETag=f'"{sha}"', X_Linked_Size=size, **headers)

    def content(self, sha: str) -> None:
        bodies = (body for files in self.server.repos.values() for body in files.values())
        body = next(b for b in bodies if hashlib.sha256(b).hexdigest() == sha)
        if self.command == "GET" and self.server.corrupt_downloads > 0:
            self.server.corrupt_downloads -= 1
            body = flip(body)
        self.answer(200, body, ETag=f'"{sha}"')


def git_sha1(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def commit(files: dict[str, bytes]) -> str:
    return hashlib.sha1("".join(git_sha1(body) for body in files.values()).encode(), usedforsecurity=False).hexdigest()


def flip(body: bytes) -> bytes:
    return body[:1000] + bytes([body[1000] ^ 1]) + body[1001:]


def model_info(repo: str, files: dict[str, bytes]) -> dict[str, Any]:
    siblings = []
    for name, body in files.items():
        entry: dict[str, Any] = {"rfilename": name, "size": len(body), "blobId": git_sha1(body)}
        if name.endswith(".zip"):
            entry["lfs"] = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest(), "pointerSize": 134}
        siblings.append(entry)
    return {"id": repo, "modelId": repo, "sha": commit(files), "tags": [], "downloads": 0, "siblings": siblings}


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def small_zip(tmp_path_factory: pytest.TempPathFactory, make_agent: Any) -> bytes:
    path: Path = make_agent("ppo", features_extractor_kwargs={"features_dim": 8})[1]
    return path.read_bytes()


@pytest.fixture
def zoo(small_zip: bytes) -> dict[str, bytes]:
    """The files of an rl-zoo repository; every one has a second zip, with learning curves."""
    readme = b"---\nlibrary_name: stable-baselines3\ntags:\n- PongNoFrameskip-v4\n---\n# PPO Agent playing Pong\n"
    return {"README.md": readme, ZIP: small_zip, "train_eval_metrics.zip": b"PK curves", "args.yml": b"- algo\n"}


class Client:
    """Runs ``fetch`` in a process of its own, for ``HF_ENDPOINT`` and ``HF_HOME`` are read at import."""

    def __init__(self, hub: Hub, home: Path) -> None:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING")) and "proxy" not in k.lower()
        }
        self.home = home
        self.env = kept | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *names: str, **env: str) -> list[str]:
        """One answer a name: the path, or the sentence of the UserError."""
        program = (
            "import sys\n"
            "from distill.errors import UserError\n"
            "from teachers.hub import fetch\n"
            "for name in sys.argv[1:]:\n"
            "    try: print(fetch(name))\n"
            "    except UserError as error: print('UserError:', error)\n"
        )
        command = [sys.executable, "-c", program, *names]
        done = subprocess.run(command, env=self.env | env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        self.stderr = done.stderr
        answers = done.stdout.splitlines()
        assert len(answers) == len(names), done.stdout
        return answers

    def path(self, name: str, **env: str) -> Path:
        (answer,) = self.run(name, **env)
        assert not answer.startswith("UserError"), answer
        return Path(answer)


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path / "hf")


def test_fetches_once_then_works_offline(hub: Hub, client: Client, zoo: dict[str, bytes]) -> None:
    hub.add(REPO, zoo)
    path = client.path(f"hf://{REPO}")
    assert path.name == ZIP
    assert path.read_bytes() == zoo[ZIP]
    assert client.home in path.parents
    assert path.with_name("README.md").read_bytes() == zoo["README.md"]
    assert not path.with_name("train_eval_metrics.zip").exists()
    assert len(hub.downloads()) == 1
    assert client.path(f"hf://{REPO}") == path
    assert len(hub.downloads()) == 1
    hub.status = 503
    assert client.path(f"hf://{REPO}") == path
    assert "503" in client.stderr
    hub.stop()
    assert client.run(f"hf://{REPO}", f"hf://{REPO}/{ZIP}", f"hf://{REPO}@main") == [str(path)] * 3
    assert "using the cached copy" in client.stderr
    assert client.path(f"hf://{REPO}", HF_HUB_OFFLINE="1") == path


def test_load_teacher_from_the_hub(hub: Hub, client: Client, zoo: dict[str, bytes]) -> None:
    """The whole way: name to teacher, the game from rl-zoo's file name, ours from the card."""
    sha = hashlib.sha256(zoo[ZIP]).hexdigest()
    card = f"---\ngame: space_invaders\nalgorithm: A2C\npreset: sb3-fast\nsha256: {sha}\n---\n"
    hub.add(REPO, zoo)
    hub.add("us/invaders", {"agent.zip": zoo[ZIP], "README.md": card.encode()})
    program = (
        "import sys\n"
        "from teachers.load import load_teacher\n"
        "for name in sys.argv[1:]:\n"
        "    info = load_teacher(name).info\n"
        "    print(info.name, info.game, info.algorithm, info.preset, info.num_actions)\n"
    )
    command = [sys.executable, "-c", program, f"hf://{REPO}", "hf://us/invaders"]
    done = subprocess.run(command, env=client.env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        f"hf://{REPO} pong PPO/A2C sb3 6",
        "hf://us/invaders space_invaders A2C sb3-fast 6",
    ]


def test_settings_come_along(hub: Hub, client: Client, zoo: dict[str, bytes]) -> None:
    """rl-zoo's args.yml and config.yml lie beside the agent on the hub, too, and say what it saw."""
    tag = b"!!python/object/apply:collections.OrderedDict\n- - - frame_stack\n    - 1\n"
    hub.add(REPO, {**zoo, "args.yml": b"env: PongNoFrameskip-v4\n", "config.yml": tag})
    program = "import sys\nfrom teachers.load import load_teacher\nload_teacher(sys.argv[1])\n"
    command = [sys.executable, "-c", program, f"hf://{REPO}"]
    done = subprocess.run(command, env=client.env, capture_output=True, text=True, timeout=60)
    assert "frame_stack 1, not 4" in done.stderr.splitlines()[-1]
    assert "config.yml" in done.stderr.splitlines()[-1]


def test_revisions(hub: Hub, client: Client, small_zip: bytes) -> None:
    other = small_zip + b"\0"
    hub.add("us/pong", {"pong.zip": small_zip})
    hub.add("us/pong", {"pong.zip": other}, revision="v2")
    sha = commit({"pong.zip": other})
    main, v2, by_commit, missing = client.run(
        "hf://us/pong", "hf://us/pong@v2", f"hf://us/pong@{sha}/pong.zip", "hf://us/pong@v3"
    )
    assert Path(main).read_bytes() == small_zip
    assert Path(v2).read_bytes() == other
    assert by_commit == v2
    assert missing.startswith("UserError: us/pong has no revision 'v3'; give a branch, tag or commit")
    hub.stop()
    assert client.run("hf://us/pong@v2", f"hf://us/pong@{sha}") == [v2, v2]


def test_which_zip(hub: Hub, client: Client, small_zip: bytes) -> None:
    hub.add("us/two", {"a.zip": small_zip, "deep/b.zip": small_zip})
    hub.add("us/none", {"README.md": b"# nothing\n", "train_eval_metrics.zip": b"PK"})
    hub.add("us/named", {"best.zip": b"PK best", "named.zip": small_zip})
    several, inside, absent, none, named = client.run(
        "hf://us/two", "hf://us/two/deep/b.zip", "hf://us/two/deep/c.zip", "hf://us/none", "hf://us/named"
    )
    assert several == "UserError: us/two has several zips; choose one: hf://us/two/a.zip, hf://us/two/deep/b.zip"
    assert inside.endswith("/deep/b.zip")
    assert Path(inside).read_bytes() == small_zip
    assert absent.startswith("UserError: us/two has no deep/c.zip (did you mean 'deep/b.zip'?); it has a.zip")
    assert Path(named).read_bytes() == small_zip
    assert none.startswith("UserError: us/none has no zip of an agent")


def test_agents_of_another_format(hub: Hub, client: Client, small_zip: bytes) -> None:
    hub.add(
        "cleanrl/BreakoutNoFrameskip-v4-dqn_atari-seed1", {"dqn_atari.cleanrl_model": b"PK dqn", "dqn_atari.py": b""}
    )
    hub.add("us/both", {"a.cleanrl_model": b"PK a", "b.zip": small_zip})
    hub.add("us/two", {"a.cleanrl_model": b"PK a", "b.cleanrl_model": b"PK b"})
    name = "hf://cleanrl/BreakoutNoFrameskip-v4-dqn_atari-seed1"
    alone, named, both, two = client.run(name, "hf://us/both/a.cleanrl_model", "hf://us/both", "hf://us/two")
    assert Path(alone).read_bytes() == b"PK dqn"
    assert Path(named).read_bytes() == b"PK a"
    assert Path(both).read_bytes() == small_zip
    assert two.startswith(
        "UserError: us/two has several agents; choose one: hf://us/two/a.cleanrl_model, hf://us/two/b"
    )
    assert agent_game(name) == ("breakout", "its name")
    hub.stop()
    assert client.run(name) == [alone]


def test_no_such_repository(hub: Hub, client: Client) -> None:
    hub.private = {"us/secret": "RepoNotFound", "us/gated": "GatedRepo"}
    nobody, secret, gated = client.run("hf://us/nobody", "hf://us/secret", "hf://us/gated")
    assert nobody.startswith("UserError: the hub has no model repository us/nobody, or it is private; check the name")
    assert secret.startswith("UserError: the hub has no model repository us/secret")
    assert gated.startswith("UserError: us/gated is gated; accept its terms on the hub")


def test_no_network_and_nothing_cached(hub: Hub, client: Client, zoo: dict[str, bytes]) -> None:
    hub.add(REPO, zoo)
    client.path(f"hf://{REPO}")
    hub.stop()
    missing, other_file, other_revision = client.run("hf://us/pong", f"hf://{REPO}/best.zip", f"hf://{REPO}@v1")
    for answer, name in ((missing, "us/pong"), (other_file, f"{REPO}/best.zip"), (other_revision, f"{REPO}@v1")):
        assert answer.startswith("UserError: cannot reach the hub (")
        assert f"hf://{name} is not in its cache ({client.home}" in answer
        assert "connect once to fetch it" in answer
    (offline,) = client.run("hf://us/pong", HF_HUB_OFFLINE="1")
    assert "OfflineModeIsEnabled" in offline


def test_corrupted_download_is_fetched_again_then_refused(hub: Hub, client: Client, zoo: dict[str, bytes]) -> None:
    hub.add(REPO, zoo)
    hub.corrupt_downloads = 2
    (refused,) = client.run(f"hf://{REPO}")
    assert refused.startswith("UserError: ")
    assert f"{ZIP} is corrupted (sha256 " in refused
    assert len(hub.downloads()) == 2
    hub.status = 503  # what the bad download left in the cache is not trusted later
    (offline,) = client.run(f"hf://{REPO}")
    assert "is corrupted" in offline
    assert "connect to the hub to fetch it again" in offline
    hub.status = 200
    assert client.path(f"hf://{REPO}").read_bytes() == zoo[ZIP]


def test_cache_damaged_on_disk_heals(hub: Hub, client: Client, zoo: dict[str, bytes]) -> None:
    hub.add(REPO, zoo)
    path = client.path(f"hf://{REPO}")
    path.resolve().write_bytes(flip(zoo[ZIP]))
    assert client.path(f"hf://{REPO}").read_bytes() == zoo[ZIP]
    assert len(hub.downloads()) == 2


def test_card_that_names_another_sha256(hub: Hub, client: Client, small_zip: bytes) -> None:
    card = f"---\ngame: pong\nsha256: {'0' * 64}\n---\n".encode()
    hub.add("us/pong", {"pong.zip": small_zip, "README.md": card})
    hub.add("us/many", {"a.zip": small_zip, "b.zip": small_zip, "a.md": card, "README.md": b"# two\n"})
    whole, with_card, without = client.run("hf://us/pong", "hf://us/many/a.zip", "hf://us/many/b.zip")
    assert "pong.zip does not match the sha256 on its card" in whole
    assert "a.zip does not match the sha256 on its card" in with_card
    assert Path(without).read_bytes() == small_zip


@pytest.mark.parametrize(
    "name", ["hf://pong", "hf://", "hf://sb3//x.zip", "hf://sb3/pong/agent.pt", "hf://sb3/pong@", "hf://a/b@c@d"]
)
def test_names_that_cannot_be_read(name: str) -> None:
    with pytest.raises(UserError, match=r"cannot read '.*'; write hf://org/repo, hf://org/repo@revision or"):
        fetch(name)


def test_names_no_repository_can_have(client: Client) -> None:
    odd, climbing = client.run("hf://us/a--b", "hf://us/pong/../../secret.zip")
    assert odd.startswith("UserError: 'us/a--b' cannot be a repository on the hub")
    assert climbing.startswith("UserError: the hub has no model repository us/pong")


def test_without_huggingface_hub(tmp_path: Path, client: Client) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('not here')\n")
    (answer,) = client.run("hf://us/pong", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert 'run pip install -e ".[hub]"' in answer
