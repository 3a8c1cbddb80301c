//! What a group sees of the topics, and which of them a regular expression means.

use regex::bytes::{Regex, RegexBuilder};

use crate::base::limits::{GROUP_REGEX_BYTES_MAX, GROUP_REGEX_COMPILED_BYTES_MAX};
use crate::base::{Name, TopicId};

/// The topics of a cluster.
pub trait GroupTopics {
    /// Becomes another one whenever topics change.
    fn version(&self) -> u64;

    /// The id of a topic, and how many partitions it has.
    fn named(&self, name: &str) -> Option<(TopicId, i32)>;

    /// The first topic behind this name.
    fn after(&self, name: Option<&str>) -> Option<Name>;
}

/// No topics at all.
#[derive(Clone, Copy, Debug)]
pub struct NoTopics;

impl GroupTopics for NoTopics {
    fn version(&self) -> u64 {
        0
    }

    fn named(&self, _: &str) -> Option<(TopicId, i32)> {
        None
    }

    fn after(&self, _: Option<&str>) -> Option<Name> {
        None
    }
}

/// A regular expression, as it is matched with whole names of topics: in time that grows with the name alone, whatever
/// the expression. Deviation from Kafka, whose RE2/J knows classes of Unicode: names of topics have none of it.
#[derive(Debug)]
pub struct TopicRegex(Regex);

impl TopicRegex {
    /// Reads one; `None` if it is none, or too large.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        if text.len() > GROUP_REGEX_BYTES_MAX {
            return None;
        }
        let compile = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            builder
                .unicode(false)
                .size_limit(GROUP_REGEX_COMPILED_BYTES_MAX);
            builder
                .dfa_size_limit(GROUP_REGEX_COMPILED_BYTES_MAX)
                .build()
                .ok()
        };
        // By itself first: parentheses must not close the one that is put around it.
        compile(text)?;
        compile(&format!("^(?:{text})$")).map(Self)
    }

    /// Whether it matches a whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        let matches = |regex: &str, name: &str| TopicRegex::new(regex).unwrap().matches(name);
        assert!(matches("a.*", "abc") && !matches("a.*", "xabc"));
        assert!(matches("a|b", "b") && !matches("a|b", "ab"));
        assert!(matches("^a$", "a") && matches("(?i)A-\\d+", "a-12"));
        assert!(!matches("a", "a\n"));
        for wrong in ["a)(b", "(", "*", "(?<!a)b", "\\1", &"a".repeat(100_000)] {
            assert!(TopicRegex::new(wrong).is_none(), "{wrong}");
        }
        assert!(
            TopicRegex::new("(((a{99}){99}){99}){99}").is_none(),
            "it is too large"
        );
    }
}
