//! A line of the log, for people or for programs. Names that clients chose come in it, so whatever could end the line,
//! or tell a terminal to do something, is written out; and it has a bound.

use std::fmt::{self, Write};

use tracing::Level;
use tracing::field::{Field, Visit};

use crate::base::limits::LOG_LINE_BYTES_MAX;
use crate::config::LogFormat;

/// What a line says, before it is written.
#[derive(Debug, Default)]
pub struct Said {
    message: Bounded,
    /// In their order: name, value, and whether it is a number or a truth.
    fields: Vec<(&'static str, Bounded, bool)>,
}

/// A text that grows no longer than it may.
#[derive(Debug, Default)]
struct Bounded {
    text: String,
    left_out: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = match self.left_out {
            0 => LOG_LINE_BYTES_MAX.saturating_sub(self.text.len()),
            _ => 0,
        };
        let mut taken = more.len().min(room);
        while !more.is_char_boundary(taken) {
            taken -= 1;
        }
        self.text.push_str(&more[..taken]);
        self.left_out += more.len() - taken;
        Ok(())
    }
}

impl Bounded {
    fn of(value: impl fmt::Display) -> Self {
        let mut text = Self::default();
        // It takes everything.
        let _ = write!(text, "{value}");
        text
    }

    fn escape_into(&self, format: LogFormat, out: &mut String) {
        escape(&self.text, format, out);
        if self.left_out > 0 {
            let _ = write!(out, "... ({} bytes more)", self.left_out);
        }
    }
}

impl Said {
    /// What a message alone says.
    #[must_use]
    pub fn message(message: &str) -> Self {
        Self {
            message: Bounded::of(message),
            fields: Vec::new(),
        }
    }

    fn field(&mut self, field: &Field, value: impl fmt::Display, is_plain: bool) {
        let name = field.name();
        if name == "message" {
            self.message = Bounded::of(value);
        } else if !name.starts_with("log.") {
            // Those that begin so are where a line of the crate `log` comes from.
            self.fields.push((name, Bounded::of(value), is_plain));
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, format_args!("{value:?}"), false);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, value, false);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, value, true);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, value, true);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, value, true);
    }
}

/// Writes a line, with its end. `at` is a time as text, which needs no care; `is_coloured` is for terminals.
pub fn write(
    (format, is_coloured): (LogFormat, bool),
    at: &str,
    (level, target): (Level, &str),
    said: &Said,
    out: &mut String,
) {
    let name = level.as_str();
    match format {
        LogFormat::Text => {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                _ => 34,
            };
            // Writing to a String cannot fail.
            let _ = if is_coloured {
                write!(out, "\x1b[2m{at}\x1b[0m \x1b[{colour}m{name:>5}\x1b[0m ")
            } else {
                write!(out, "{at} {name:>5} ")
            };
            said.message.escape_into(format, out);
            for (name, value, _) in &said.fields {
                let _ = write!(out, " {name}=");
                value.escape_into(format, out);
            }
        }
        LogFormat::Json => {
            let _ = write!(
                out,
                "{{\"time\":\"{at}\",\"level\":\"{name}\",\"target\":\""
            );
            escape(target, format, out);
            out.push_str("\",\"message\":\"");
            said.message.escape_into(format, out);
            out.push('"');
            for (name, value, is_plain) in &said.fields {
                let quote = if *is_plain { "" } else { "\"" };
                let _ = write!(out, ",\"{name}\":{quote}");
                value.escape_into(format, out);
                out.push_str(quote);
            }
            out.push('}');
        }
    }
    out.push('\n');
}

/// Whether a character does something to a line or to who reads it, rather than being there: controls, those that end
/// lines elsewhere, and those that turn the direction of what is around them.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, format: LogFormat, out: &mut String) {
    for c in text.chars() {
        match (c, format) {
            ('\n', _) => out.push_str("\\n"),
            ('\r', _) => out.push_str("\\r"),
            ('\t', _) => out.push_str("\\t"),
            ('"', LogFormat::Json) => out.push_str("\\\""),
            ('\\', LogFormat::Json) => out.push_str("\\\\"),
            // Every active one is in the plane that four digits are enough for.
            _ if is_active(c) => drop(write!(out, "\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, said: &Said) -> String {
        let mut out = String::new();
        write((format, false), "T", (Level::WARN, "a::b"), said, &mut out);
        out
    }

    #[test]
    fn a_line_for_people_and_one_for_programs() {
        let mut said = Said::message("it is \"so\" \\ é");
        said.fields.push(("n", Bounded::of(7), true));
        said.fields.push(("who", Bounded::of("a b"), false));
        assert_eq!(
            line(LogFormat::Text, &said),
            "T  WARN it is \"so\" \\ é n=7 who=a b\n"
        );
        assert_eq!(
            line(LogFormat::Json, &said),
            "{\"time\":\"T\",\"level\":\"WARN\",\"target\":\"a::b\",\"message\":\"it is \\\"so\\\" \\\\ é\",\"n\":7,\
             \"who\":\"a b\"}\n"
        );
    }

    #[test]
    fn nothing_in_a_line_ends_it_or_speaks_to_a_terminal() {
        let mut said = Said::message("a\nb\r\n\tc\x1b[31m\0\u{7f}\u{9b}2J\u{2028}\u{202e}");
        said.fields
            .push(("who", Bounded::of("x\",\"level\":\"ERROR\n"), false));
        let text = line(LogFormat::Text, &said);
        assert_eq!(
            text,
            "T  WARN a\\nb\\r\\n\\tc\\u001b[31m\\u0000\\u007f\\u009b2J\\u2028\\u202e who=x\",\"level\":\"ERROR\\n\n"
        );
        let json = line(LogFormat::Json, &said);
        assert!(
            json.ends_with("\",\"who\":\"x\\\",\\\"level\\\":\\\"ERROR\\n\"}\n"),
            "{json}"
        );
        for line in [text, json] {
            let active: Vec<char> = line.trim_end().chars().filter(|c| is_active(*c)).collect();
            assert_eq!(active, []);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        let long = "é".repeat(LOG_LINE_BYTES_MAX);
        let said = Said::message(&format!("x{long}"));
        let text = line(LogFormat::Text, &said);
        let left_out = LOG_LINE_BYTES_MAX + 2;
        assert!(
            text.ends_with(&format!("é... ({left_out} bytes more)\n")),
            "{}",
            said.message.left_out
        );
        assert!(text.len() < LOG_LINE_BYTES_MAX + 100);
        let mut bounded = Bounded::of(&long);
        bounded.write_str("x").unwrap();
        assert!(
            !bounded.text.ends_with('x'),
            "nothing behind what is left out"
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_said_is_one_line(message: String, value: String) {
            let mut said = Said::message(&message);
            said.fields.push(("value", Bounded::of(&value), false));
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = line(format, &said);
                let line = line.strip_suffix('\n').unwrap();
                proptest::prop_assert!(!line.chars().any(is_active));
            }
        }
    }
}
