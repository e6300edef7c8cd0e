"""The AsyncAPI document describes every topic, every Record and every agent."""

from typing import Any

import jsonschema
import pytest

from app import app
from app.topics import EVENTS, DeadLetter, topic_names
from web import asyncapi

Json = dict[str, Any]


@pytest.fixture(scope="module")
def readers() -> list[tuple[str, str]]:
    """Every agent's name, with each topic that it reads."""
    app.discover()
    return [(name, topic) for name, agent in app.agents.items() for topic in agent.channel.topics]


@pytest.fixture(scope="module")
def document(readers: list[tuple[str, str]]) -> Json:
    """The AsyncAPI document that a worker serves."""
    return asyncapi.document(readers)


def referred(document: Json, reference: Json) -> Any:
    """Resolve a `$ref` of the document. Raises KeyError if it does not exist."""
    found: Any = document
    for part in reference["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_every_topic_is_a_channel(document: Json) -> None:
    addresses = [channel["address"] for channel in document["channels"].values()]
    assert sorted(addresses) == sorted(topic_names())


def test_every_record_is_a_message_with_a_valid_schema(document: Json) -> None:
    for record in (*EVENTS, DeadLetter):
        message = document["components"]["messages"][record.__name__]
        schema = referred(document, message["payload"])
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["properties"].keys() == record._options.fields.keys()
        required = record._options.fields.keys() - record._options.optionalset
        assert set(schema["required"]) == required


def test_every_topic_is_sent_to(document: Json) -> None:
    sent = [o for o in document["operations"].values() if o["action"] == "send"]
    topics = [referred(document, operation["channel"])["address"] for operation in sent]
    assert sorted(topics) == sorted(topic_names())


def test_every_agent_is_a_receiver_of_what_it_reads(
    document: Json, readers: list[tuple[str, str]]
) -> None:
    received = {
        (name, referred(document, operation["channel"])["address"])
        for name, operation in document["operations"].items()
        if operation["action"] == "receive"
    }
    assert readers
    assert received == set(readers), "app.topics.EVENTS lacks a Record"


def test_every_operation_speaks_of_the_message_of_its_channel(document: Json) -> None:
    for operation in document["operations"].values():
        channel = referred(document, operation["channel"])
        messages = [referred(document, message) for message in operation["messages"]]
        assert messages == list(channel["messages"].values())
        for reference in messages:
            assert referred(document, reference)["payload"]
