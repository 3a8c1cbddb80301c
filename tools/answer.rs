//! What a command says: one value, which people get as text and programs as JSON. The names of
//! fields are written once, and are the heads of the columns too.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::failure::{Failure, Outcome, Status};
use crate::table::Table;
use crate::time;

/// One value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Not known, or not there.
    Null,
    /// Yes or no.
    Flag(bool),
    /// A number.
    Int(i64),
    /// A name, or words.
    Text(String),
    /// A number of bytes: people get it with a unit.
    Bytes(u64),
    /// Milliseconds: people get minutes and hours.
    Span(i64),
    /// Milliseconds since 1970: people get a time in UTC.
    Time(i64),
    /// Several.
    List(Vec<Cell>),
    /// Several by name.
    Map(Vec<(String, Cell)>),
    /// Something that somebody should look at: red on a terminal.
    Alarm(Box<Cell>),
}

impl Cell {
    /// This one, as something to look at if `wrong`.
    pub fn alarm(self, wrong: bool) -> Self {
        if wrong {
            Self::Alarm(Box::new(self))
        } else {
            self
        }
    }

    /// Node ids and partitions are not negative, where there are any.
    pub fn id(id: i32) -> Self {
        if id < 0 { Self::Null } else { id.into() }
    }

    /// Whether somebody should look at it.
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::Alarm(_))
    }

    fn json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Flag(flag) => Value::from(*flag),
            Self::Int(number) | Self::Span(number) | Self::Time(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_str()),
            Self::Bytes(bytes) => Value::from(*bytes),
            Self::List(cells) => cells.iter().map(Self::json).collect(),
            Self::Map(cells) => {
                let fields = cells.iter().map(|(name, cell)| (name.clone(), cell.json()));
                Value::Object(fields.collect())
            }
            Self::Alarm(cell) => cell.json(),
        }
    }
}

/// As people read it; nothing that a client chose reaches the terminal as a control character.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_char('-'),
            Self::Flag(flag) => f.write_str(if *flag { "yes" } else { "no" }),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) if text.is_empty() => f.write_char('-'),
            Self::Text(text) => text.chars().try_for_each(|c| match c {
                '\n' => f.write_char(' '),
                c if c.is_control() => write!(f, "{}", c.escape_default()),
                c => f.write_char(c),
            }),
            Self::Bytes(bytes) => f.write_str(&with_unit(*bytes)),
            Self::Span(ms) => f.write_str(&time::span(*ms)),
            Self::Time(ms) => f.write_str(&time::utc(*ms)),
            Self::List(cells) if cells.is_empty() => f.write_char('-'),
            Self::List(cells) => joined(f, cells.iter(), ",", |f, cell| write!(f, "{cell}")),
            Self::Map(cells) if cells.is_empty() => f.write_char('-'),
            Self::Map(cells) => joined(f, cells.iter(), " ", |f, (name, cell)| {
                write!(f, "{name}:{cell}")
            }),
            Self::Alarm(cell) => cell.fmt(f),
        }
    }
}

fn joined<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = T>,
    separator: &str,
    mut write: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (number, item) in items.enumerate() {
        if number > 0 {
            f.write_str(separator)?;
        }
        write(f, item)?;
    }
    Ok(())
}

/// Bytes in the largest unit of which there is one whole.
fn with_unit(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (bytes.max(1).ilog2() / 10) as usize;
    match power.checked_sub(1) {
        None => format!("{bytes} B"),
        Some(unit) => {
            let tenths = (u128::from(bytes) * 10) >> (10 * power);
            format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
        }
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
impl From<i16> for Cell {
    fn from(number: i16) -> Self {
        Self::Int(i64::from(number))
    }
}
impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Self::Int(i64::from(number))
    }
}
impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}
impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}
impl From<&kafka_wire_core::StrBytes> for Cell {
    fn from(text: &kafka_wire_core::StrBytes) -> Self {
        Self::from(text.as_str())
    }
}
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Self::Null, Into::into)
    }
}
impl<T: Into<Cell>> FromIterator<T> for Cell {
    fn from_iter<I: IntoIterator<Item = T>>(cells: I) -> Self {
        Self::List(cells.into_iter().map(Into::into).collect())
    }
}

