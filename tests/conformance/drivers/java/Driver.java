// Kafka's own Java client, of any version from 2.8 on: one JSON object a line on standard input, one answer a line on standard output.

import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

import com.fasterxml.jackson.databind.ObjectMapper;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeTopicsResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.InvalidOffsetException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Driver {
    static final String BOOTSTRAP = System.getenv("BOOTSTRAP");
    static final long SECONDS = 60;
    static final String VERSION = version();

    static class Unsupported extends RuntimeException {
    }

    static class Member {
        final KafkaConsumer<String, String> consumer;
        final Map<TopicPartition, OffsetAndMetadata> polled = new HashMap<>();
        /** What the client gave at once and was not asked for yet: its own bound on that cannot change. */
        final List<ConsumerRecord<String, String>> left = new ArrayList<>();

        Member(KafkaConsumer<String, String> consumer) {
            this.consumer = consumer;
        }
    }

    /** The client has no public name for it that both old and new ones know. */
    static String version() {
        try (var file = Driver.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            var told = new Properties();
            told.load(file);
            return told.getProperty("version");
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    final Map<String, Member> members = new HashMap<>();
    final Map<String, KafkaProducer<String, String>> producers = new HashMap<>();
    Admin made;

    Admin admin() {
        if (made == null)
            made = Admin.create(Map.of("bootstrap.servers", BOOTSTRAP));
        return made;
    }

    static <T> T get(Future<T> future) throws Exception {
        return future.get(SECONDS, TimeUnit.SECONDS);
    }

    // What comes with a verb.

    static String text(Map<String, Object> asked, String name) {
        return (String) asked.get(name);
    }

    static int number(Map<String, Object> asked, String name) {
        return ((Number) asked.get(name)).intValue();
    }

    static long big(Map<String, Object> asked, String name) {
        return ((Number) asked.get(name)).longValue();
    }

    @SuppressWarnings("unchecked")
    static Map<String, String> config(Map<String, Object> asked) {
        return (Map<String, String>) asked.get("config");
    }

    static ConfigResource resource(Map<String, Object> asked) {
        return new ConfigResource(ConfigResource.Type.TOPIC, text(asked, "topic"));
    }

    /** Since 3.1 what describes topics has another name; the old one is gone since 4.0. */
    @SuppressWarnings("unchecked")
    static TopicDescription described(DescribeTopicsResult told, String topic) throws Exception {
        for (var name : List.of("topicNameValues", "values"))
            for (var method : DescribeTopicsResult.class.getMethods())
                if (method.getName().equals(name))
                    return get(((Map<String, Future<TopicDescription>>) method.invoke(told)).get(topic));
        throw new IllegalStateException("topics cannot be described");
    }

    // Producing.

    static KafkaProducer<String, String> producer(Map<String, Object> settings) {
        var config = new HashMap<String, Object>(Map.of("bootstrap.servers", BOOTSTRAP, "linger.ms", "5", "max.request.size", "10000000",
                "max.block.ms", "20000"));
        config.putAll(settings);
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    @SuppressWarnings("unchecked")
    static List<Long> send(KafkaProducer<String, String> producer, Map<String, Object> asked) throws Exception {
        var sent = new ArrayList<Future<RecordMetadata>>();
        for (var record : (List<Map<String, Object>>) asked.get("records")) {
            int partition = record.containsKey("partition") ? number(record, "partition") : 0;
            Long timestamp = record.containsKey("timestamp") ? big(record, "timestamp") : null;
            var message = new ProducerRecord<>(text(asked, "topic"), partition, timestamp, text(record, "key"), text(record, "value"));
            for (var header : (List<List<String>>) record.getOrDefault("headers", List.of()))
                message.headers().add(header.get(0), header.get(1) == null ? null : header.get(1).getBytes(StandardCharsets.UTF_8));
            sent.add(producer.send(message));
        }
        var offsets = new ArrayList<Long>();
        for (var future : sent)
            offsets.add(get(future).offset());
        return offsets;
    }

    // Consuming.

    static KafkaConsumer<String, String> consumer(Map<String, Object> settings) {
        var config = new HashMap<String, Object>(Map.of("bootstrap.servers", BOOTSTRAP, "enable.auto.commit", "false"));
        config.putAll(settings);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    Map<String, Object> open(Map<String, Object> asked) {
        boolean committed = (Boolean) asked.get("committed");
        var member = new Member(consumer(Map.of("auto.offset.reset", asked.get("reset") == null ? "none" : text(asked, "reset"),
                "isolation.level", committed ? "read_committed" : "read_uncommitted")));
        var partition = new TopicPartition(text(asked, "topic"), 0);
        members.put(text(asked, "member"), member);
        member.consumer.assign(List.of(partition));
        if (asked.get("start") instanceof Number)
            member.consumer.seek(partition, big(asked, "start"));
        else if ("latest".equals(asked.get("start")))
            member.consumer.seekToEnd(List.of(partition));
        else
            member.consumer.seekToBeginning(List.of(partition));
        return Map.of();
    }

    Map<String, Object> join(Map<String, Object> asked) {
        var settings = new HashMap<String, Object>(Map.of("group.id", text(asked, "group"), "auto.offset.reset", "earliest",
                "isolation.level", "read_committed"));
        if ("classic".equals(text(asked, "protocol")))
            settings.putAll(Map.of("session.timeout.ms", "10000", "heartbeat.interval.ms", "500"));
        else if (VERSION.startsWith("2."))
            throw new Unsupported();
        else
            settings.put("group.protocol", "consumer");
        var member = new Member(consumer(settings));
        member.consumer.subscribe(Set.of(text(asked, "topic")));
        members.put(text(asked, "member"), member);
        return Map.of();
    }

    Map<String, Object> poll(Map<String, Object> asked) {
        var member = members.get(text(asked, "member"));
        int count = number(asked, "count");
        long deadline = System.nanoTime() + (long) (((Number) asked.get("seconds")).doubleValue() * 1e9);
        while (member.left.isEmpty() && System.nanoTime() < deadline)
            member.consumer.poll(Duration.ofMillis(100)).forEach(member.left::add);
        var records = new ArrayList<Map<String, Object>>();
        while (records.size() < count && !member.left.isEmpty()) {
            var record = member.left.remove(0);
            var headers = new ArrayList<List<String>>();
            for (Header header : record.headers()) {
                var value = header.value() == null ? null : new String(header.value(), StandardCharsets.UTF_8);
                headers.add(Arrays.asList(header.key(), value));
            }
            var told = new HashMap<String, Object>(Map.of("partition", record.partition(), "offset", record.offset(), "headers", headers,
                    "timestamp", record.timestamp()));
            told.put("key", record.key());
            told.put("value", record.value());
            records.add(told);
            member.polled.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
        }
        var assigned = member.consumer.assignment().stream().map(TopicPartition::partition).toList();
        return Map.of("records", records, "assigned", assigned);
    }

    // The verbs.

    Map<String, Object> administer(String verb, Map<String, Object> asked) throws Exception {
        var topic = text(asked, "topic");
        switch (verb) {
            case "create_topic":
                var wanted = new NewTopic(topic, number(asked, "partitions"), (short) 1).configs(config(asked));
                get(admin().createTopics(List.of(wanted)).all());
                break;
            case "topics":
                return Map.of("topics", get(admin().listTopics().names()));
            case "describe_topic":
                return Map.of("partitions", described(admin().describeTopics(List.of(topic)), topic).partitions().size());
            case "describe_config":
                var told = new HashMap<String, String>();
                for (ConfigEntry entry : get(admin().describeConfigs(List.of(resource(asked))).all()).get(resource(asked)).entries())
                    told.put(entry.name(), entry.value());
                return Map.of("config", told);
            case "alter_config":
                Collection<AlterConfigOp> changes = new ArrayList<>();
                config(asked).forEach((name, value) -> changes.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
                get(admin().incrementalAlterConfigs(Map.of(resource(asked), changes)).all());
                break;
            case "add_partitions":
                get(admin().createPartitions(Map.of(topic, NewPartitions.increaseTo(number(asked, "count")))).all());
                break;
            case "delete_records":
                var partition = new TopicPartition(topic, number(asked, "partition"));
                get(admin().deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(big(asked, "before")))).all());
                break;
            case "delete_topic":
                get(admin().deleteTopics(List.of(topic)).all());
                break;
            default:
                throw new Unsupported();
        }
        return Map.of();
    }

    Map<String, Object> transact(String verb, Map<String, Object> asked) throws Exception {
        var id = text(asked, "id");
        switch (verb) {
            case "txn_open":
                producers.put(id, producer(Map.of("transactional.id", id)));
                producers.get(id).initTransactions();
                break;
            case "txn_begin":
                producers.get(id).beginTransaction();
                break;
            case "txn_send":
                send(producers.get(id), asked);
                break;
            case "txn_offsets":
                var member = members.get(text(asked, "member"));
                producers.get(id).sendOffsetsToTransaction(member.polled, member.consumer.groupMetadata());
                break;
            case "txn_commit":
                producers.get(id).commitTransaction();
                break;
            case "txn_abort":
                producers.get(id).abortTransaction();
                break;
            case "txn_close":
                producers.remove(id).close(Duration.ofSeconds(5));
                break;
            default:
                throw new Unsupported();
        }
        return Map.of();
    }

    Map<String, Object> run(String verb, Map<String, Object> asked) throws Exception {
        switch (verb) {
            case "about":
                return Map.of("client", "Java " + VERSION);
            case "produce":
                var settings = new HashMap<String, Object>(Map.of("compression.type", text(asked, "codec"), "acks", text(asked, "acks"),
                        "max.block.ms", "5000"));
                if (!text(asked, "acks").equals("all"))
                    settings.put("enable.idempotence", "false");
                try (var producer = producer(settings)) {
                    return Map.of("offsets", send(producer, asked));
                }
            case "offset_at":
                var partition = new TopicPartition(text(asked, "topic"), 0);
                try (var consumer = consumer(Map.of())) {
                    return Map.of("offset", consumer.offsetsForTimes(Map.of(partition, big(asked, "timestamp"))).get(partition).offset());
                }
            case "open":
                return open(asked);
            case "join":
                return join(asked);
            case "poll":
                return poll(asked);
            case "commit":
                var member = members.get(text(asked, "member"));
                member.consumer.commitSync(member.polled);
                return Map.of();
            case "leave":
                members.remove(text(asked, "member")).consumer.close();
                return Map.of();
            default:
                return verb.startsWith("txn_") ? transact(verb, asked) : administer(verb, asked);
        }
    }

    /** An error as an answer, with Kafka's code if it is one of Kafka's. */
    static Map<String, Object> refusal(Throwable error) {
        while (error instanceof ExecutionException && error.getCause() != null)
            error = error.getCause();
        var told = new HashMap<String, Object>();
        told.put("text", error.toString());
        var kind = error instanceof InvalidOffsetException ? Errors.OFFSET_OUT_OF_RANGE : Errors.forException(error);
        told.put("code", kind == Errors.UNKNOWN_SERVER_ERROR ? null : kind.code());
        return Map.of("error", told);
    }

    @SuppressWarnings("unchecked")
    public static void main(String[] args) throws Exception {
        var answers = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        var json = new ObjectMapper();
        var driver = new Driver();
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            Map<String, Object> asked = json.readValue(line, Map.class), told;
            try {
                told = driver.run((String) asked.get("do"), asked);
            } catch (Unsupported e) {
                told = Map.of("unsupported", true);
            } catch (Exception e) {
                told = refusal(e);
            }
            answers.println(json.writeValueAsString(told));
        }
        System.exit(0);
    }
}
