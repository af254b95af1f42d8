"""What the loopback Hub answers: the interface for models as huggingface_hub uses it, uploads included."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from support.loopback_store import Blob, Commit, Repo, is_large, new_repo

if TYPE_CHECKING:
    from support.loopback_hub import LoopbackHub


@dataclass(frozen=True)
class Account:
    """Whom a token belongs to. orgs: further namespaces. write: whether the token may change anything."""

    name: str
    orgs: tuple[str, ...] = ()
    write: bool = True


@dataclass
class Answer:
    """What is sent back. blob: the file it carries, if it does; then status, range and length are made of it."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    blob: Blob | None = None


class Refused(Exception):
    """An error answer, with the header that tells the client's exception."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = json_answer({"error": message}, status, headers)


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(
        status,
        json.dumps(value).encode(),
        {"Content-Type": "application/json; charset=utf-8", **(headers or {})},
    )


@dataclass(frozen=True)
class Request:
    """One request as the routes see it. account: None without a (valid) token."""

    hub: LoopbackHub
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    account: Account | None

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise Refused(400, "The body is no JSON.") from None

    def repo(self, repo_id: str, *, write: bool = False) -> Repo:
        """A repository this request may see (and change). Raises Refused."""
        repo = self.hub.repos.get(repo_id)
        own = self.account is not None and repo_id.partition("/")[0] in (
            self.account.name,
            *self.account.orgs,
        )
        if repo is None or (repo.private and not own):
            raise Refused(401 if self.account is None else 404, "Repository not found", "RepoNotFound")
        if write:
            self.may_write(repo_id)
        return repo

    def may_write(self, repo_id: str) -> None:
        namespace = repo_id.partition("/")[0]
        if self.account is None:
            raise Refused(401, "Invalid username or password.")
        if namespace not in (self.account.name, *self.account.orgs) or not self.account.write:
            raise Refused(403, f'You don\'t have the rights to create or change a model under "{namespace}"')

    def commit(self, repo: Repo, revision: str) -> Commit:
        found = repo.find(unquote(revision))
        if found is None:
            raise Refused(404, f"Invalid rev id: {unquote(revision)}", "RevisionNotFound")
        return found


def _whoami(request: Request) -> Answer:
    if request.account is None:
        raise Refused(401, "Invalid username or password.")
    who = request.account
    role = {"displayName": "loopback", "role": "write" if who.write else "read"}
    orgs = [{"type": "org", "name": org} for org in who.orgs]
    return json_answer({"type": "user", "name": who.name, "orgs": orgs, "auth": {"accessToken": role}})


def _create(request: Request) -> Answer:
    wanted = request.json()
    if request.account is None:
        raise Refused(401, "Invalid username or password.")
    repo_id = f"{wanted.get('organization') or request.account.name}/{wanted['name']}"
    request.may_write(repo_id)
    url = f"{request.hub.url}/{repo_id}"
    with request.hub.lock:
        if repo_id in request.hub.repos:
            return json_answer({"error": "You already created this model repo", "url": url}, 409)
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        request.hub.repos[repo_id] = new_repo(repo_id, private, gated=False)
    return json_answer({"url": url, "name": repo_id, "id": repo_id})


def _validate_yaml(request: Request) -> Answer:
    import yaml

    match = re.match(r"---\r?\n(.*?)\r?\n---(?:\r?\n|$)", request.json()["content"], re.DOTALL)
    if match is None:
        return json_answer(
            {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
        )
    try:
        errors = _card_errors(yaml.safe_load(match[1]))
    except yaml.YAMLError as error:
        errors = [str(error)]
    return json_answer(
        {"errors": [{"message": error} for error in errors], "warnings": []}, 400 if errors else 200
    )


def _card_errors(card: Any) -> list[str]:
    """What the Hub would refuse in a card's metadata."""
    if not isinstance(card, dict):
        return ["the metadata is no mapping"]
    found = [
        f'"{key}" must be a string'
        for key in ("license", "library_name", "pipeline_tag")
        if not isinstance(card.get(key, ""), str)
    ]
    for key in ("tags", "datasets", "metrics"):
        if not isinstance(card.get(key, []), list) or not all(
            isinstance(each, str) for each in card.get(key, [])
        ):
            found.append(f'"{key}" must be an array of strings')
    for model in card.get("model-index", []):
        for result in model.get("results", []):
            if not result.get("task", {}).get("type"):
                found.append('"model-index[0].results[0].task.type" is required')
            if not result.get("dataset", {}).get("type") or not result.get("dataset", {}).get("name"):
                found.append('"model-index[0].results[0].dataset" needs a type and a name')
            if not all("type" in metric and "value" in metric for metric in result.get("metrics", [{}])):
                found.append('"model-index[0].results[0].metrics" need a type and a value')
    return found


