"""What a pull must ask the Hub before it knows which files it wants."""

from __future__ import annotations

import re

from zoo.artifacts.manifest import LARGEST_MANIFEST, MANIFEST_NAME
from zoo.contracts import Reporter
from zoo.download.endpoint import endpoint, token
from zoo.download.origins import HubSource, check_online
from zoo.download.retry import RetryLimits
from zoo.download.revision import MutableRevision, checkpoint_at, revision_url
from zoo.download.stated_digests import check_content, check_entries, stated_files
from zoo.download.web import Client
from zoo.errors import NetworkError
from zoo.registry import Checkpoint
from zoo.registry.sources import COMMIT, HubAddress
from zoo.schema import parse_json

_LARGEST_ANSWER = 16 << 20


def read_unpinned_checkpoint(address: HubAddress, limits: RetryLimits, report: Reporter) -> Checkpoint:
    """Return a checkpoint that no registry lists, with the files that its own manifest at that commit lists.

    Raises:
        NetworkError: The manifest cannot be read.
        IntegrityError: The manifest is damaged, or lists other files than the Hub states of that commit.
    """
    check_online(f"{address.repository}@{address.commit}")
    with Client(limits, report) as client:
        source = HubSource(address, client)
        content = source.read(MANIFEST_NAME, LARGEST_MANIFEST)
        stated = stated_files(address, client)
    where = f"{address.repository}@{address.commit}"
    check_content(MANIFEST_NAME, content, stated, where)
    found = checkpoint_at(address, content)
    check_entries({name: each for name, each in found.files.items() if name != MANIFEST_NAME}, stated, where)
    return found


def resolve_commit(moving: MutableRevision, limits: RetryLimits, report: Reporter) -> str:
    """Return the commit that a branch or a tag names now.

    Raises:
        NetworkError: The Hub cannot be asked, or knows no such name.
    """
    url = revision_url(endpoint(), moving)
    check_online(f"The commit of {moving.repository}@{moving.revision}")
    with Client(limits, report) as client:
        answer = parse_json(client.read(url, _LARGEST_ANSWER, token()), url, error=NetworkError)
    commit = answer.get("sha") if isinstance(answer, dict) else None
    if not isinstance(commit, str) or not re.fullmatch(COMMIT, commit):
        raise NetworkError(
            f"{endpoint()} does not report the commit of {moving.repository}@{moving.revision}."
        )
    return commit
