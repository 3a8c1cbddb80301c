//! The types a setting can have: how each is written in a file, checked and
//! shown. Kafka's rules: plain numbers, no unit suffixes; a text is trimmed.

use crate::record::TimestampType;

/// The type of a setting, numbered as in DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`.
    Boolean = 1,
    /// A text.
    String = 2,
    /// A number of 32 bits.
    Int = 3,
    /// A number of 16 bits.
    Short = 4,
    /// A number of 64 bits.
    Long = 5,
    /// A number with a fraction.
    Double = 6,
    /// Texts, separated by commas.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// A secret.
    Password = 9,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Boolean,
        Self::String,
        Self::Int,
        Self::Short,
        Self::Long,
        Self::Double,
        Self::List,
        Self::Class,
        Self::Password,
    ];

    /// Kafka's name of the type, as in its documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        }
    }
}

/// A type of settings.
pub trait Value: Sized {
    /// What DescribeConfigs calls it.
    const KIND: Kind;
    /// The only texts allowed, if the type is a choice.
    const CHOICES: &'static [&'static str] = &[];

    /// Reads a trimmed text.
    ///
    /// # Errors
    /// What was expected instead, to follow "expected".
    fn parse(text: &str) -> Result<Self, String>;

    /// The text that [`Value::parse`] reads back; `None` for a setting that is not set.
    fn show(&self) -> Option<String>;

    /// The value as a number, for the check of the range.
    fn number(&self) -> Option<i64> {
        None
    }
}

macro_rules! number {
    ($type:ty, $kind:ident, $expected:literal) => {
        impl Value for $type {
            const KIND: Kind = Kind::$kind;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| $expected.to_owned())
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn number(&self) -> Option<i64> {
                Some(i64::from(*self))
            }
        }
    };
}

number!(i16, Short, "a whole number of 16 bits");
number!(i32, Int, "a whole number of 32 bits");
number!(i64, Long, "a whole number of 64 bits");

impl Value for bool {
    const KIND: Kind = Kind::Boolean;

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            _ if text.eq_ignore_ascii_case("true") => Ok(true),
            _ if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for String {
    const KIND: Kind = Kind::String;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.clone())
    }
}

/// A setting that may be absent; it cannot be set to "absent" in a file, only left out.
impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;
    const CHOICES: &'static [&'static str] = T::CHOICES;

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }

    fn number(&self) -> Option<i64> {
        self.as_ref().and_then(T::number)
    }
}

macro_rules! choice {
    ($name:ident, $kind:ident { $($variant:ident = $text:literal,)+ }) => {
        impl Value for $name {
            const KIND: Kind = Kind::$kind;
            const CHOICES: &'static [&'static str] = &[$($text),+];

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("one of: {}", Self::CHOICES.join(", "))),
                }
            }

            fn show(&self) -> Option<String> {
                Some(match self { $(Self::$variant => $text,)+ }.to_owned())
            }
        }
    };
}

choice!(TimestampType, String {
    CreateTime = "CreateTime",
    LogAppendTime = "LogAppendTime",
});

/// The codec that Kafka would store batches in. Here they are stored as they came, whatever it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// No compression.
    Uncompressed,
    /// Zstandard.
    Zstd,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
    /// Gzip.
    Gzip,
    /// What the producer chose.
    Producer,
}

choice!(CompressionType, String {
    Uncompressed = "uncompressed",
    Zstd = "zstd",
    Lz4 = "lz4",
    Snappy = "snappy",
    Gzip = "gzip",
    Producer = "producer",
});

/// What happens to old segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// They are deleted by age and size.
    Delete,
    /// The newest record of each key is kept.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl CleanupPolicy {
    /// Whether segments are deleted by age and size.
    #[must_use]
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }

    /// Whether of each key the newest record alone is kept.
    #[must_use]
    pub const fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }
}

impl Value for CleanupPolicy {
    const KIND: Kind = Kind::List;
    const CHOICES: &'static [&'static str] = &["delete", "compact", "compact,delete"];

    fn parse(text: &str) -> Result<Self, String> {
        let (mut deletes, mut compacts) = (false, false);
        for policy in text.split(',').map(str::trim) {
            let known = match policy {
                "delete" => &mut deletes,
                "compact" => &mut compacts,
                _ => return Err("delete, compact, or both".to_owned()),
            };
            *known = true;
        }
        Ok(match (deletes, compacts) {
            (true, true) => Self::CompactAndDelete,
            (_, compacts) if compacts => Self::Compact,
            _ => Self::Delete,
        })
    }

    fn show(&self) -> Option<String> {
        let text = match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact,delete",
        };
        Some(text.to_owned())
    }
}

