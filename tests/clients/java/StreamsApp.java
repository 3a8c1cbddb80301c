// A Kafka Streams application as there are many: windows are summed up, a table is joined, two streams are joined.
//   StreamsApp FILE: the settings of Streams, as properties. Runs until SIGTERM, and closes then.
// It reads, all with the same number of partitions,
//   orders     customer -> "ORDER AMOUNT"
//   customers  customer -> region, a table
//   payments   order -> "PAYMENT"
// and writes
//   sums    customer@window -> "COUNT SUM", after each order of ten seconds by its timestamp
//   placed  customer -> "ORDER AMOUNT REGION", for each order
//   paid    order -> "ORDER AMOUNT PAYMENT", for each payment at most a minute from its order

import java.io.FileReader;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;

import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.Stores;

public class StreamsApp {
    static final Serde<String> TEXT = Serdes.String();
    // Whatever comes late is counted: the order in which partitions are read is not the application's.
    static final Duration GRACE = Duration.ofDays(1);

    static String added(String order, String sum) {
        var before = sum.split(" ");
        long amount = Long.parseLong(order.split(" ")[1]);
        return (Long.parseLong(before[0]) + 1) + " " + (Long.parseLong(before[1]) + amount);
    }

    static StreamsBuilder topology() {
        var builder = new StreamsBuilder();
        KStream<String, String> orders = builder.stream("orders", Consumed.with(TEXT, TEXT));
        orders.groupByKey(Grouped.with(TEXT, TEXT))
            .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), GRACE))
            .aggregate(() -> "0 0", (customer, order, sum) -> added(order, sum), Named.as("sum"),
                    Materialized.<String, String>as(Stores.persistentWindowStore(
                            "sums-store", GRACE.plusSeconds(10), Duration.ofSeconds(10), false))
                            .withKeySerde(TEXT).withValueSerde(TEXT))
            .toStream()
            .map((window, sum) -> KeyValue.pair(window.key() + "@" + window.window().start(), sum))
            .to("sums", Produced.with(TEXT, TEXT));
        var customers = builder.table("customers", Consumed.with(TEXT, TEXT), Materialized.as("customers-store"));
        orders.join(customers, (order, region) -> order + " " + region, Joined.with(TEXT, TEXT, TEXT))
            .to("placed", Produced.with(TEXT, TEXT));
        KStream<String, String> payments = builder.stream("payments", Consumed.with(TEXT, TEXT));
        orders.selectKey((customer, order) -> order.split(" ")[0])
            .join(payments, (order, payment) -> order + " " + payment,
                    JoinWindows.ofTimeDifferenceAndGrace(Duration.ofMinutes(1), GRACE),
                    StreamJoined.with(TEXT, TEXT, TEXT).withName("by-order").withStoreName("by-order"))
            .to("paid", Produced.with(TEXT, TEXT));
        return builder;
    }

    public static void main(String[] args) throws Exception {
        var settings = new Properties();
        try (var file = new FileReader(args[0])) {
            settings.load(file);
        }
        var streams = new KafkaStreams(topology().build(), settings);
        var ended = new CountDownLatch(1);
        streams.setStateListener((now, before) -> {
            System.err.println("state " + now);
            if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) ended.countDown();
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(60))));
        streams.start();
        ended.await();
        if (streams.state() == KafkaStreams.State.ERROR || streams.state() == KafkaStreams.State.PENDING_ERROR) System.exit(1);
    }
}
