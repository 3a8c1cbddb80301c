// Commits without waiting and asks at once for what is committed, which a consumer sends right behind the commit on the
// same connection. Prints how many of the answers did not show the commit before them.

import java.util.Map;
import java.util.Set;

import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class CommitBehind {
    public static void main(String[] args) {
        TopicPartition place = new TopicPartition(args[1], 0);
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "group.id", args[2], "enable.auto.commit", "false");
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(Set.of(place));
            consumer.commitSync(Map.of(place, new OffsetAndMetadata(1)));
            int stale = 0;
            for (long offset = 2; offset < 62; offset++) {
                consumer.commitAsync(Map.of(place, new OffsetAndMetadata(offset)), null);
                stale += consumer.committed(Set.of(place)).get(place).offset() == offset ? 0 : 1;
            }
            System.out.println("{\"stale\": " + stale + "}");
        }
    }
}