/// The assignors of consumer groups, the default one first: `uniform`, `range`, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignors(Vec<&'static str>);

/// Those that there are.
const ASSIGNORS: [&str; 2] = ["uniform", "range"];

impl Assignors {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self(ASSIGNORS.to_vec())
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }
}

impl Value for Assignors {
    const KIND: Kind = Kind::List;

    fn parse(text: &str) -> Result<Self, String> {
        let mut assignors = Vec::new();
        for name in text.split(',').map(str::trim) {
            let known = ASSIGNORS.into_iter().find(|known| *known == name);
            let known = known.filter(|known| !assignors.contains(known));
            assignors.push(known.ok_or("uniform, range, or both")?);
        }
        Ok(Self(assignors))
    }

    fn show(&self) -> Option<String> {
        Some(self.0.join(","))
    }
}

/// A share of something, from 0 to 1, in steps of a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// So many millionths of it.
    pub millionths: u64,
}

impl Value for Share {
    const KIND: Kind = Kind::Double;

    fn parse(text: &str) -> Result<Self, String> {
        let share = text.parse::<f64>().ok();
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        let share = share.ok_or("a number from 0 to 1")?;
        Ok(Self {
            millionths: (share * 1_000_000.0).round() as u64,
        })
    }

    fn show(&self) -> Option<String> {
        Some(format!("{:?}", self.millionths as f64 / 1_000_000.0))
    }
}

/// Which ranges of the disk are read by way of the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageCacheReads {
    /// Those that several connections read, one soon after the other.
    Auto,
    /// None.
    Never,
    /// All.
    Always,
}

choice!(PageCacheReads, String {
    Auto = "auto",
    Never = "never",
    Always = "always",
});

/// How lines of the broker's log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line, for programs.
    Json,
}

choice!(LogFormat, String {
    Text = "text",
    Json = "json",
});

/// How much the broker logs: this and what is more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens.
    Info,
    /// What may help to find out why.
    Debug,
    /// All of it.
    Trace,
}

choice!(LogLevel, String {
    Error = "error",
    Warn = "warn",
    Info = "info",
    Debug = "debug",
    Trace = "trace",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain() {
        assert_eq!(i32::parse("-1"), Ok(-1));
        assert!(i32::parse("2147483648").is_err());
        assert!(i64::parse("1k").is_err());
        assert!(i64::parse("").is_err());
    }

    #[test]
    fn booleans_ignore_case_as_kafka_does() {
        assert_eq!(bool::parse("TRUE"), Ok(true));
        assert!(bool::parse("1").is_err());
    }

    #[test]
    fn shares_and_lists_of_policies() {
        assert_eq!(Share::parse("0.5").unwrap().millionths, 500_000);
        assert_eq!(Share::parse("1").unwrap().show().unwrap(), "1.0");
        assert_eq!(Share::parse("0.01").unwrap().show().unwrap(), "0.01");
        for bad in ["", "x", "-0.1", "1.1", "NaN"] {
            assert!(Share::parse(bad).is_err(), "{bad}");
        }
        for (text, policy) in [
            ("compact, delete", Ok(CleanupPolicy::CompactAndDelete)),
            ("delete,compact", Ok(CleanupPolicy::CompactAndDelete)),
            ("compact", Ok(CleanupPolicy::Compact)),
            ("delete", Ok(CleanupPolicy::Delete)),
            ("", Err(())),
            ("delete,drop", Err(())),
        ] {
            assert_eq!(CleanupPolicy::parse(text).map_err(drop), policy, "{text}");
        }
    }

    #[test]
    fn choices_are_named_in_the_error() {
        assert_eq!(
            TimestampType::parse("LogAppendTime"),
            Ok(TimestampType::LogAppendTime)
        );
        assert_eq!(
            TimestampType::parse("append"),
            Err("one of: CreateTime, LogAppendTime".to_owned())
        );
    }
}
