//! Regular expressions for names and records: of bytes, as records may hold any.

use std::str::FromStr;

use regex_automata::meta::{BuildError, Regex};
use regex_automata::util::syntax;

/// See the module. It matches where it is found; `^` and `$` pin it down.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it is found in these bytes.
    pub fn finds(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = syntax::Config::new().unicode(false).utf8(false);
        let config = Regex::config().utf8_empty(false);
        let built = Regex::builder().configure(config).syntax(bytes).build(text);
        built.map(Self).map_err(|error: BuildError| {
            let why = error.syntax_error().map(ToString::to_string);
            format!(
                "'{text}' is no regular expression: {}",
                why.unwrap_or_else(|| error.to_string())
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_searched() {
        let pattern: Pattern = "^a\\d+[b-d]?$".parse().unwrap();
        assert!(pattern.finds(b"a12c"));
        assert!(!pattern.finds(b"xa12c"));
        assert!("x\\xff".parse::<Pattern>().unwrap().finds(b"\x00x\xff"));
        assert!("(".parse::<Pattern>().is_err());
    }
}
