//! What is known of a setting besides its value, and the macro that turns one
//! declaration into a typed field and its row in the table of settings.

use super::value::{Kind, Value};

/// What the number of a setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing, or things whose name is in the documentation.
    None,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Ms,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

impl Unit {
    /// For people; empty if there is none.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Bytes => "bytes",
            Self::Ms => "ms",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
        }
    }
}

/// One row of the table of settings.
#[derive(Debug)]
pub struct Setting {
    /// Kafka's name, or ours under `millrace.`.
    pub key: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// Least and greatest value of a number, both allowed.
    pub range: (i64, i64),
    /// The allowed texts, if it is a choice.
    pub choices: &'static [&'static str],
    /// The settings whose value it takes where it is not set itself, the one that wins first.
    pub synonyms: &'static [&'static str],
    /// Lines of the documentation, each with a leading space.
    pub doc_lines: &'static [&'static str],
}

impl Setting {
    /// The documentation as one paragraph.
    #[must_use]
    pub fn doc(&self) -> String {
        let lines: Vec<_> = self.doc_lines.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }

    /// What values are allowed, for people; `None` if the type says it all.
    #[must_use]
    pub fn valid_values(&self) -> Option<String> {
        match self.range {
            _ if !self.choices.is_empty() => Some(self.choices.join(", ")),
            ANY => None,
            (min, i64::MAX) => Some(format!("at least {min}")),
            (min, max) => Some(format!("{min} to {max}")),
        }
    }
}

/// Why a setting did not take a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// There is no setting of this name here.
    Unknown,
    /// The text is no allowed value; what was expected.
    Invalid(String),
}

/// Every number is allowed.
pub(super) const ANY: (i64, i64) = (i64::MIN, i64::MAX);

/// All numbers from `min` on are allowed.
pub(super) const fn from(min: i64) -> (i64, i64) {
    (min, i64::MAX)
}

/// Reads `text` as the value of `setting`, with the check of its range.
pub(super) fn parse<T: Value>(setting: &Setting, text: &str) -> Result<T, SetError> {
    let value = T::parse(text.trim()).map_err(SetError::Invalid)?;
    let (min, max) = setting.range;
    match value.number() {
        Some(n) if n < min || n > max => Err(SetError::Invalid(
            setting.valid_values().unwrap_or_default(),
        )),
        _ => Ok(value),
    }
}

/// Declares a struct of settings: fields with name, type, default, range and unit, and from them
/// `Default`, the table `SETTINGS`, `set` and `show`.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:expr, $key:literal, $unit:ident, $range:expr
                    $(, from $synonyms:expr)?;
            )*
        }
        $(extra {
            $($(#[$extra_meta:meta])* $extra:ident: $extra_type:ty = $extra_default:expr;)*
        })?
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
            $($($(#[$extra_meta])* pub $extra: $extra_type,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $default,)*
                    $($($extra: $extra_default,)*)?
                }
            }
        }

        impl $name {
            /// Every setting, in the order of the settings page.
            pub const SETTINGS: &'static [$crate::config::setting::Setting] = &[$(
                $crate::config::setting::Setting {
                    key: $key,
                    kind: <$type as $crate::config::value::Value>::KIND,
                    unit: $crate::config::setting::Unit::$unit,
                    range: $range,
                    choices: <$type as $crate::config::value::Value>::CHOICES,
                    synonyms: {
                        #[allow(unused_mut, unused_assignments)]
                        let mut synonyms: &'static [&'static str] = &[];
                        $(synonyms = &$synonyms;)?
                        synonyms
                    },
                    doc_lines: &[$($doc),+],
                },
            )*];

            /// The row of a setting.
            #[must_use]
            pub fn setting(key: &str) -> Option<&'static $crate::config::setting::Setting> {
                Self::SETTINGS.iter().find(|setting| setting.key == key)
            }

            /// Sets one setting from its text.
            ///
            /// # Errors
            /// The key is unknown or the text is no allowed value; nothing changed.
            pub fn set(&mut self, key: &str, text: &str) -> Result<(), $crate::config::setting::SetError> {
                let setting = Self::setting(key).ok_or($crate::config::setting::SetError::Unknown)?;
                match key {
                    $($key => self.$field = $crate::config::setting::parse(setting, text)?,)*
                    _ => return Err($crate::config::setting::SetError::Unknown),
                }
                Ok(())
            }

            /// Takes one setting over from another configuration, whether it is set there or not. An unknown one is
            /// none.
            pub fn take_over(&mut self, key: &str, from: &Self) {
                match key {
                    $($key => self.$field.clone_from(&from.$field),)*
                    _ => {}
                }
            }

            /// The text of a setting; `None` if it is unknown or not set.
            #[must_use]
            pub fn show(&self, key: &str) -> Option<String> {
                match key {
                    $($key => $crate::config::value::Value::show(&self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

pub(super) use settings;
