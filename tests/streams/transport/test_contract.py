"""What we rely on inside Faust, mode and aiokafka: it exists, takes what we pass, and is what was read.

A changed hash means that upstream rewrote something whose details matter here: read the change, adapt
streams/transport, run the broker tests, then write the new hash down.
"""

import hashlib
import inspect
from importlib.metadata import version

import aiokafka
import aiokafka.abc
import aiokafka.codec
import aiokafka.consumer.fetcher as fetcher
import faust
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from faust import streams as faust_streams
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.transport import conductor, consumer
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage
from mode.services import Service
from mode.supervisors import CrashingSupervisor
from mode.threads import WorkerThread

from streams.errors import ConfigError
from streams.transport import versions
from streams.transport.lz4 import LEVEL, use_fast_lz4

SIGNATURES = {
    # Overridden: must be called the way upstream calls them.
    consumer.Consumer.getmany: "(self, timeout: float)",
    consumer.Consumer.on_buffer_full: "(self, tp: faust.types.tuples.TP) -> None",
    consumer.Consumer.on_buffer_drop: "(self, tp: faust.types.tuples.TP) -> None",
    consumer.Consumer._add_gap: "(self, tp: faust.types.tuples.TP, offset_from: int, offset_to: int) -> None",
    driver.AIOKafkaConsumerThread._create_worker_consumer: None,
    driver.AIOKafkaConsumerThread.on_start: "(self) -> None",
    StickyPartitionAssignor.parse_member_metadata: None,
    driver.Consumer._new_consumer_thread: None,
    driver.Producer._settings_auth: None,
    faust.App._new_transport: None,
    faust.App._create_directories: None,
    faust.App._on_rebalance_when_stopped: None,
    faust.App.on_rebalance_start: "(self) -> None",
    faust.App.on_rebalance_end: "(self) -> None",
    Service._crash: "(self, reason: BaseException) -> None",
    fetcher.PartitionRecords.__init__: (
        "(self, tp, records, aborted_transactions, fetch_offset, key_deserializer, value_deserializer, check_crcs, "
        "isolation_level)"
    ),
    # Called.
    consumer.Consumer._wait_next_records: None,
    consumer.Consumer._filter_tps_with_pending_acks: None,
    consumer.Consumer.maybe_wait_for_commit_to_finish: "(self) -> bool",
    AIOKafkaClient.bootstrap: "(self)",
    AIOKafkaClient.get_random_node: "(self)",
    AIOKafkaProducer.send_batch: "(self, batch, topic, *, partition)",
}

SOURCES = {
    # Overridden, so that a fix or a new duty in them must be looked at.
    "Consumer.getmany": (consumer.Consumer.getmany, "4b168d84882a"),
    "Consumer._wait_next_records": (consumer.Consumer._wait_next_records, "6218e1969a63"),
    "Consumer._drain_messages": (consumer.Consumer._drain_messages, "44a2500309e8"),
    "Consumer.perform_seek": (consumer.Consumer.perform_seek, "0e8c130ff4b0"),
    "Consumer.on_partitions_revoked": (consumer.Consumer.on_partitions_revoked, "d04b7ae72c6f"),
    "Consumer._new_offset": (consumer.Consumer._new_offset, "1d2c7ea89a7a"),
    "Consumer._commit_offsets": (consumer.Consumer._commit_offsets, "1a6979904118"),
    "Consumer._commit_tps": (consumer.Consumer._commit_tps, "a20e230b05ae"),
    "Consumer._should_commit": (consumer.Consumer._should_commit, "5ce941793947"),
    "Consumer.force_commit": (consumer.Consumer.force_commit, "cc094614d22c"),
    "Consumer.ack": (consumer.Consumer.ack, "5fcf41cf4515"),
    "Consumer.wait_empty": (consumer.Consumer.wait_empty, "e4662fe24f09"),
    "AIOKafkaConsumerThread._create_worker_consumer": (
        driver.AIOKafkaConsumerThread._create_worker_consumer,
        "c2701bfc3e6f",
    ),
    "AIOKafkaConsumerThread._fetch_records": (driver.AIOKafkaConsumerThread._fetch_records, "39a2c6c79fc1"),
    "AIOKafkaConsumerThread._commit": (driver.AIOKafkaConsumerThread._commit, "932852ce7a23"),
    "App._on_partitions_revoked": (faust.App._on_partitions_revoked, "d5c895bbe57d"),
    "App._on_partitions_assigned": (faust.App._on_partitions_assigned, "de932b7927db"),
    "App._stop_consumer": (faust.App._stop_consumer, "55854a5de12c"),
    "App.on_stop": (faust.App.on_stop, "bfe5a933defb"),
    "Recovery._resume_streams": (Recovery._resume_streams, "d986a6710c1a"),
    "Recovery._restart_recovery": (Recovery._restart_recovery.fun, "6bd8a8558a2d"),
    "ConductorCompiler.build": (conductor.ConductorCompiler.build, "837cf521368c"),
    "Stream.noack": (faust_streams.Stream.noack, "921a6f5c674d"),
    "Stream.events": (faust_streams.Stream.events, "c62f4dd3a73f"),
    "CrashingSupervisor": (CrashingSupervisor, "37e805f0af21"),
    "Service.crash": (Service.crash, "14980000465d"),
    "PartitionRecords": (fetcher.PartitionRecords, "94aa0da0dbec"),
    "FetchResult": (fetcher.FetchResult, "d7db13f06de8"),
    "Fetcher._proc_fetch_request": (fetcher.Fetcher._proc_fetch_request, "59bf948fff47"),
    "Fetcher.fetched_records": (fetcher.Fetcher.fetched_records, "be4348896b9b"),
    "GroupCoordinator._push_error_to_user": (GroupCoordinator._push_error_to_user, "743ff515bd7e"),
    "GroupCoordinator._on_join_prepare": (GroupCoordinator._on_join_prepare, "4d9524afc0ee"),
    "GroupCoordinator._do_heartbeat": (GroupCoordinator._do_heartbeat, "dc1d6632aaa6"),
    "GroupCoordinator._heartbeat_routine": (GroupCoordinator._heartbeat_routine, "61d010289522"),
    "GroupCoordinator._on_join_complete": (GroupCoordinator._on_join_complete, "0b0b3d204b40"),
    "GroupCoordinator.reset_generation": (GroupCoordinator.reset_generation, "537aa37c531b"),
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda f: f.__qualname__)
def test_a_function_we_override_or_call_takes_the_same_arguments(function):
    expected = SIGNATURES[function]
    if expected is not None:
        signature = str(inspect.signature(function))
        assert signature.startswith(expected), signature


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_is_the_one_that_was_read(name):
    thing, expected = SOURCES[name]
    found = hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:12]
    assert found == expected, f"{name} is {found} now: read what changed"