def _info(request: Request, repo_id: str, revision: str = "main") -> Answer:
    repo = request.repo(repo_id)
    commit = request.commit(repo, revision)
    blobs = request.query.get("blobs", "").lower() == "true" and not request.hub.plain
    siblings = []
    for name, blob in sorted(commit.files.items()):
        shown: dict[str, Any] = {"rfilename": name}
        if blobs:
            entry = blob.entry(name)
            shown |= {"size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                shown["lfs"] = {"sha256": blob.sha256, "size": entry["size"], "pointerSize": 134}
        siblings.append(shown)
    return json_answer(
        {
            "_id": hashlib.md5(repo_id.encode()).hexdigest()[:24], "id": repo_id, "modelId": repo_id,
            "author": repo_id.partition("/")[0], "sha": commit.sha, "private": repo.private,
            "gated": "manual" if repo.gated else False, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": siblings,
        }
    )  # fmt: skip


def _tree(request: Request, repo_id: str, revision: str, folder: str = "") -> Answer:
    commit = request.commit(request.repo(repo_id), revision)
    recursive = request.query.get("recursive", "").lower() in ("true", "1")
    prefix = f"{unquote(folder)}/" if folder else ""
    entries: dict[str, dict[str, object]] = {}
    for name, blob in sorted(commit.files.items()):
        if not name.startswith(prefix):
            continue
        parts = name[len(prefix) :].split("/")
        for depth in range(1, len(parts)):
            path = prefix + "/".join(parts[:depth])
            entries.setdefault(path, {"type": "directory", "oid": "0" * 40, "size": 0, "path": path})
            if not recursive:
                break
        if recursive or len(parts) == 1:
            entries[name] = blob.entry(name)
    if folder and not entries:
        raise Refused(404, f"{unquote(folder)} does not exist on this revision", "EntryNotFound")
    start = int(request.query.get("cursor", "0"))
    rows = list(entries.values())
    answer = json_answer(rows[start : start + request.hub.page])
    if start + request.hub.page < len(rows):
        query = urlencode({**request.query, "cursor": str(start + request.hub.page)})
        answer.headers["Link"] = f'<{request.hub.url}{request.path}?{query}>; rel="next"'
    return answer


def _paths_info(request: Request, repo_id: str, revision: str) -> Answer:
    commit = request.commit(request.repo(repo_id), revision)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        paths = parse_qs(request.body.decode()).get("paths", [])
    else:
        paths = request.json()["paths"]
    return json_answer([commit.files[path].entry(path) for path in paths if path in commit.files])


def _refs(request: Request, repo_id: str) -> Answer:
    repo = request.repo(repo_id)

    def listed(kind: str, refs: Mapping[str, str]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in refs.items()
        ]

    return json_answer(
        {"branches": listed("heads", repo.branches), "tags": listed("tags", repo.tags), "converts": []}
    )


def _commits(request: Request, repo_id: str, revision: str) -> Answer:
    repo = request.repo(repo_id)
    request.commit(repo, revision)
    rows = [
        {
            "id": each.sha,
            "title": each.title,
            "message": "",
            "date": "2026-01-01T00:00:00.000Z",
            "authors": [],
        }
        for each in repo.history()
    ]
    return json_answer(rows, headers={"X-Total-Count": str(len(rows))})


def _preupload(request: Request, repo_id: str, revision: str) -> Answer:
    repo = request.repo(repo_id, write=True)
    present = request.commit(repo, revision).files
    rows = []
    for file in request.json()["files"]:
        path, size = file["path"], file["size"]
        large = is_large(path, size, base64.b64decode(file["sample"]))
        row = {
            "path": path,
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
            "shouldLink": False,
        }
        rows.append(row | ({"oid": present[path].etag} if path in present else {}))
    return json_answer({"files": rows, "commitOid": repo.head})


def _lfs_batch(request: Request, repo_id: str) -> Answer:
    request.repo(repo_id, write=True)
    hub, objects = request.hub, []
    for wanted in request.json()["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        row: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
        if oid not in hub.objects:
            upload: dict[str, Any] = {"href": hub.signed(f"/upload/{oid}"), "header": {}}
            if hub.multipart and size > hub.multipart:
                count = -(-size // hub.multipart)
                parts = {f"{n:05}": hub.signed(f"/upload/{oid}/{n}") for n in range(1, count + 1)}
                upload = {"href": f"{hub.url}/{repo_id}.git/complete/{oid}"}
                upload["header"] = {"chunk_size": str(hub.multipart), **parts}
            verify = {"href": f"{hub.url}/{repo_id}.git/info/lfs/objects/verify", "header": {}}
            row["actions"] = {"upload": upload, "verify": verify}
        objects.append(row)
    return json_answer({"transfer": "basic", "objects": objects})


def _lfs_complete(request: Request, repo_id: str, oid: str) -> Answer:
    """All parts of an object are there. The client sends no token with this, so neither is one asked for."""
    hub = request.hub
    numbers = [part["partNumber"] for part in request.json()["parts"]]
    content = b"".join(hub.parts.get((oid, number), b"") for number in numbers)
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refused(422, "The parts are not the object.")
    with hub.lock:
        hub.objects[oid] = content
    return json_answer({"success": True})


def _lfs_verify(request: Request, repo_id: str) -> Answer:
    request.repo(repo_id, write=True)
    wanted = request.json()
    if len(request.hub.objects.get(wanted["oid"], b"")) != wanted["size"]:
        raise Refused(404, "The object does not exist.")
    return json_answer({})


def _commit(request: Request, repo_id: str, revision: str) -> Answer:
    repo = request.repo(repo_id, write=True)
    hub, branch = request.hub, unquote(revision)
    header: dict[str, Any] = {}
    files: dict[str, Blob] = {}
    gone: set[str] = set()
    with hub.lock:
        if branch not in repo.branches:
            raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        for line in request.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                header = value
            elif key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in hub.objects:
                    raise Refused(400, f"LFS object {value['oid']} was not uploaded.")
                files[value["path"]] = Blob(hub.objects[value["oid"]], True)
            elif key == "deletedFile":
                if value["path"] not in repo.commits[repo.branches[branch]].files:
                    raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
                gone.add(value["path"])
            else:
                raise Refused(400, f"No operation {key}.")
        if header.get("parentCommit") not in (None, repo.branches[branch]):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        sha = repo.add(header["summary"], files, gone=gone, branch=branch)
    return json_answer(
        {
            "success": True,
            "commitOid": sha,
            "commitUrl": f"{hub.url}/{repo_id}/commit/{sha}",
            "hookOutput": "",
        }
    )


def _tag(request: Request, repo_id: str, name: str) -> Answer:
    repo = request.repo(repo_id, write=True)
    with request.hub.lock:
        if request.method == "DELETE":
            if repo.tags.pop(unquote(name), None) is None:
                raise Refused(404, "Tag not found", "RevisionNotFound")
            return json_answer({})
        commit, tag = request.commit(repo, name), request.json()["tag"]
        if tag in repo.tags:
            raise Refused(409, "Tag reference exists already")
        repo.tags[tag] = commit.sha
    return json_answer({})


def _resolve(request: Request, repo_id: str, revision: str, name: str) -> Answer:
    repo = request.repo(repo_id)
    if repo.gated and (request.account is None or request.account.name != repo_id.partition("/")[0]):
        status = 401 if request.account is None else 403
        raise Refused(status, f"Access to model {repo_id} is restricted.", "GatedRepo")
    commit = request.commit(repo, revision)
    path = unquote(name)
    blob = commit.files.get(path)
    if blob is None:
        refused = Refused(404, "Entry not found", "EntryNotFound")
        refused.answer.headers["X-Repo-Commit"] = commit.sha
        raise refused
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.etag}"'}
    if blob.large:
        headers |= {"X-Linked-Size": str(len(blob.content)), "X-Linked-ETag": f'"{blob.etag}"'}
        headers["Location"] = request.hub.signed(f"/{repo_id}/{blob.sha256}/{quote(path)}")
        return Answer(302, b"Found. Redirecting", headers)
    if request.hub.resolve_cache and not request.path.startswith("/api/"):
        headers |= {"X-Linked-Size": str(len(blob.content)), "X-Linked-ETag": f'"{blob.etag}"'}
        headers["Location"] = f"/api/resolve-cache/models/{repo_id}/{commit.sha}/{quote(path, safe='')}"
        return Answer(307, b"Temporary Redirect", headers)
    return Answer(200, headers=headers, blob=blob)


_ID = r"([^/]+/[^/]+)"
_ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("GET", r"/api/whoami-v2", _whoami),
    ("POST", r"/api/repos/create", _create),
    ("POST", r"/api/validate-yaml", _validate_yaml),
    ("POST", rf"/api/models/{_ID}/preupload/([^/]+)", _preupload),
    ("POST", rf"/api/models/{_ID}/commit/([^/]+)", _commit),
    ("POST|DELETE", rf"/api/models/{_ID}/tag/([^/]+)", _tag),
    ("POST", rf"/api/models/{_ID}/paths-info/([^/]+)", _paths_info),
    ("GET", rf"/api/models/{_ID}/tree/([^/]+)(?:/(.*))?", _tree),
    ("GET", rf"/api/models/{_ID}/refs", _refs),
    ("GET", rf"/api/models/{_ID}/commits/([^/]+)", _commits),
    ("GET|HEAD", rf"/api/models/{_ID}/revision/([^/]+)", _info),
    ("GET|HEAD", rf"/api/models/{_ID}", _info),
    ("GET|HEAD", rf"/api/resolve-cache/models/{_ID}/([^/]+)/(.+)", _resolve),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", _lfs_batch),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/verify", _lfs_verify),
    ("POST", rf"/{_ID}\.git/complete/([^/]+)", _lfs_complete),
    ("GET|HEAD", rf"/{_ID}/resolve/([^/]+)/(.+)", _resolve),
)


