//! Records as JSON: what `consume --json` prints, and `produce --input json` takes.

use millrace::record::Record;
use serde_json::{Map, Value, json};

/// Name and value of a header.
pub type NewHeader = (String, Option<Vec<u8>>);

/// A record to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; a tombstone has none.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<NewHeader>,
    /// Milliseconds since 1970; now if absent.
    pub timestamp: Option<i64>,
    /// Where to; chosen by the key if absent.
    pub partition: Option<i32>,
}

/// The object of a record.
pub fn to_json(topic: &str, partition: i32, record: &Record) -> Value {
    let header = |header: &millrace::record::RecordHeader| json!({"key": String::from_utf8_lossy(&header.key), "value": bytes_json(header.value.as_deref())});
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": bytes_json(record.key.as_deref()),
        "value": bytes_json(record.value.as_deref()),
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
    })
}

/// Text as text, other bytes as `{"base64": "..."}`, nothing as null.
fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => Value::from(text),
        Some(Err(_)) => json!({"base64": base64(bytes.unwrap_or_default())}),
    }
}

/// The record that an object describes. `topic` and `offset`, which `consume` prints, are passed over.
pub fn from_json(line: &[u8]) -> Result<NewRecord, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(fields) = value else {
        return Err("no JSON object, as consume --json prints them".into());
    };
    let mut record = NewRecord::default();
    for (name, value) in fields {
        let named = |why: String| format!("\"{name}\": {why}");
        match name.as_str() {
            "key" => record.key = json_bytes(value).map_err(named)?,
            "value" => record.value = json_bytes(value).map_err(named)?,
            "headers" => record.headers = headers(value).map_err(named)?,
            "timestamp_ms" => record.timestamp = number(&value).map_err(named)?,
            "partition" => {
                let partition = number(&value).map_err(named)?;
                let partition = partition.map(i32::try_from).transpose();
                record.partition = partition.map_err(|error| named(error.to_string()))?;
            }
            "topic" | "offset" => {}
            _ => return Err(format!("\"{name}\" is no field of a record")),
        }
    }
    Ok(record)
}

fn number(value: &Value) -> Result<Option<i64>, String> {
    match value {
        Value::Null => Ok(None),
        value => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| format!("{value} is no whole number")),
    }
}

fn json_bytes(value: Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.into_bytes())),
        Value::Object(fields) => match only(&fields, "base64").and_then(unbase64) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err("an object has to be {\"base64\": \"...\"}".into()),
        },
        other => Err(format!(
            "{other} is neither text, null nor {{\"base64\": \"...\"}}"
        )),
    }
}

fn only<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let value = fields.get(name).filter(|_| fields.len() == 1)?;
    value.as_str()
}

fn headers(value: Value) -> Result<Vec<NewHeader>, String> {
    let form = "has to be [{\"key\": \"...\", \"value\": ...}]";
    let Value::Array(headers) = value else {
        return Err(form.into());
    };
    let header = |header: Value| {
        let Value::Object(mut fields) = header else {
            return Err(form.to_owned());
        };
        let Some(Value::String(key)) = fields.remove("key") else {
            return Err(form.to_owned());
        };
        Ok((key, json_bytes(fields.remove("value").unwrap_or_default())?))
    };
    headers.into_iter().map(header).collect()
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.chunks(4) {
        let mut bits = 0;
        for (i, digit) in chunk.iter().enumerate() {
            let value = DIGITS.iter().position(|known| known == digit)? as u32;
            bits |= value << (18 - 6 * i);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace::record::RecordHeader;

    use super::*;

    #[test]
    fn what_is_printed_can_be_sent() {
        let header = |key: &'static str, value: Option<&'static [u8]>| RecordHeader {
            key: Bytes::from_static(key.as_bytes()),
            value: value.map(Bytes::from_static),
        };
        let record = Record {
            offset: 5,
            timestamp: 1000,
            key: Some(Bytes::from_static(b"k\"\n")),
            value: Some(Bytes::from_static(b"\xff\0")),
            headers: vec![header("a", Some(b"1")), header("b", None)],
        };
        let text = to_json("t", 3, &record).to_string();
        assert_eq!(
            text,
            r#"{"topic":"t","partition":3,"offset":5,"timestamp_ms":1000,"key":"k\"\n","value":{"base64":"/wA="},"#
                .to_owned()
                + r#""headers":[{"key":"a","value":"1"},{"key":"b","value":null}]}"#
        );
        let sent = from_json(text.as_bytes()).unwrap();
        assert_eq!(sent.key.as_deref(), record.key.as_deref());
        assert_eq!(sent.value.as_deref(), record.value.as_deref());
        assert_eq!((sent.timestamp, sent.partition), (Some(1000), Some(3)));
        assert_eq!(
            sent.headers,
            [("a".into(), Some(b"1".to_vec())), ("b".into(), None)]
        );
    }

    #[test]
    fn what_is_absent_is_null() {
        assert_eq!(from_json(b"{}"), Ok(NewRecord::default()));
        assert_eq!(from_json(br#"{"value":null}"#), Ok(NewRecord::default()));
    }

    #[test]
    fn nonsense_is_named() {
        for (line, why) in [
            ("x", "no JSON"),
            ("[]", "no JSON object"),
            (r#"{"valeu":1}"#, "\"valeu\" is no field"),
            (r#"{"value":1}"#, "neither text"),
            (r#"{"value":{"base64":"%"}}"#, "has to be"),
            (r#"{"value":{"hex":"00"}}"#, "has to be"),
            (r#"{"headers":[1]}"#, "has to be"),
            (r#"{"partition":99999999999}"#, "out of range"),
            (r#"{"timestamp_ms":"now"}"#, "no whole number"),
        ] {
            let error = from_json(line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn base64_is_as_elsewhere() {
        // The vectors of RFC 4648.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(unbase64(text).as_deref(), Some(bytes.as_bytes()));
        }
        for wrong in ["Z", "Zg", "Z===", "Zm9v!bar"] {
            assert_eq!(unbase64(wrong), None, "{wrong}");
        }
    }
}