def test_attributes_that_are_read_exist():
    assert {"_tp", "_value_deserializer", "_check_crcs", "_isolation_level", "_aborted_producers"} <= set(
        fetcher.PartitionRecords.__init__.__code__.co_names
    )
    coordinator = inspect.getsource(GroupCoordinator.__init__)
    assert "self._coordination_task = " in coordinator and "self._pending_exception = " in coordinator
    for name in ("attributes", "base_offset", "compression_type", "first_timestamp", "is_control_batch"):
        assert hasattr(DefaultRecordBatch, name)
    for name in ("is_transactional", "max_timestamp", "next_offset", "producer_id", "timestamp_type"):
        assert hasattr(DefaultRecordBatch, name)
    for name in ("_read_offset", "_committed_offset", "_acked", "_acked_index", "_on_partitions_revoked"):
        assert f"self.{name}" in inspect.getsource(consumer.Consumer)
    assert "acked" in ConsumerMessage.__mro__[1].__slots__
    assert issubclass(RebalanceAgain, Exception)
    assert StickyPartitionAssignor.name == "sticky"
    assert "daemon" in inspect.getsource(WorkerThread.__init__)


def test_the_fetcher_looks_both_names_up_when_it_is_called():
    names = fetcher.Fetcher._proc_fetch_request.__code__.co_names
    assert {"MemoryRecords", "PartitionRecords"} <= set(names)


def test_the_compiled_stream_iterator_is_there():
    versions.check_accelerator()


def test_a_missing_stream_iterator_stops_the_start(monkeypatch):
    monkeypatch.setattr(faust_streams, "_CStreamIterator", None)
    with pytest.raises(ConfigError, match="NO_CYTHON"):
        versions.check_accelerator()


def test_the_installed_versions_are_the_tested_ones():
    assert {name: version(name) for name in versions.TESTED} == versions.TESTED
    versions.check_versions("raw_spans")
    assert aiokafka.__version__ == versions.TESTED["aiokafka"]


@pytest.mark.parametrize(
    ("name", "delivery", "mentions"),
    [
        ("aiokafka", "raw_spans", 'transport.delivery = "consumer_records"'),
        ("faust-streaming", "raw_spans", "faust-streaming==0.15.3"),
        ("mode-streaming", "consumer_records", "mode-streaming 0.7.1"),
    ],
)
def test_another_version_is_refused_with_what_to_do(monkeypatch, name, delivery, mentions):
    monkeypatch.setattr(versions, "version", lambda n: "9.9.9" if n == name else versions.TESTED[n])
    with pytest.raises(ConfigError) as caught:
        versions.check_versions(delivery)
    assert mentions in str(caught.value) and f"{name} 9.9.9" in str(caught.value)
    versions.check_versions(delivery, allow_untested=True)


def test_another_aiokafka_is_good_enough_for_its_own_records(monkeypatch):
    monkeypatch.setattr(versions, "version", lambda n: "9.9.9" if n == "aiokafka" else versions.TESTED[n])
    versions.check_versions("consumer_records")


def test_the_producer_s_builder_compresses_with_what_it_is_given(monkeypatch):
    """aiokafka has no setting for the level of lz4; 9 is what it takes by itself."""
    levels = []
    encode = aiokafka.codec.lz4_encode

    def noted(payload, level):
        levels.append(level)
        return encode(payload, level)

    monkeypatch.setattr(aiokafka.codec, "lz4_encode", noted)
    assert use_fast_lz4()
    builder = DefaultRecordBatchBuilder(2, 3, 0, -1, -1, -1, 1 << 16)
    values = [b"value %d " % n * 20 for n in range(50)]
    for number, value in enumerate(values):
        assert builder.append(number, None, b"key", value, [])
    batch = DefaultRecordBatch(bytes(builder.build()))
    assert [record.value for record in batch] == values
    assert levels == [LEVEL]
    monkeypatch.undo()
    use_fast_lz4()
