//! Aligned columns for terminals, plain words for scripts.

use std::fmt;

/// Rows under a head; every column is as wide as its widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<(String, bool)>>,
}

/// How a terminal shows heads, what somebody should look at, and everything else.
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

impl Table {
    /// A table of these columns.
    pub fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of one cell per column, and whether each is something to look at.
    pub fn row(&mut self, cells: impl IntoIterator<Item = (String, bool)>) {
        self.rows.push(cells.into_iter().collect());
        debug_assert_eq!(self.rows.last().map(Vec::len), Some(self.head.len()));
    }

    /// Adds a row in which there is nothing to look at.
    pub fn plain_row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.row(cells.into_iter().map(|cell| (cell, false)));
    }
}

/// `{}` is plain, `{:#}` with colours.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| &row[column].0);
            cells
                .chain(self.head.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &mut dyn Iterator<Item = (&str, &str)>| {
            let mut due = 0;
            for ((cell, colour), width) in cells.zip(&widths) {
                write!(f, "{:due$}", "")?;
                if f.alternate() && !colour.is_empty() {
                    write!(f, "{colour}{cell}{PLAIN}")?;
                } else {
                    f.write_str(cell)?;
                }
                due = 2 + width - cell.chars().count();
            }
            writeln!(f)
        };
        line(f, &mut self.head.iter().map(|name| (name.as_str(), BOLD)))?;
        for row in &self.rows {
            let cells = row.iter();
            let mut cells =
                cells.map(|(cell, alarm)| (cell.as_str(), if *alarm { RED } else { "" }));
            line(f, &mut cells)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["NAME", "N"]);
        table.row([("a".into(), false), ("10".into(), true)]);
        table.plain_row(["longer".into(), "-".into()]);
        assert_eq!(table.to_string(), "NAME    N\na       10\nlonger  -\n");
        assert_eq!(
            format!("{table:#}"),
            "\x1b[1mNAME\x1b[0m    \x1b[1mN\x1b[0m\na       \x1b[31m10\x1b[0m\nlonger  -\n"
        );
    }
}
