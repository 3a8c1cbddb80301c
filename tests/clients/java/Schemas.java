// Prints what the messages of the Kafka protocol look like, as the Java client that make setup pinned has it: a line of
// JSON with the names of the errors, and one per API with its key, its name, its stable versions, and the fields of its
// request and response in each of them.

import java.util.Map;
import java.util.StringJoiner;

import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.CompactArrayOf;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;

public class Schemas {

    public static void main(String[] args) {
        StringJoiner errors = new StringJoiner(",", "{", "}");
        for (Errors error : Errors.values()) errors.add("\"" + error.code() + "\":\"" + error.name() + "\"");
        System.out.println(errors);
        for (ApiMessageType api : ApiMessageType.values()) {
            if (api.lowestSupportedVersion() > api.highestSupportedVersion(false)) continue;
            System.out.printf("{\"key\":%d,\"name\":\"%s\",\"min\":%d,\"max\":%d,\"request\":%s,\"response\":%s,\"headers\":%s}%n", api.apiKey(),
                api.name, api.lowestSupportedVersion(), api.highestSupportedVersion(false), versions(api, api.requestSchemas()),
                versions(api, api.responseSchemas()), headers(api));
        }
    }

    /** By version: that of the request's header, and of the response's. */
    private static String headers(ApiMessageType api) {
        StringJoiner all = new StringJoiner(",", "{", "}");
        for (short version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(false); version++)
            all.add("\"" + version + "\":[" + api.requestHeaderVersion(version) + "," + api.responseHeaderVersion(version) + "]");
        return all.toString();
    }

    private static String versions(ApiMessageType api, Schema[] schemas) {
        StringJoiner all = new StringJoiner(",", "{", "}");
        for (short version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(false); version++)
            all.add("\"" + version + "\":" + fields(schemas[version]));
        return all.toString();
    }

    private static String fields(Schema schema) {
        StringJoiner all = new StringJoiner(",", "[", "]");
        for (BoundField bound : schema.fields()) all.add(field(bound.def));
        return all.toString();
    }

    private static String field(Field field) {
        if (field.type instanceof TaggedFields tagged) {
            StringJoiner all = new StringJoiner(",", "{", "}");
            for (Map.Entry<Integer, Field> one : tagged.fields().entrySet()) all.add("\"" + one.getKey() + "\":" + field(one.getValue()));
            return "[null," + all + "]";
        }
        return "[\"" + field.name + "\"," + type(field.type) + "]";
    }

    /** A name, or a kind, whether it may be null, and what is in it. */
    private static String type(Type type) {
        if (type.isArray()) {
            String kind = type instanceof CompactArrayOf ? "compact_array" : "array";
            return "[\"" + kind + "\"," + type.isNullable() + "," + type(type.arrayElementType().get()) + "]";
        }
        if (type instanceof Schema schema) return "[\"struct\"," + type.isNullable() + "," + fields(schema) + "]";
        return "\"" + type.toString().toLowerCase() + "\"";
    }
}