/// Rows of the same fields: a table for people, a list of objects for programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    names: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    /// None yet, with fields of these names.
    pub fn of(names: &'static [&'static str]) -> Self {
        Self {
            names,
            rows: Vec::new(),
        }
    }

    /// One more, with a cell for each name.
    pub fn add(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let row: Vec<Cell> = cells.into_iter().collect();
        assert_eq!(
            row.len(),
            self.names.len(),
            "a cell for each of {:?}",
            self.names
        );
        self.rows.push(row);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let fields = self.names.iter().zip(row);
            Value::Object(
                fields
                    .map(|(name, cell)| ((*name).to_owned(), cell.json()))
                    .collect(),
            )
        };
        self.rows.iter().map(object).collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::new(self.names.iter().map(|name| head(name).to_uppercase()));
        for row in &self.rows {
            table.row(row.iter().map(|cell| (cell.to_string(), cell.is_alarm())));
        }
        table
    }
}

/// What people call a field: without its unit, which they see in the value.
fn head(name: &str) -> String {
    name.strip_suffix("_ms").unwrap_or(name).replace('_', "-")
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Field(&'static str, Cell),
    Rows(&'static str, Rows),
    Each(&'static str, Vec<Answer>),
    Note(String),
}

impl Answer {
    /// One that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says one thing more.
    pub fn field(mut self, name: &'static str, cell: impl Into<Cell>) -> Self {
        self.parts.push(Part::Field(name, cell.into()));
        self
    }

    /// Has a table. People are not shown one without rows where the answer says something else.
    pub fn rows(mut self, name: &'static str, rows: Rows) -> Self {
        self.parts.push(Part::Rows(name, rows));
        self
    }

    /// Has an answer for each of several things.
    pub fn each(mut self, name: &'static str, answers: Vec<Answer>) -> Self {
        self.parts.push(Part::Each(name, answers));
        self
    }

    /// A remark for people alone.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.parts.push(Part::Note(text.into()));
        self
    }

    /// One object.
    pub fn json(&self) -> Value {
        let mut fields = Map::new();
        for part in &self.parts {
            let (name, value) = match part {
                Part::Field(name, cell) => (name, cell.json()),
                Part::Rows(name, rows) => (name, rows.json()),
                Part::Each(name, answers) => (name, answers.iter().map(Self::json).collect()),
                Part::Note(_) => continue,
            };
            fields.insert((*name).to_owned(), value);
        }
        Value::Object(fields)
    }

    fn blocks(&self, blocks: &mut Vec<Block>) {
        let alone = self.parts.len() == 1;
        let mut fields = Vec::new();
        for part in &self.parts {
            if let Part::Field(name, cell) = part {
                fields.push((head(name), cell));
                continue;
            }
            Block::fields(&mut fields, blocks);
            match part {
                Part::Rows(_, rows) if alone || rows.len() > 0 => {
                    blocks.push(Block::Table(rows.table()));
                }
                Part::Each(_, answers) => answers.iter().for_each(|one| one.blocks(blocks)),
                Part::Note(text) => blocks.push(Block::Text(format!("{text}\n"))),
                Part::Rows(..) | Part::Field(..) => {}
            }
        }
        Block::fields(&mut fields, blocks);
    }
}

enum Block {
    Text(String),
    Table(Table),
}

impl Block {
    /// Fields that follow each other, with their values below each other.
    fn fields(fields: &mut Vec<(String, &Cell)>, blocks: &mut Vec<Self>) {
        let width = fields.iter().map(|(name, _)| name.len()).max();
        let Some(width) = width else { return };
        let mut text = String::new();
        for (name, cell) in fields.drain(..) {
            let _ = writeln!(text, "{name:width$}  {cell}");
        }
        blocks.push(Self::Text(text));
    }
}

/// `{}` is plain, `{:#}` with colours.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blocks = Vec::new();
        self.blocks(&mut blocks);
        for (number, block) in blocks.iter().enumerate() {
            if number > 0 {
                f.write_char('\n')?;
            }
            match block {
                Block::Text(text) => f.write_str(text)?,
                Block::Table(table) => table.fmt(f)?,
            }
        }
        Ok(())
    }
}

