"""Where Google's libraries get credentials: a metadata server, and the token endpoint of a service account's key.

A process whose ``GCE_METADATA_HOST`` and ``GCE_METADATA_IP`` are the emulator's address takes it for the machine that
it runs on, and finds application default credentials there.
"""

from __future__ import annotations

from typing import Final

from tests.emulator.answer import Answer, json_answer
from tests.emulator.store import Refusal

METADATA: Final = "/computeMetadata/"
PROJECT: Final = "acme"
# Google's access tokens begin so.
ACCESS_TOKEN: Final = "ya29.emulator"  # noqa: S105 - opens nothing
LIFETIME_S: Final = 3600

_HEADERS: Final = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_ADDRESS: Final = f"run@{PROJECT}.iam.gserviceaccount.com"
_ACCOUNT: Final = "/computeMetadata/v1/instance/service-accounts/default"


def answer(kind: str, path: str, access_token: str) -> Answer:
    """Answer for the metadata server or the token endpoint.

    Raises:
        Refusal: 404, there is no such entry.
    """
    token = {"access_token": access_token, "expires_in": LIFETIME_S, "token_type": "Bearer"}
    if kind == "oauth":
        return json_answer(token)
    # google-auth asks by the account's address once it knows that.
    path = path.replace(_ADDRESS, "default")
    if path == f"{_ACCOUNT}/token":
        return Answer(200, json_answer(token).body, {**_HEADERS, "Content-Type": "application/json"})
    if path == f"{_ACCOUNT}/":
        account = {"aliases": ["default"], "email": _ADDRESS, "scopes": []}
        return Answer(200, json_answer(account).body, {**_HEADERS, "Content-Type": "application/json"})
    texts = {
        "/": "",
        "/computeMetadata/v1/project/project-id": PROJECT,
        "/computeMetadata/v1/universe/universe-domain": "googleapis.com",
        "/computeMetadata/v1/universe/universe_domain": "googleapis.com",
    }
    if path not in texts:
        raise Refusal(404, "NOT_FOUND", f"no such entry: {path}")
    return Answer(200, texts[path].encode(), {**_HEADERS, "Content-Type": "text/plain"})
