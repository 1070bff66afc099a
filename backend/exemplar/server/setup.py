"""What /setup does: note what is said, for Label Studio to confirm, and tell at once what stands in the way."""

import logging
import threading
import time

from exemplar.errors import CredentialsError, LabelStudioError, UnknownProjectError
from exemplar.labelstudio.client import Client
from exemplar.labelstudio.label_config import read_label_config
from exemplar.project.introduction import extra_params_of, full_name, is_asked, is_news
from exemplar.rows import RETIRED, generation_name, proof_name
from exemplar.server.allowance import Allowance
from exemplar.server.messages import SetupRequest
from exemplar.settings import Settings, for_project
from exemplar.store.home import Home
from exemplar.store.introductions import Introduction
from exemplar.store.project_store import ProjectStore
from exemplar.values import address

logger = logging.getLogger(__name__)

# The credentials are tried in every so many seconds at most: /setup comes before every /predict.
TRY_EVERY = 30.0
# A caller may say so much that is new at once, and so much a second; and so many wait for Label Studio at a time.
NEWS = 60
NEWS_A_SECOND = 1.0
TRIES_AT_ONCE = 4


class Setup:
    """What is remembered from one /setup to the next."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._settings = settings
        self._tried_at: dict[tuple[str, str], float] = {}
        self._news = Allowance(NEWS, NEWS_A_SECOND)
        self._trying = threading.BoundedSemaphore(TRIES_AT_ONCE)

    def introduce(self, request: SetupRequest, caller: str) -> str:
        """Return the model version to answer with: the generation that is served, or a proof for Label Studio.

        Raises
        ------
        LabelConfigError, SettingError, CredentialsError, UnknownProjectError
            Whatever the person in front of the model card has to mend.
        """
        read_label_config(request.label_config)
        extra_params = extra_params_of(request.extra_params)
        for_project(self._settings, extra_params)
        said = self._said(request)
        store = self._home.store(said.url, said.key)
        connection = store.connection()
        news = is_news(said, extra_params, connection)
        # Nothing is kept for a caller who has said too much, and nobody waits: the proof alone costs nothing.
        if not news:
            self._try_credentials(said)
        elif self._news.take(caller):
            self._try_credentials(said, again=connection is None)
            if not self._home.introductions.add(said):
                logger.warning("Project %s: too many projects wait for Label Studio; open it again", said.key)
        else:
            logger.warning("Project %s: %s introduces too many projects; this one waits", said.key, caller)
        return proof_name(self._home.introductions.proof(said)) if is_asked(store) else served_version(store)

    def _said(self, request: SetupRequest) -> Introduction:
        hostname = address("hostname", request.hostname)
        url = self._settings.label_studio_url or hostname
        if not url:
            raise CredentialsError("No address of Label Studio: set LABEL_STUDIO_URL for the backend")
        token = "" if self._settings.label_studio_api_key else request.access_token
        return Introduction(key=request.project, url=url, hostname=hostname, access_token=token)

    def _try_credentials(self, said: Introduction, *, again: bool = False) -> None:
        """Make sure that Label Studio takes our key and knows the project, so that its model card says if not."""
        key = self._settings.label_studio_api_key or said.access_token
        tried_at = self._tried_at.get((said.url, key), -TRY_EVERY)
        if not again and time.monotonic() - tried_at < TRY_EVERY:
            return
        client = Client(said.url, key, patience=0, timeout=1.5)
        try:
            if not self._trying.acquire(blocking=False):
                return  # the refresh will tell
            try:
                facts = client.project(int(said.key.partition(".")[0]))
            finally:
                self._trying.release()
        except CredentialsError:
            raise
        except LabelStudioError as error:
            if error.status_code == 404:
                raise UnknownProjectError(said.key) from error
            return  # slow or busy (it may wait for this very answer): the refresh will tell
        finally:
            client.close()
        if full_name(facts) != said.key:
            raise UnknownProjectError(said.key)
        if len(self._tried_at) > 1000:
            self._tried_at.clear()
        self._tried_at[said.url, key] = time.monotonic()


def served_version(store: ProjectStore) -> str:
    """Return the generation that the project's answers stand under; generation 0 before the first."""
    facts = store.facts()
    return generation_name(facts.generation if facts else RETIRED)