/// Where answers go, and how.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    terminal: bool,
    colours: bool,
}

impl Output {
    /// The standard output: colours on a terminal alone, and not if `NO_COLOR` is set.
    pub fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Self {
            json,
            terminal,
            colours: terminal && !plain,
        }
    }

    /// Whether a program reads it.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Says it, at once.
    pub fn show(self, answer: &Answer) -> Outcome {
        self.text(&if self.json {
            format!("{}\n", answer.json())
        } else if self.colours {
            format!("{answer:#}")
        } else {
            answer.to_string()
        })
    }

    /// Says this text.
    pub fn text(self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| Failure::from(format!("cannot write the answer: {error}")))
    }

    /// Says what is found now; with `every`, again and again: on a terminal in the same place, for
    /// programs a line each time.
    pub fn watch(
        self,
        every: Option<Duration>,
        mut look: impl FnMut() -> Outcome<Answer>,
    ) -> Outcome {
        loop {
            let answer = look()?;
            if every.is_some() {
                self.top_of_screen()?;
            }
            self.show(&answer)?;
            let Some(every) = every else { return Ok(()) };
            std::thread::sleep(every);
        }
    }

    /// Clears a terminal.
    pub fn top_of_screen(self) -> Outcome {
        if self.terminal && !self.json {
            self.text("\x1b[2J\x1b[H")?;
        }
        Ok(())
    }

    /// Shows what is about to be done, and asks whether to do it, unless that is sure.
    pub fn confirm(self, plan: &Answer, question: &str, sure: bool) -> Outcome {
        if sure {
            return Ok(());
        }
        self.show(plan)?;
        let refused = |text: &str| Err(Failure::new(Status::CommandLine, text));
        if self.json || !io::stdin().is_terminal() {
            return refused("nothing was changed: repeat with --yes to do it without a question");
        }
        eprint!("{question} [y/N] ");
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line);
        read.map_err(|error| format!("cannot read the answer: {error}"))?;
        if matches!(line.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::from("nothing was changed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Answer {
        let mut rows = Rows::of(&["topic", "first_offset", "behind_ms", "isr"]);
        rows.add([
            "t".into(),
            3.into(),
            Cell::Span(61_000),
            [1, 2].into_iter().collect(),
        ]);
        rows.add([
            "u".into(),
            Cell::Null,
            Cell::Null,
            Cell::List(Vec::new()).alarm(true),
        ]);
        Answer::new()
            .field("cluster_id", "c")
            .field("size", Cell::Bytes(3 << 20))
            .rows("topics", rows)
            .rows("none", Rows::of(&["x"]))
            .note("that is all")
    }

    #[test]
    fn people_get_tables() {
        assert_eq!(
            example().to_string(),
            "cluster-id  c\nsize        3.0 MiB\n\n\
             TOPIC  FIRST-OFFSET  BEHIND  ISR\nt      3             1m01s   1,2\n\
             u      -             -       -\n\nthat is all\n"
        );
    }

    #[test]
    fn programs_get_one_object() {
        assert_eq!(
            example().json().to_string(),
            r#"{"cluster_id":"c","size":3145728,"topics":[{"topic":"t","first_offset":3,"behind_ms":61000,"isr":[1,2]},"#
                .to_owned()
                + r#"{"topic":"u","first_offset":null,"behind_ms":null,"isr":[]}],"none":[]}"#
        );
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        assert!(!example().to_string().contains('\x1b'));
        assert!(format!("{:#}", example()).contains('\x1b'));
    }

    #[test]
    fn a_table_alone_has_a_head_without_rows() {
        let none = Answer::new().rows("topics", Rows::of(&["topic", "partitions"]));
        assert_eq!(none.to_string(), "TOPIC  PARTITIONS\n");
    }

    #[test]
    fn what_clients_choose_does_not_reach_the_terminal() {
        let evil = Cell::from("a\x1b[2Jb\nc");
        assert_eq!(evil.to_string(), "a\\u{1b}[2Jb c");
        assert_eq!(evil.json(), Value::from("a\x1b[2Jb\nc"));
    }

    #[test]
    fn bytes_have_units() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(with_unit(bytes), text);
        }
    }
}
