// Kafka Streams: decode and one keyed sum in an in-memory store. Arguments: BOOTSTRAP TOPIC EVENTS SCHEMA_FILE.
//
// Best documented settings (kafka.apache.org, Streams developer guide "Memory Management" and "Configuring"; Avro's
// "org.apache.avro.fastread"): a store in memory that is not logged, so nothing is written anywhere; one thread, for
// the one core that every contender gets; large polls and fetches; records and decoders reused.

import com.sun.management.OperatingSystemMXBean;
import java.io.File;
import java.lang.management.ManagementFactory;
import java.util.Locale;
import java.util.Properties;
import java.util.UUID;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.Stores;

public final class Sum {
    /** The whole event is read; its tokens are what is added up. */
    private static final class Tokens implements Deserializer<Long> {
        private final GenericDatumReader<GenericRecord> reader;
        private final int input;
        private final int output;
        private BinaryDecoder decoder;
        private GenericRecord record;

        Tokens(Schema schema) {
            reader = new GenericDatumReader<>(schema);
            input = schema.getField("input_tokens").pos();
            output = schema.getField("output_tokens").pos();
        }

        @Override
        public Long deserialize(String topic, byte[] value) {
            try {
                decoder = DecoderFactory.get().binaryDecoder(value, decoder);
                record = reader.read(record, decoder);
                return (Long) record.get(input) + (Long) record.get(output);
            } catch (java.io.IOException error) {
                throw new java.io.UncheckedIOException(error);
            }
        }
    }

    /** As loadtest/bench/child.py: the first tenth is not counted. */
    private static final class Progress {
        private final OperatingSystemMXBean system =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        private final long events;
        private long seen;
        private long began;
        private long wall;
        private long cpu;

        Progress(long events) {
            this.events = events;
        }

        void add() {
            seen++;
            if (began == 0) {
                if (seen >= Math.max(events / 10, 1)) {
                    began = seen;
                    wall = System.nanoTime();
                    cpu = system.getProcessCpuTime();
                }
            } else if (seen == events) {
                System.out.printf(Locale.ROOT, "{\"events\": %d, \"wall_seconds\": %.6f, \"cpu_seconds\": %.6f}%n",
                    seen - began, (System.nanoTime() - wall) / 1e9, (system.getProcessCpuTime() - cpu) / 1e9);
                System.out.flush();
                Runtime.getRuntime().halt(0);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.setProperty("org.apache.avro.fastread", "true");
        Schema schema = new Schema.Parser().parse(new File(arguments[3]));
        Progress progress = new Progress(Long.parseLong(arguments[2]));
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "bench-" + UUID.randomUUID());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("java.io.tmpdir"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 1 << 20);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 50);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 8 << 20);

        StreamsBuilder builder = new StreamsBuilder();
        builder
            .stream(arguments[1], Consumed.with(Serdes.Bytes(), Serdes.serdeFrom(Serdes.Long().serializer(), new Tokens(schema))))
            .groupByKey()
            .aggregate(
                () -> 0L,
                (session, tokens, sum) -> {
                    progress.add();
                    return sum + tokens;
                },
                Materialized.<org.apache.kafka.common.utils.Bytes, Long>as(Stores.inMemoryKeyValueStore("sums"))
                    .withKeySerde(Serdes.Bytes())
                    .withValueSerde(Serdes.Long())
                    .withCachingDisabled()
                    .withLoggingDisabled());
        new KafkaStreams(builder.build(settings), settings).start();
    }
}
