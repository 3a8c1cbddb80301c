//! Aligned columns for terminals, plain words for scripts.

use std::fmt;

/// Rows under a head; every column is as wide as its widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns.
    pub fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of one cell per column; an empty cell is shown as `-`, so that columns can be
    /// told apart by `awk`.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells
            .into_iter()
            .map(|cell| if cell.is_empty() { "-".into() } else { cell });
        self.rows.push(cells.collect());
        debug_assert_eq!(self.rows.last().map(Vec::len), Some(self.head.len()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .fold(self.head[column].len(), usize::max)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let head: Vec<String> = self.head.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Numbers, comma-separated.
pub fn list(numbers: &[i32]) -> String {
    numbers
        .iter()
        .map(i32::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["a".into(), "10".into()]);
        table.row(["longer".into(), String::new()]);
        assert_eq!(table.to_string(), "NAME    N\na       10\nlonger  -\n");
        assert_eq!(list(&[1, 2]), "1,2");
    }
}
