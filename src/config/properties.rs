//! A reader of Java's properties format, as far as `server.properties` uses it:
//! comments, `key=value`, `key:value` or `key value`, continued lines, escapes.

/// Line number, from 1, key, value.
pub(super) type Line = (usize, String, String);

/// Reads a text into its lines, in order; the same key may come twice.
///
/// # Errors
/// Line number, from 1, and what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut line = first.to_owned();
        while continues(&line) {
            line.pop();
            match lines.next() {
                Some((_, next)) => line.push_str(next.trim_start()),
                None => break,
            }
        }
        let (key, value) = pair(&line).map_err(|why| (index + 1, why))?;
        pairs.push((index + 1, key, value));
    }
    Ok(pairs)
}

/// Whether a line ends in a backslash that is not itself escaped.
fn continues(line: &str) -> bool {
    let backslashes = line.chars().rev().take_while(|c| *c == '\\').count();
    backslashes % 2 == 1
}

fn pair(line: &str) -> Result<(String, String), String> {
    let end = key_end(line);
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    Ok((unescape(key)?, unescape(value.trim())?))
}

/// Byte position of the first separator that is not escaped.
fn key_end(line: &str) -> usize {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '=' | ':' | ' ' | '\t' => return at,
            _ => {}
        }
    }
    line.len()
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        plain.push(match chars.next() {
            Some('t') => '\t',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('f') => '\u{c}',
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                u32::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 4)
                    .and_then(char::from_u32)
                    .ok_or_else(|| format!("\\u{digits} is no character"))?
            }
            Some(other) => other,
            None => break,
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let lines = parse(text).unwrap();
        lines
            .into_iter()
            .map(|(_, key, value)| (key, value))
            .collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn separators_and_comments() {
        let text = "# c\n! c\n\n a=1\nb: 2\nc 3\nd\ne = x=y # not a comment \r\n";
        let want = [
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d", ""),
            ("e", "x=y # not a comment"),
        ];
        assert_eq!(read(text), owned(&want));
    }

    #[test]
    fn continued_lines_and_escapes() {
        let text = "listeners=A://:1,\\\n   B://:2\npath=C:\\\\dir\\u0041\nk\\ ey=v";
        let want = [
            ("listeners", "A://:1,B://:2"),
            ("path", "C:\\dirA"),
            ("k ey", "v"),
        ];
        assert_eq!(read(text), owned(&want));
    }

    #[test]
    fn lines_are_numbered_as_an_editor_does() {
        let lines = parse("# c\na=1\\\n2\n\nb=3\n").unwrap();
        let numbers: Vec<_> = lines.iter().map(|(number, ..)| *number).collect();
        assert_eq!(numbers, [2, 5]);
    }

    #[test]
    fn bad_escape_names_its_line() {
        assert_eq!(parse("a=1\nb=\\u00").unwrap_err().0, 2);
        assert_eq!(read("a=x\\"), owned(&[("a", "x")]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text: String) {
            let _ = parse(&text);
        }
    }
}
