//! Regular expressions as RE2/J reads them, which Kafka uses for subscriptions, written so that `regex-syntax` reads
//! the same: what is a literal to RE2 and something else to it, what RE2 refuses, and what it alone knows.
//!
//! Names of topics are ASCII. So classes of Unicode are written down by what they have of that, and whatever else there
//! is in an expression is a byte that is in no name. Nothing of what comes out asks for tables of Unicode.

use std::iter::Peekable;
use std::str::Chars;

/// Most repetitions that are asked for, as in RE2.
const REPEAT_MAX: u32 = 1000;
/// Stands for all that is not ASCII.
const OTHER: u8 = 0xff;
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Classes of Unicode: their names, separated by blanks, and what they have of ASCII as the inside of a class.
const UNICODE: [(&str, &str); 17] = [
    ("Any", r"\x00-\xFF"),
    ("L Latin", "A-Za-z"),
    ("Lu", "A-Z"),
    ("Ll", "a-z"),
    ("N Nd", "0-9"),
    ("P", r##"!-#%-*,-/:;?@\[-\]_{}"##),
    ("Pc", "_"),
    ("Pd", r"\-"),
    ("Ps", r"(\[{"),
    ("Pe", r")\]}"),
    ("Po", r##"!"#%\&'*,./:;?@\\"##),
    ("S", r"$+<=>\^`|\~"),
    ("Sc", "$"),
    ("Sk", r"\^`"),
    ("Sm", r"+<=>|\~"),
    ("Z Zs", r"\x20"),
    ("C Cc", r"\x00-\x1F\x7F"),
];
const COMMON: &str = r"\x00-@\[-`{-\x7F";
/// Those that have nothing of ASCII.
const FOREIGN: &str = "Lt Lm Lo M Mc Me Mn Nl No Pi Pf So Zl Zp Cf Co Cs Arabic Armenian Bengali Bopomofo Cherokee \
    Coptic Cyrillic Devanagari Ethiopic Georgian Greek Gujarati Gurmukhi Han Hangul Hebrew Hiragana Inherited Kannada \
    Katakana Khmer Lao Malayalam Mongolian Myanmar Oriya Sinhala Syriac Tamil Telugu Thaana Thai Tibetan Yi";

/// The expression for `regex-syntax`; `None` if RE2/J refuses it. What is wrong with its groups is not looked at.
pub(super) fn translated(text: &str) -> Option<String> {
    let mut it = Translating {
        rest: text.chars().peekable(),
        out: String::with_capacity(text.len() + 16),
    };
    it.all()?;
    Some(it.out)
}

struct Translating<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
}

/// What an escape stands for.
enum Escaped {
    One(u8),
    /// A class, as it is written in one or outside.
    Class(String),
    /// A place, such as a boundary of a word.
    Place(char),
}

impl Translating<'_> {
    fn all(&mut self) -> Option<()> {
        let mut is_repeated = false;
        while let Some(c) = self.rest.next() {
            let repeats = match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '*' | '+' | '?' => {
                    self.out.push(c);
                    true
                }
                '{' => self.repetition()?,
                '.' | '^' | '$' | '|' | ')' => {
                    self.out.push(c);
                    false
                }
                c => {
                    self.literal(byte_of(c));
                    false
                }
            };
            if repeats && is_repeated {
                return None;
            }
            if repeats {
                // Lazy.
                let lazy = self.rest.next_if_eq(&'?');
                self.out.extend(lazy);
            }
            is_repeated = repeats;
        }
        Some(())
    }

    fn literal(&mut self, byte: u8) {
        match byte.is_ascii_alphanumeric() {
            true => self.out.push(char::from(byte)),
            false => self.out.push_str(&format!("\\x{byte:02X}")),
        }
    }

    fn escape(&mut self) -> Option<bool> {
        if self.rest.next_if_eq(&'Q').is_some() {
            while let Some(c) = self.rest.next() {
                if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                    break;
                }
                self.literal(byte_of(c));
            }
            return Some(false);
        }
        match self.escaped()? {
            Escaped::One(byte) => self.literal(byte),
            Escaped::Class(class) => self.out.push_str(&class),
            // Braces behind it are none of its own.
            Escaped::Place(c) => self.out.push_str(&format!("(?:\\{c})")),
        }
        Some(false)
    }

    /// What comes after a backslash.
    fn escaped(&mut self) -> Option<Escaped> {
        let c = self.rest.next()?;
        Some(match c {
            'p' | 'P' => Escaped::Class(self.unicode(c == 'P')?),
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => Escaped::Class(format!("\\{c}")),
            'A' | 'z' | 'b' | 'B' => Escaped::Place(c),
            'a' => Escaped::One(0x07),
            'f' => Escaped::One(0x0c),
            'n' => Escaped::One(b'\n'),
            'r' => Escaped::One(b'\r'),
            't' => Escaped::One(b'\t'),
            'v' => Escaped::One(0x0b),
            'x' => Escaped::One(self.hex()?),
            // One digit alone would be what a group has matched.
            '1'..='7' if !self.rest.peek().is_some_and(|c| c.is_digit(8)) => return None,
            '0'..='7' => {
                let mut number = c.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(|c| c.is_digit(8)) else {
                        break;
                    };
                    number = 8 * number + digit.to_digit(8)?;
                }
                Escaped::One(byte_of(char::from_u32(number)?))
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Escaped::One(byte_of(c)),
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u8> {
        let mut number = 0;
        if self.rest.next_if_eq(&'{').is_none() {
            for _ in 0..2 {
                number = 16 * number + self.rest.next()?.to_digit(16)?;
            }
            return Some(byte_of(char::from_u32(number)?));
        }
        let mut digits = 0;
        loop {
            match self.rest.next()? {
                '}' if digits > 0 => return Some(byte_of(char::from_u32(number)?)),
                c => number = 16 * number + c.to_digit(16)?,
            }
            digits += 1;
            if number > u32::from(char::MAX) {
                return None;
            }
        }
    }

    /// A class of Unicode.
    fn unicode(&mut self, mut is_negated: bool) -> Option<String> {
        let mut name = String::new();
        match self.rest.next()? {
            '{' => loop {
                match self.rest.next()? {
                    '}' => break,
                    '^' if name.is_empty() => is_negated = !is_negated,
                    c => name.push(c),
                }
            },
            c => name.push(c),
        }
        let known = |names: &str| names.split(' ').any(|it| it == name);
        let inside = match UNICODE.iter().find(|(names, _)| known(names)) {
            Some((_, inside)) => inside,
            None if name == "Common" => COMMON,
            None if known(FOREIGN) => r"\xFF",
            None => return None,
        };
        let not = if is_negated { "^" } else { "" };
        Some(format!("[{not}{inside}]"))
    }

    fn class(&mut self) -> Option<bool> {
        self.out.push('[');
        self.out.extend(self.rest.next_if_eq(&'^'));
        let mut is_first = true;
        loop {
            match self.rest.next()? {
                ']' if !is_first => break,
                '[' if self.rest.peek() == Some(&':') => self.posix()?,
                c => match self.member(c)? {
                    Escaped::Class(class) => self.out.push_str(&class),
                    Escaped::Place(_) => return None,
                    Escaped::One(from) => self.range(from)?,
                },
            }
            is_first = false;
        }
        self.out.push(']');
        Some(false)
    }

    fn member(&mut self, c: char) -> Option<Escaped> {
        match c {
            '\\' => self.escaped(),
            c => Some(Escaped::One(byte_of(c))),
        }
    }

    /// A byte of a class, or all from it on.
    fn range(&mut self, from: u8) -> Option<()> {
        self.literal(from);
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || ahead.peek().is_none_or(|c| *c == ']') {
            return Some(());
        }
        self.rest = ahead;
        let next = self.rest.next()?;
        let Escaped::One(to) = self.member(next)? else {
            return None;
        };
        self.out.push('-');
        self.literal(to);
        (from <= to).then_some(())
    }

    /// A class of POSIX within a class, of which the first bracket is read.
    fn posix(&mut self) -> Option<()> {
        self.rest.next();
        let mut name = String::new();
        loop {
            match self.rest.next()? {
                ':' => break,
                c => name.push(c),
            }
        }
        let is_known = POSIX.contains(&name.trim_start_matches('^'));
        self.out.push_str(&format!("[:{name}:]"));
        (is_known && self.rest.next() == Some(']')).then_some(())
    }

    /// The beginning of a group. RE2 knows fewer flags.
    fn group(&mut self) -> Option<bool> {
        self.out.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Some(false);
        }
        self.out.push('?');
        if matches!(self.rest.peek(), Some('P' | '<')) {
            // Up to the name.
            while let Some(c) = self.rest.next_if(|c| *c != '>' && *c != ')') {
                self.out.push(c);
            }
            let end = self.rest.next()?;
            self.out.push(end);
            return Some(false);
        }
        loop {
            let c = self.rest.next()?;
            self.out.push(c);
            match c {
                'i' | 'm' | 's' | 'U' | '-' => {}
                ':' | ')' => return Some(false),
                _ => return None,
            }
        }
    }

    /// A number of repetitions, or a brace that is none.
    fn repetition(&mut self) -> Option<bool> {
        let mut ahead = self.rest.clone();
        let mut inside = String::new();
        while let Some(c) = ahead.next_if(|c| c.is_ascii_digit() || *c == ',') {
            inside.push(c);
        }
        let is_end = ahead.next() == Some('}');
        let (from, to) = match inside.split_once(',') {
            Some((from, to)) => (from, Some(to)),
            None => (&*inside, None),
        };
        let is_none = |number: &str| number.len() > 1 && number.starts_with('0');
        let is_odd = |to: &str| to.contains(',') || is_none(to);
        if !is_end || from.is_empty() || is_none(from) || to.is_some_and(is_odd) {
            self.literal(b'{');
            return Some(false);
        }
        let number = |text: &str| text.parse().ok().filter(|it: &u32| *it <= REPEAT_MAX);
        let least = number(from)?;
        if let Some(to) = to.filter(|to| !to.is_empty())
            && number(to)? < least
        {
            return None;
        }
        self.rest = ahead;
        self.out.push_str(&format!("{{{inside}}}"));
        Some(true)
    }
}

fn byte_of(c: char) -> u8 {
    u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(OTHER)
}
