"""Tags, referrers and deletion, against a real registry and one that tells stories."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from img_core.images import oci
from img_core.net.retry import Patience
from img_core.spec.errors import NotFoundError, RegistryError
from img_core.spec.values import Descriptor, Digest
from img_core.testing.faulty_registry import FaultyRegistry, reply
from img_core.testing.images import make_image
from img_core.testing.registry import DockerRegistry
from img_registry_oci._client import RegistryClient

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry

SUBJECT = Digest("sha256:" + "a" * 64)
INDEX = {
    "schemaVersion": 2,
    "mediaType": oci.OCI_INDEX,
    "manifests": [{"mediaType": oci.OCI_MANIFEST, "digest": "sha256:" + "b" * 64, "size": 7}],
}


@pytest.fixture
def client(faulty_registry: FaultyRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(faulty_registry.address, limits=Patience(first_pause=0.01, total_seconds=5)) as running:
        yield running


def tags(*names: str) -> bytes:
    return json.dumps({"name": "app", "tags": list(names)}).encode()


def test_tags_are_listed_and_manifests_deleted(registry: DockerRegistry) -> None:
    image = make_image()
    for tag in ("1", "2", "latest"):
        registry.add("app", tag, image)
    with RegistryClient(registry.address) as client:
        assert sorted(client.tags("app")) == ["1", "2", "latest"]
        client.delete_manifest("app", image.top.digest)
        with pytest.raises(NotFoundError):
            client.manifest("app", image.top.digest)
        with pytest.raises(NotFoundError):
            client.tags("nope")
        with pytest.raises(NotFoundError):
            client.delete_manifest("app", image.top.digest)


def test_all_pages_of_tags_are_read(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    link = {"Link": '</v2/app/tags/list?last=b&n=2>; rel="next"'}
    faulty_registry.rule(r"tags/list\?n=", reply(200, tags("a", "b"), link))
    faulty_registry.rule(r"tags/list\?last=b", reply(200, tags("b", "c", "../x")))
    assert client.tags("app") == ["a", "b", "c"]


def test_no_tags_at_all(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("tags/list", reply(200, b'{"name":"app","tags":null}'))
    assert client.tags("app") == []


@pytest.mark.parametrize(
    "link", ['<http://127.0.0.2:1/v2/app/tags/list>; rel="next"', '</v2/app/tags/list?n=1>; rel="next"']
)
def test_pages_that_lead_astray_end(link: str, client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("tags/list", reply(200, tags("a"), {"Link": link}))
    with pytest.raises(RegistryError, match=r"another host|more than 200 pages"):
        client.tags("app")


def test_pages_of_referrers_are_read(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    page = json.dumps(INDEX).encode()
    faulty_registry.rule("referrers/.*last", reply(200, page))
    faulty_registry.rule("referrers/", reply(200, page, {"Link": '<?last=1>; rel="next"'}))
    assert [item.size for item in client.referrers("app", SUBJECT)] == [7, 7]


def with_subject(annotation: str) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "artifactType": "application/x",
            "config": {"mediaType": oci.OCI_EMPTY, "digest": oci.digest(b"{}"), "size": 2},
            "layers": [],
            "subject": {"mediaType": oci.OCI_MANIFEST, "digest": SUBJECT, "size": 7},
            "annotations": {"a": annotation},
        }
    ).encode()


def test_a_registry_without_such_a_list_gets_one_with_the_push_of_a_referrer(registry: DockerRegistry) -> None:
    first, second = with_subject("1"), with_subject("2")
    blob = Descriptor(oci.OCI_EMPTY, oci.digest(b"{}"), 2)
    with RegistryClient(registry.address) as client:
        client.upload("app", blob, lambda start: [b"{}"[start:]])
        for content in (first, second, first):
            client.put_manifest("app", oci.digest(content), content, oci.OCI_MANIFEST)
        found = client.referrers("app", SUBJECT)
        assert [item.digest for item in found] == [oci.digest(first), oci.digest(second)]
        assert [item.annotations for item in found] == [{"a": "1"}, {"a": "2"}]
        assert client.referrers("app", SUBJECT, artifact_type="application/x") == found
        assert client.referrers("app", SUBJECT, artifact_type="application/y") == []


def test_a_registry_that_keeps_the_list_is_left_to_it(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("PUT", reply(201, b"", {"OCI-Subject": SUBJECT}))
    client.put_manifest("app", "1", with_subject("1"), oci.OCI_MANIFEST)
    assert [str(request) for request in faulty_registry.asked()] == ["PUT /v2/app/manifests/1"]


def test_referrers_of_new_and_of_old_registries(client: RegistryClient, faulty_registry: FaultyRegistry) -> None:
    assert client.referrers("app", SUBJECT) == []
    faulty_registry.add_manifest("app", SUBJECT.replace(":", "-"), oci.OCI_INDEX, json.dumps(INDEX).encode())
    assert [item.size for item in client.referrers("app", SUBJECT)] == [7]
    faulty_registry.rule("referrers/", reply(200, json.dumps({**INDEX, "manifests": []}).encode()))
    assert client.referrers("app", SUBJECT, artifact_type="application/x") == []
    assert faulty_registry.asked("referrers/")[-1].path.endswith("?artifactType=application%2Fx")
