//! What people and programs read: aligned tables, colour only where it helps, JSON where it was asked for.
//!
//! Text that came from a skill, a model or the network passes through `core::text::printable` here, so it can never
//! steer a terminal. Nothing here decides anything. Used by every command.

use chimera_core::text::{is_printable, printable};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Whether a command prints for people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tables and sentences.
    Human,
    /// One JSON value.
    Json,
}

/// Colours, or none: only on a terminal, and never against `NO_COLOR`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    is_coloured: bool,
}

impl Style {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self { is_coloured: std::io::stdout().is_terminal() && wants_colour() }
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        Self { is_coloured: std::io::stderr().is_terminal() && wants_colour() }
    }

    /// Without colours.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { is_coloured: false }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// For headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what matters less.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// For what went wrong.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// For what went well.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what waits.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// A state's name in the colour of what it means.
    pub(crate) fn state(self, state: &str) -> String {
        match state {
            "approved" | "completed" | "done" | "active" | "applied" | "ok" | "approve" => self.green(state),
            "failed" | "rejected" | "suspended" | "revoked" | "reject" => self.red(state),
            "awaiting_approval" | "retry_wait" | "open" | "awaiting-consent" | "escalate" => self.yellow(state),
            _ => state.to_owned(),
        }
    }
}

fn wants_colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Rows of cells, printed in aligned columns.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Longest cell that is printed whole, in characters.
const MAX_CELL: usize = 90;

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; every cell becomes one printable line.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(cell.as_ref(), MAX_CELL)).collect());
    }

    /// Is there nothing to show?
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, one line a row, with a final newline. Column `state` is coloured by what it says.
    pub(crate) fn render(&self, style: Style) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row.get(column).map_or(0, |cell| cell.chars().count()))
                .chain(self.head.get(column).map(|name| name.chars().count()))
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        let mut line = |cells: &[String], is_head: bool| {
            for (column, cell) in cells.iter().enumerate().take(widths.len()) {
                let is_last = column + 1 == widths.len();
                let gap = if is_last { 0 } else { widths[column].saturating_sub(cell.chars().count()) + 2 };
                let shown = match (is_head, self.head.get(column).map(String::as_str)) {
                    (true, _) => style.bold(cell),
                    (false, Some("STATE" | "STATUS" | "VERDICT" | "RESULT")) => style.state(cell),
                    _ => cell.clone(),
                };
                text.push_str(&shown);
                text.push_str(&" ".repeat(gap));
            }
            while text.ends_with(' ') {
                text.pop();
            }
            text.push('\n');
        };
        line(&self.head, true);
        for row in &self.rows {
            line(row, false);
        }
        text
    }

    /// Prints the table, or a sentence when there is nothing in it.
    pub(crate) fn print(&self, if_empty: &str) {
        if self.is_empty() {
            say(if_empty);
        } else {
            write_out(&self.render(Style::stdout()));
        }
    }
}

/// A hostile text as one printable line of at most `max` characters.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut line: String = printable(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > max {
        line = line.chars().take(max.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

/// Prints a line to standard output; a reader that went away is no error.
pub(crate) fn say(line: &str) {
    write_out(line);
    write_out("\n");
}

/// Prints a line to standard error, where everything goes that is not the command's result.
pub(crate) fn tell(line: &str) {
    let mut out = std::io::stderr().lock();
    // Nobody to tell is no reason to stop.
    let _ = writeln!(out, "{line}");
}

fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    // `chimera … | head` closes the pipe: there is nobody left to tell.
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Prints a value as indented JSON.
pub(crate) fn print_json(value: &Value) {
    say(&pretty(value));
}

/// A value as indented JSON in which whatever could steer a terminal, or show something else than is there, is written
/// as an escape: the same value, safe to read.
pub(crate) fn pretty(value: &Value) -> String {
    let json = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    if json.chars().all(|c| c == '\n' || is_printable(c)) {
        return json;
    }
    // Outside of texts JSON has none of them. What lies beyond the basic plane is two escapes (RFC 8259, section 7).
    json.chars().fold(String::with_capacity(json.len() + 64), |mut out, c| {
        if c == '\n' || is_printable(c) {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
        out
    })
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.0} KiB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", count as f64 / 1_073_741_824.0),
    }
}

/// A large count for people.
pub(crate) fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.0}k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}

/// A span for people.
pub(crate) fn span(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 { format!("{millis} ms") } else { format!("{:.2} s", duration.as_secs_f64()) }
}

/// A span given in milliseconds for people.
pub(crate) fn millis(count: u64) -> String {
    span(Duration::from_millis(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_end_without_spaces() {
        let mut table = Table::new(&["STEP", "STATE", "NOTE"]);
        table.row(["find-trends", "approved", "one"]);
        table.row(["draft", "awaiting_approval", ""]);
        let text = table.render(Style::plain());
        assert_eq!(
            text,
            "STEP         STATE              NOTE\nfind-trends  approved           one\ndraft        awaiting_approval\n"
        );
    }

    #[test]
    fn hostile_cells_cannot_steer_the_terminal() {
        let mut table = Table::new(&["NAME"]);
        table.row(["a\u{1b}[2Jb\nc\td"]);
        let text = table.render(Style::plain());
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn json_is_the_same_value_but_cannot_steer_the_terminal() {
        let value =
            serde_json::json!({ "a\u{9b}2J": ["\u{1b}[2J\u{7f}", "pay \u{202e}001\u{2066}", "\u{e0041}", "ü 👍\n"] });
        let text = pretty(&value);
        assert!(text.chars().all(|c| c == '\n' || is_printable(c)), "{text:?}");
        assert!(text.contains("\\u202e") && text.contains("\\udb40\\udc41") && text.contains("ü 👍"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("still JSON"), value);
    }

    #[test]
    fn long_cells_are_cut_at_a_character() {
        assert_eq!(one_line(&"ä".repeat(10), 5), "ääää…");
        assert_eq!(one_line("short", 5), "short");
    }

    #[test]
    fn numbers_are_read_by_people() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(3 << 20), "3.0 MiB");
        assert_eq!(count(9_999), "9999");
        assert_eq!(count(12_345_678), "12.3M");
        assert_eq!(millis(12), "12 ms");
        assert_eq!(millis(1_500), "1.50 s");
    }

    #[test]
    fn colour_is_only_painted_where_it_is_on() {
        assert_eq!(Style::plain().state("failed"), "failed");
        assert_eq!(Style { is_coloured: true }.state("failed"), "\u{1b}[31mfailed\u{1b}[0m");
    }
}
