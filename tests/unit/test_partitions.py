from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events import (
    Action,
    ConfigError,
    EmptyStream,
    EncodeError,
    Event,
    GroupRemoved,
    PartitionedSubscriber,
    Publisher,
    ThingCreated,
    ThingRemoved,
    UnknownAction,
)
from mainflux_events.partitions import Partitioner, partition_of, partition_streams
from mainflux_events.slots import slot

URL = "redis://localhost:1"


class Measured(Action, tag="partitions.measured"):
    device: str
    value: float = 0.0


def remainder(octets: bytes) -> int:
    """The CRC-32 of ISO 3309, by long division of polynomials: bit by bit, the lowest first."""
    value = 0xFFFFFFFF
    for octet in octets:
        for bit in range(8):
            odd = (value ^ (octet >> bit)) & 1
            value = (value >> 1) ^ (0xEDB88320 if odd else 0)
    return value ^ 0xFFFFFFFF


# Of everything that is divided by 2^32, the remainder is the CRC itself.
WHOLE = 2**32


@pytest.mark.parametrize(
    ("key", "crc"),
    [
        ("123456789", 0xCBF43926),  # the check value of the catalogues of CRCs
        ("The quick brown fox jumps over the lazy dog", 0x414FA339),
        ("a", 0xE8B7BE43),
        ("", 0),
    ],
)
def test_a_partition_is_chosen_by_the_crc_32_that_is_published(key: str, crc: int) -> None:
    assert partition_of(key, WHOLE) == crc
    assert [partition_of(key, partitions) for partitions in (1, 7, 16)] == [0, crc % 7, crc % 16]


@given(st.binary(max_size=40), st.integers(1, 1024))
def test_of_any_key_it_is_the_remainder_by_long_division(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == remainder(key) % partitions


def test_a_key_means_the_same_as_text_as_bytes_and_as_a_number() -> None:
    assert partition_of("é", WHOLE) == partition_of(b"\xc3\xa9", WHOLE)
    assert partition_of("\udcff", WHOLE) == partition_of(b"\xff", WHOLE), (
        "a byte that is no UTF-8, as it came"
    )
    assert partition_of(42, WHOLE) == partition_of("42", WHOLE)


def test_each_partition_is_its_own_hash_tag() -> None:
    streams = partition_streams("mainflux.things", 16)
    assert streams[:2] == ("{mainflux.things:0}", "{mainflux.things:1}")
    assert [slot(stream) for stream in streams] == [slot(stream[1:-1]) for stream in streams]
    assert len({slot(stream) for stream in streams}) == 16


def test_the_key_is_the_id_of_the_action_if_nothing_else_is_said() -> None:
    chooses = Partitioner(WHOLE, None).choose
    assert chooses(ThingRemoved("t1")) == remainder(b"t1")
    assert chooses(Event(ThingCreated("t1", "g1", "p1"))) == remainder(b"t1")
    assert chooses(GroupRemoved("t1")) == remainder(b"t1")
    assert chooses(Event(UnknownAction("nobody.knows", {"id": "t1"}))) == remainder(b"t1")


def test_a_key_function_is_given_the_event() -> None:
    chooses = Partitioner(WHOLE, lambda event: event.action.device).choose  # type: ignore[attr-defined]
    assert chooses(Measured("d1")) == chooses(Event(Measured("d1"))) == remainder(b"d1")


def test_an_event_without_a_key_is_refused_with_the_cure() -> None:
    with pytest.raises(
        EncodeError, match=r"partitions\.measured: its action has no id .* give the publisher a key="
    ):
        Partitioner(4, None).choose(Measured("d1"))
    with pytest.raises(EncodeError, match="has to give a str, bytes or an int that can be written, not UUID"):
        Partitioner(4, lambda event: uuid.UUID(int=1)).choose(ThingRemoved("t1"))  # type: ignore[arg-type,return-value]
    with pytest.raises(EncodeError, match="that can be written, not str"):
        Partitioner(4, lambda event: "\ud800").choose(ThingRemoved("t1"))


@pytest.mark.parametrize("partitions", [0, -1, 1025, 2.0, True, "4"])
def test_a_number_of_partitions_that_cannot_work_is_refused(partitions: int) -> None:
    with pytest.raises(ConfigError, match="partitions: "):
        Publisher(URL, "things", partitions=partitions)
    with pytest.raises(ConfigError, match="partitions: "):
        PartitionedSubscriber(URL, "things", "audit", partitions=partitions)


def test_a_name_that_cannot_be_a_hash_tag_is_refused() -> None:
    for stream in ("{tenant}:things", "things}"):
        with pytest.raises(ConfigError, match="holds a brace"):
            Publisher(URL, stream, partitions=4)
        with pytest.raises(ConfigError, match="holds a brace"):
            PartitionedSubscriber(URL, stream, "audit", partitions=4)
    with pytest.raises(EmptyStream):
        PartitionedSubscriber(URL, "", "audit", partitions=4)


def test_a_key_goes_with_partitions() -> None:
    with pytest.raises(ConfigError, match="give partitions=, too"):
        Publisher(URL, "things", key=lambda event: "k")
    with pytest.raises(ConfigError, match="key: a function of an event is wanted, not 'id'"):
        Publisher(URL, "things", partitions=4, key="id")  # type: ignore[arg-type]
