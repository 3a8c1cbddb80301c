// Transactions while brokers are killed, until standard input ends. Where it cannot go on it makes itself anew.
//   write SERVERS TOPIC ID PARTITIONS RECORDS SEED: commits and aborts by chance. Each transaction is a line before it begins, with its
//     name, and one when it has ended as it was told: "committed NAME", "aborted NAME".
//   copy SERVERS SOURCE COPY ID: copies a topic, the offsets of each batch in the transaction of its records; "committed NAME" for each.

import java.io.IOException;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class TransactionWorker {
    static final AtomicBoolean ends = new AtomicBoolean();

    static void say(String what, String name) {
        System.out.println(what + " " + name);
        System.out.flush();
    }

    static KafkaProducer<String, String> producer(String servers, String id) {
        Map<String, Object> config = Map.of("bootstrap.servers", servers, "transactional.id", id, "transaction.timeout.ms", "8000",
                "request.timeout.ms", "3000", "delivery.timeout.ms", "20000", "max.block.ms", "20000", "linger.ms", "0");
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String servers, String group) {
        Map<String, Object> config = Map.of("bootstrap.servers", servers, "group.id", group, "enable.auto.commit", "false",
                "isolation.level", "read_committed", "auto.offset.reset", "earliest", "max.poll.records", "20",
                "session.timeout.ms", "6000", "heartbeat.interval.ms", "1000", "request.timeout.ms", "3000", "default.api.timeout.ms", "20000");
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static void write(String servers, String topic, String id, int partitions, int records, long seed) {
        var chance = new Random(seed);
        int number = 0;
        while (!ends.get()) {
            var producer = producer(servers, id);
            try {
                producer.initTransactions();
                while (!ends.get()) {
                    String name = id + "/" + number++;
                    boolean commits = chance.nextInt(10) < 7;
                    say("begins", name);
                    producer.beginTransaction();
                    for (int record = 0; record < records; record++)
                        producer.send(new ProducerRecord<>(topic, (number + record) % partitions, null, name + "/" + record));
                    if (commits) producer.commitTransaction(); else producer.abortTransaction();
                    say(commits ? "committed" : "aborted", name);
                }
            } catch (KafkaException e) {
                // What has become of the last one is not known.
                say("anew", e.toString().replace('\n', ' '));
            } finally {
                producer.close(Duration.ZERO);
            }
        }
    }

    static void copy(String servers, String source, String copy, String id) {
        int number = 0;
        while (!ends.get()) {
            var producer = producer(servers, id);
            var consumer = consumer(servers, id);
            try {
                producer.initTransactions();
                consumer.subscribe(Set.of(source));
                while (!ends.get()) {
                    var records = consumer.poll(Duration.ofMillis(500));
                    if (records.isEmpty()) continue;
                    Map<TopicPartition, OffsetAndMetadata> behind = new HashMap<>();
                    producer.beginTransaction();
                    for (TopicPartition partition : records.partitions()) {
                        List<ConsumerRecord<String, String>> all = records.records(partition);
                        for (var record : all) producer.send(new ProducerRecord<>(copy, partition.partition(), null, record.value()));
                        behind.put(partition, new OffsetAndMetadata(all.get(all.size() - 1).offset() + 1));
                    }
                    producer.sendOffsetsToTransaction(behind, consumer.groupMetadata());
                    producer.commitTransaction();
                    say("committed", id + "/" + number++);
                }
            } catch (KafkaException e) {
                say("anew", e.toString().replace('\n', ' '));
            } finally {
                producer.close(Duration.ZERO);
                consumer.close(Duration.ofSeconds(5));
            }
        }
    }

    public static void main(String[] args) {
        var stdin = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException e) {
                // It ends all the same.
            }
            ends.set(true);
        });
        stdin.setDaemon(true);
        stdin.start();
        if (args[0].equals("write"))
            write(args[1], args[2], args[3], Integer.parseInt(args[4]), Integer.parseInt(args[5]), Long.parseLong(args[6]));
        else
            copy(args[1], args[2], args[3], args[4]);
    }
}
