"""A client of the registry emulator, and what its tests share."""

from __future__ import annotations

import json

import requests

from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.wire import ACCEPT
from tests.support.processes import ROOT

DATA = ROOT / "tests" / "data"
PATH = "acme/api"
ABSENT = "sha256:" + "0" * 64
UPLOADED_MS = 1_600_000_000_000


class Client:
    """Requests to one registry, with all four types accepted."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self.session = session

    def __call__(self, method: str, path: str, **options: object) -> requests.Response:
        options.setdefault("headers", {"Accept": ACCEPT})
        options.setdefault("timeout", 10)
        return self.session.request(method, self.url + path, **options)  # type: ignore[arg-type]

    def listing(self, path: str = PATH, query: str = "n=10000") -> requests.Response:
        return self("GET", f"/v2/{path}/tags/list?{query}")

    def delete(self, reference: str, path: str = PATH) -> requests.Response:
        return self("DELETE", f"/v2/{path}/manifests/{reference}")

    def token(self, path: str = PATH, actions: str = "push,pull") -> str:
        query = f"service=here&scope=repository:{path}:{actions}"
        answer = self("GET", f"/v2/token?{query}", headers={"Authorization": f"Bearer {ACCESS_TOKEN}"})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])


def code_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def captured(name: str) -> dict[str, object]:
    document = json.loads((DATA / f"{name}.tags-list.json").read_text())
    assert isinstance(document, dict)
    return document
