//! What a client is told when something that it asked for is not done.

use std::borrow::Cow;
use std::fmt;

use super::error::ErrorCode;

/// Why something is not done: the one kind of refusal from the check of a batch up to the answer. Whoever makes one
/// chooses the code that clients act on, as Kafka does; nobody in between decides by its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the client's code acts on.
    pub code: ErrorCode,
    /// For the person in front of it; `None` if the code says all there is to say.
    pub message: Option<Cow<'static, str>>,
}

impl Refused {
    /// With a message of its own.
    #[must_use]
    pub fn because(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }

    /// What to tell people in any case: the message of the code if it has none of its own.
    #[must_use]
    pub fn text(&self) -> &str {
        self.message.as_deref().unwrap_or(self.code.message())
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_speaks_for_itself_unless_there_is_more_to_say() {
        let bare = Refused::from(ErrorCode::KafkaStorageError);
        assert_eq!(bare.message, None, "a response has no message then");
        assert_eq!(bare.text(), ErrorCode::KafkaStorageError.message());
        let told = Refused::because(ErrorCode::InvalidRecord, "The batch is upside down.");
        assert_eq!(told.text(), "The batch is upside down.");
        assert_eq!(
            told.to_string(),
            "INVALID_RECORD: The batch is upside down."
        );
    }
}