def _answer_hub(request: Request) -> Answer:
    given = request.headers.get("authorization", "")
    if given and request.account is None:
        raise Refused(401, "Invalid credentials in Authorization header")
    for methods, pattern, route in _ROUTES:
        match = re.fullmatch(pattern, request.path)
        if route is _refs and request.hub.plain:
            continue
        if match and request.method in methods.split("|"):
            return route(request, *(group for group in match.groups() if group is not None))
    raise Refused(404, f"Sorry, we can't find the page {request.path}.")


def _answer_storage(request: Request) -> Answer:
    """Objects by signed link. Like the real one it refuses a link that comes with a token as well."""
    hub = request.hub
    if "authorization" in request.headers:
        raise Refused(400, "Only one auth mechanism allowed")
    given = request.query.get("X-Amz-Signature", "")
    if not hmac.compare_digest(given, hub.signature(request.path)):
        raise Refused(403, "SignatureDoesNotMatch")
    parts = request.path.lstrip("/").split("/")
    if request.method == "PUT":
        with hub.lock:
            if len(parts) == 3:
                hub.parts[parts[1], int(parts[2])] = request.body
            elif hashlib.sha256(request.body).hexdigest() != parts[1]:
                raise Refused(400, "BadDigest")
            else:
                hub.objects[parts[1]] = request.body
        return Answer(200, headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})
    if request.method not in ("GET", "HEAD") or parts[2] not in hub.objects:
        raise Refused(404, "NoSuchKey")
    return Answer(200, headers={"ETag": f'"{parts[2]}"'}, blob=Blob(hub.objects[parts[2]], True))


def _answer_elsewhere(request: Request) -> Answer:
    """Whatever the path names, without asking who wants it; or the bytes that the redirect was set up with."""
    hub = request.hub
    if request.path in hub.evil:
        return Answer(200, headers={"ETag": '"elsewhere"'}, blob=Blob(hub.evil[request.path], False))
    match = re.fullmatch(rf"/{_ID}/resolve/([^/]+)/(.+)", request.path)
    if match:
        commit = hub.repos[match[1]].find(unquote(match[2]))
        blob = commit.files.get(unquote(match[3])) if commit else None
    else:
        parts = [*request.path.lstrip("/").split("/"), "", "", ""]
        blob = Blob(hub.objects[parts[2]], True) if parts[2] in hub.objects else None
    if blob is None:
        raise Refused(404, "Not found")
    return Answer(200, headers={"ETag": f'"{blob.etag}"'}, blob=blob)


ANSWERS = {"hub": _answer_hub, "storage": _answer_storage, "elsewhere": _answer_elsewhere}
