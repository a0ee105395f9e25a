"""Publishes to a Pub/Sub topic, with Google's library.

State: the library's client, made for the first message.  The lock protects its making; the client is safe to use from
many threads, and any thread may call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING

from cleaner.core.errors import NoCredentials, PermanentError, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from google.cloud import pubsub_v1


class TopicPublisher:
    """Publishes to one topic, ``projects/P/topics/T``."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._client: pubsub_v1.PublisherClient | None = None
        self._lock = threading.Lock()

    def publish(self, messages: Iterable[bytes], timeout_s: float) -> None:
        """Publish all of ``messages``, and return once Pub/Sub has confirmed each.

        ``timeout_s`` is how long to wait for each confirmation, in seconds.

        Raises:
            PermissionDenied: The credentials may not publish there.
            PermanentError: There is no such topic.
            NoCredentials: There are no application default credentials.
            Unavailable: Not all were confirmed in time; some may have been published.
        """
        # Importing it takes as long as everything else together, and only a sweep needs it.
        import google.api_core.exceptions
        import google.auth.exceptions
        from google.cloud import pubsub_v1

        try:
            with self._lock:
                if self._client is None:
                    self._client = pubsub_v1.PublisherClient()
            futures = [self._client.publish(self._topic, message) for message in messages]
            for future in futures:
                future.result(timeout=timeout_s)
        except google.api_core.exceptions.Forbidden as error:
            raise PermissionDenied(f"{self._topic}: denied", "pubsub.topics.publish") from error
        except google.api_core.exceptions.NotFound as error:
            raise PermanentError(f"{self._topic}: no such topic") from error
        except google.auth.exceptions.DefaultCredentialsError as error:
            raise NoCredentials("no usable application default credentials") from error
        except FutureTimeoutError as error:
            raise Unavailable(f"{self._topic}: no response from Pub/Sub in time") from error
        except (google.api_core.exceptions.GoogleAPIError, google.auth.exceptions.GoogleAuthError) as error:
            raise Unavailable(f"{self._topic}: {type(error).__name__}") from error
