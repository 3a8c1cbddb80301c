// Copies a topic to another one, exactly once: each batch of records is produced in a transaction that commits the offsets
// behind it too. Every third transaction is aborted, and its records are read again. At last another producer of the same
// transactional id fences the first one. Prints what those who read what is committed find in the copy.

import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Transactions {
    static final int RECORDS = 200;

    static KafkaProducer<String, String> producer(String servers, String id) {
        Map<String, Object> config = Map.of("bootstrap.servers", servers, "transactional.id", id);
        var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    static KafkaConsumer<String, String> consumer(String servers, String group) {
        Map<String, Object> config = Map.of("bootstrap.servers", servers, "group.id", group, "enable.auto.commit", "false",
                "isolation.level", "read_committed", "auto.offset.reset", "earliest", "max.poll.records", "10");
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static Map<TopicPartition, OffsetAndMetadata> behind(ConsumerRecords<String, String> records) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (TopicPartition partition : records.partitions()) {
            List<ConsumerRecord<String, String>> all = records.records(partition);
            offsets.put(partition, new OffsetAndMetadata(all.get(all.size() - 1).offset() + 1));
        }
        return offsets;
    }

    public static void main(String[] args) {
        String servers = args[0], from = args[1], to = args[2], group = args[3];
        try (var producer = producer(servers, group); var consumer = consumer(servers, group)) {
            for (boolean commits : new boolean[] {true, false}) {
                producer.beginTransaction();
                for (int i = 0; i < RECORDS; i++)
                    producer.send(new ProducerRecord<>(from, i % 2, "k", (commits ? "" : "aborted-") + i));
                if (commits) producer.commitTransaction(); else producer.abortTransaction();
            }
            consumer.subscribe(Set.of(from));
            int copied = 0;
            for (int number = 0; copied < RECORDS; number++) {
                var records = consumer.poll(Duration.ofSeconds(10));
                if (records.isEmpty()) break;
                producer.beginTransaction();
                for (var record : records) producer.send(new ProducerRecord<>(to, record.partition(), "k", record.value()));
                producer.sendOffsetsToTransaction(behind(records), consumer.groupMetadata());
                if (number % 3 == 2) {
                    producer.abortTransaction();
                    var committed = consumer.committed(consumer.assignment());
                    committed.forEach((partition, offset) -> consumer.seek(partition, offset == null ? 0 : offset.offset()));
                } else {
                    producer.commitTransaction();
                    copied += records.count();
                }
            }
            boolean fenced = false;
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(to, 0, "k", "zombie"));
            producer.flush();
            try (var later = producer(servers, group)) {
                producer.commitTransaction();
            } catch (ProducerFencedException | InvalidProducerEpochException e) {
                fenced = true;
            }
            int found = 0;
            Set<String> distinct = new HashSet<>();
            try (var reader = consumer(servers, group + "-reader")) {
                reader.assign(List.of(new TopicPartition(to, 0), new TopicPartition(to, 1)));
                for (var records = reader.poll(Duration.ofSeconds(5)); !records.isEmpty(); records = reader.poll(Duration.ofSeconds(2)))
                    for (var record : records) {
                        found++;
                        distinct.add(record.value());
                    }
            }
            System.out.println("{\"found\": " + found + ", \"distinct\": " + distinct.size() + ", \"fenced\": " + fenced + "}");
        }
    }
}
